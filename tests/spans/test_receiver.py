"""The receiver: who may hand in what, in which form, and what it answers. JSON here; protobuf by the real exporter."""

import asyncio
import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.engines.session import Incoming
from inferwatt.records import Request
from inferwatt.spans.genai import PRODUCER, Said
from inferwatt.spans.receiver import Receiver
from inferwatt.spans.settings import SpansConfig
from tests.desk import Desk as Kept

JSON = ("content-type", "application/json")
BODY_BYTES = 4096
NOW_NS = 1_544_712_700_000_000_000


def attribute(name: str, value: object) -> dict[str, object]:
    """Return an attribute as OTLP/JSON spells it: a 64-bit integer is text."""
    return {"key": name, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}


def body(**more: Any) -> bytes:
    """Return an ExportTraceServiceRequest with one call."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
    }
    span = {
        "traceId": "5B8EFFF798038103D269B633813FC60C",
        "spanId": "EEE19B7EC3C1B174",
        "name": "chat gpt-4o",
        "kind": 3,
        "startTimeUnixNano": "1544712660000000000",
        "endTimeUnixNano": "1544712661000000000",
        "attributes": [attribute(name, value) for name, value in attributes.items()],
        "status": {},
        **more,
    }
    return json.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}).encode()


class Desk:
    """What a receiver hands in; it may be full."""

    def __init__(self, *, is_full: bool = False, may_tell: bool = True) -> None:
        self.taken: list[Request] = []
        self.is_full = is_full
        config = SpansConfig(listen="127.0.0.1:4318", body_bytes=BODY_BYTES)
        self.receiver = Receiver(config, self.take, lambda: 0, lambda _scope: may_tell, lambda: NOW_NS)
        self.unread = 0

    def take(self, request: Request) -> None:
        """Take a record in."""
        if self.is_full:
            raise OverflowError
        self.taken.append(request)

    def post(
        self, data: bytes, *headers: tuple[str, str], path: str = "/v1/traces", method: str = "POST"
    ) -> tuple[int, bytes, dict[str, str]]:
        """Send a request; return status, body and headers of the answer."""
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in headers],
        }
        sent: list[Any] = []
        pieces = [data[start : start + 1024] for start in range(0, len(data), 1024)] or [b""]

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.receiver(scope, receive, send))
        self.unread = len(pieces)
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], sent[1]["body"], told


def test_json_is_taken() -> None:
    """An OTLP/JSON request is answered 200 with an empty object, and its call is a record."""
    desk = Desk()
    status, answer, headers = desk.post(body(), JSON)

    assert (status, answer, headers["content-type"]) == (200, b"{}", "application/json")
    (request,) = desk.taken
    assert (request.model, request.prompt_tokens, request.output_tokens) == ("gpt-4o", 100, 20)
    assert request.trace_id == "5b8efff798038103d269b633813fc60c"
    assert desk.receiver.counts == {Said.TAKEN: 1}


def test_gzip_is_taken_and_a_bomb_is_not() -> None:
    """What a compressed body holds has the limit of one that is not."""
    desk = Desk()

    assert desk.post(gzip.compress(body()), JSON, ("content-encoding", "gzip"))[0] == 200
    assert desk.post(gzip.compress(b" " * 10 * BODY_BYTES), JSON, ("content-encoding", " GZIP"))[0] == 413
    assert desk.post(b"no gzip", JSON, ("content-encoding", "gzip"))[0] == 400
    assert desk.post(gzip.compress(body())[:-9], JSON, ("content-encoding", "gzip"))[0] == 400
    assert len(desk.taken) == 1


def test_a_gzip_of_several_members_is_read_whole() -> None:
    """Collectors that join packed batches send such; a bomb may hide in a later one, and their number has a limit."""
    desk, whole, gz = Desk(), body(), ("content-encoding", "gzip")
    members = gzip.compress(whole[:100]) + gzip.compress(whole[100:])

    assert desk.post(members, JSON, gz)[0] == 200
    assert len(desk.taken) == 1
    assert desk.post(gzip.compress(b" ") + gzip.compress(b" " * 10 * BODY_BYTES), JSON, gz)[0] == 413
    assert desk.post(gzip.compress(b" ") * 100, JSON, gz)[0] == 400
    assert len(desk.taken) == 1


def test_of_a_body_without_length_no_more_is_read_than_allowed() -> None:
    """It is refused while it comes: what is beyond the limit stays unread."""
    desk = Desk()

    assert desk.post(b" " * 100 * BODY_BYTES, JSON)[0] == 413
    assert desk.unread > 90 * BODY_BYTES // 1024


@given(st.integers(0, len(body()) - 1), st.integers(0, 255))
def test_a_truncated_or_broken_body_commits_nothing_or_all(cut: int, wrong: int) -> None:
    """400 and no record, or 200 and one, wherever it was cut or changed: never a part, never an exception."""
    two = json.loads(body())
    two["resourceSpans"].append(json.loads(body(spanId="AAAAAAAAAAAAAAAA"))["resourceSpans"][0])
    whole = json.dumps(two).encode()
    for data in (whole[:cut], whole[:cut] + bytes([wrong]) + whole[cut + 1 :]):
        desk = Desk()
        status = desk.post(data, JSON)[0]

        assert (status, len(desk.taken)) == (400, 0) or status == 200


def test_a_batch_that_is_sent_twice_counts_once() -> None:
    """An exporter that got no answer sends it again: its call is one record, one estimate and one row."""
    desk, told = Desk(), Kept()
    for _ in range(2):
        assert desk.post(body(), JSON)[0] == 200
    for number, request in enumerate(desk.taken, 1):
        told.keeper.put(Incoming(PRODUCER, 0, number, replace(request, arrival_ns=told.now, end_ns=told.now), told.now))
    told.live(2)

    assert told.shown("inferwatt_estimated_requests_total") == {("gpt-4o", "openai", "finished"): 1}
    assert told.shown("inferwatt_records_dropped_total") == {("duplicate",): 1}
    assert len(told.disk.rows) == 1


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (404, {"path": "/v1/metrics"}),
        (405, {"method": "GET"}),
        (415, {"headers": [("content-type", "text/plain")]}),
        *(
            (415, {"headers": [JSON, ("content-encoding", coding)]})
            for coding in ("br", "zstd", "deflate", "gzip, br", "x")
        ),
        (403, {"headers": [JSON, ("sec-fetch-site", "cross-site")]}),
        (413, {"data": b" " * (BODY_BYTES + 1)}),
        (400, {"data": b"{"}),
        (400, {"data": b"[]"}),
        (400, {"data": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"spanId":"1"}]}]}]}'}),
        (400, {"data": b"[" * 4000}),
    ],
)
def test_what_is_not_taken(status: int, request_: dict[str, Any]) -> None:
    """A wrong path, method, form or size is refused with its status and a sentence, and hands nothing in."""
    desk = Desk()
    headers = request_.pop("headers", [JSON])
    told = desk.post(request_.pop("data", body()), *headers, **request_)

    assert told[0] == status
    assert len(json.loads(told[1])["message"]) > 8
    assert desk.taken == []


def test_a_stranger_hands_nothing_in() -> None:
    """Who may not see requests may not make any up."""
    desk = Desk(may_tell=False)

    assert desk.post(body(), JSON)[0] == 401
    assert desk.taken == []


def test_a_full_desk_is_said_as_such() -> None:
    """An exporter tries again later, as the specification asks of 503."""
    status, _, headers = Desk(is_full=True).post(body(), JSON)

    assert (status, headers["retry-after"]) == (503, "5")


def test_any_bytes_are_answered() -> None:
    """Attributes of other kinds are left out, a value that is none refuses the body: nothing is raised."""
    odd = [{"key": "a", "value": {"arrayValue": {"values": []}}}, {"key": "b", "value": {}}, {"key": "c"}]

    assert Desk().post(body(attributes=odd), JSON)[0] == 200
    assert Desk().post(body(attributes=[{"key": "a", "value": {"intValue": "x"}}]), JSON)[0] == 400
    assert Desk().post(body(attributes=7), JSON)[0] == 400
