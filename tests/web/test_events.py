"""The stream's events, by a real client on a real connection, and by their schema."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from inferwatt.snapshot import LiveView, RequestView
from inferwatt.web.events import USUAL_REQUESTS, Frames, Reader, Window, encode_view, schema
from tests.docs.documents import DOCS

from .running import BEARER, LIVE, REQUEST, STRANGER, Meter, a_snapshot, ask, running
from .running import Reader as Connection


def view(ended: int, kept: int = 500) -> LiveView:
    """Return a view after so many ended requests, the last of them kept, newest first."""
    names = range(ended, max(ended - kept, 0), -1)
    return replace(LIVE, requests=tuple(replace(REQUEST, request=f"r{name}") for name in names), requests_ended=ended)


def told(live: Sequence[LiveView], details: bool = True, last_event_id: str = "") -> list[list[str]]:
    """Return the ids that a reader is told at each view."""
    frames, newest = Frames(), list(live)
    frames.show(newest[0])
    reader = Reader(lambda: newest[0], frames, details, last_event_id)
    found = []
    while newest:
        frames.show(newest[0])
        found.append([line[4:].decode() for line in reader.next().splitlines() if line.startswith(b"id: ")])
        newest.pop(0)
    return found


def numbers(ids: Sequence[str]) -> list[int]:
    """Return the numbers of ids."""
    return [int(each.partition("-")[2]) for each in ids]


def test_a_client_gets_windows_and_each_request_once() -> None:
    """An event source has names, ids and data: the requests first, each once, then what stands."""
    meter = Meter(snapshot=a_snapshot(view(2)))
    with running(meter, STRANGER) as serving:
        reader = Connection(serving, BEARER)
        first = [reader.event() for _ in range(3)]
        meter.snapshot = a_snapshot(view(3))
        second = [reader.event() for _ in range(2)]
        reader.close()

    assert [(name, data.get("request")) for name, _, data in first] == [
        ("request", "r1"),
        ("request", "r2"),
        ("window", None),
    ]
    assert [(name, data.get("request")) for name, _, data in second] == [("request", "r3"), ("window", None)]
    assert numbers([at for _, at, _ in (*first, *second)]) == [1, 2, 2, 3, 3]
    assert first[2][2]["requests_ended"] == 2


def test_a_client_that_comes_again_goes_on_where_it_was() -> None:
    """`Last-Event-ID` is heeded: what it missed is told, and nothing twice."""
    meter = Meter(snapshot=a_snapshot(view(3)))
    with running(meter, STRANGER) as serving:
        reader = Connection(serving, BEARER)
        last = [reader.event() for _ in range(4)][-1][1]
        reader.close()
        meter.snapshot = a_snapshot(view(5))
        again = Connection(serving, {**BEARER, "Last-Event-ID": last})
        events = [again.event()]
        while events[-1][2].get("requests_ended") != 5:  # until the agent shows what is new
            events.append(again.event())
        again.close()

    assert [data["request"] for name, _, data in events if name == "request"] == ["r4", "r5"]


def test_a_stranger_sees_no_request_and_no_tenant() -> None:
    """Only sums, and that something was left out."""
    meter = Meter(snapshot=a_snapshot(view(2)))
    with running(meter, STRANGER) as serving:
        reader = Connection(serving)
        name, _, data = reader.event()
        reader.close()

    assert (name, data["tenants"], data["restricted"]) == ("window", [], True)
    assert "requests" not in data


def test_ids_tell_what_was_missed() -> None:
    """More at once than is kept: the newest are told, and their numbers show the gap."""
    ids = told([view(10, kept=5), view(30, kept=5)])

    assert numbers(ids[0]) == [6, 7, 8, 9, 10, 10]
    assert numbers(ids[1]) == [26, 27, 28, 29, 30, 30]


def test_a_new_reader_is_told_the_usual_ones() -> None:
    """Not all that is kept; one that knew another run of the agent, or sends nonsense, is a new one."""
    live = view(400)
    start = told([live])[0][0].partition("-")[0]

    assert numbers(told([live])[0])[0] == 400 - USUAL_REQUESTS + 1
    assert [len(told([live], last_event_id=last)[0]) for last in (f"{start}x-399", "nonsense", f"{start}--1", "-")] == [
        USUAL_REQUESTS + 1
    ] * 4
    assert numbers(told([live], last_event_id=f"{start}-399")[0]) == [400, 400]


def test_without_news_nothing_is_told() -> None:
    """The same view is told once."""
    live = view(1)

    assert [len(ids) for ids in told([live, live, view(1)])] == [2, 0, 1]


def test_the_schema_is_checked_in_and_served() -> None:
    """docs/live.schema.json is what the types say (`python docs/make_live_schema.py`), and what the agent gives."""
    stored = json.loads((DOCS / "live.schema.json").read_text(encoding="utf-8"))
    with running(Meter(), STRANGER) as serving:
        answer, body = ask(serving, "/v1/live/schema")

    assert stored == schema() == json.loads(body)
    assert answer.getheader("content-type") == "application/schema+json"


def test_what_is_sent_is_of_the_types_of_the_schema() -> None:
    """A strict reader of the types reads every event, and the snapshot is a window with its requests."""
    window: Any = json.loads(encode_view(view(1), details=True))
    requests = window.pop("requests")

    assert set(msgspec.to_builtins(msgspec.convert(window, Window))) == set(window)
    assert msgspec.convert(requests, list[RequestView])[0].request == "r1"
