import json
import socket
import threading

import pytest

from inferwatt.web import stream
from inferwatt.web.stream import Seats

from .running import BEARER, STRANGER, Meter, Reader, ask, running


def test_a_new_snapshot_is_pushed() -> None:
    """A reader gets the newest figures at once and each change after, without asking again."""
    meter = Meter()
    with running(meter, STRANGER) as serving:
        reader = Reader(serving)
        first = json.loads(reader.data())
        meter.show(99.5)
        second = json.loads(reader.data())
        reader.close()

    assert reader.answer.getheader("content-type") == "text/event-stream; charset=utf-8"
    assert first["devices"][0]["power_watts"] == 12.5
    assert second["devices"][0]["power_watts"] == 99.5


def test_without_news_a_comment_says_that_the_line_is_open() -> None:
    """A reader that is gone is noticed, and a proxy does not cut a quiet stream."""
    with running(Meter(), STRANGER) as serving:
        reader = Reader(serving)
        lines = [reader.data(), reader.line()]
        reader.close()

    assert lines[0].startswith(b"{")
    assert lines[1] == b": still here"


def test_readers_are_bounded_and_places_come_back() -> None:
    """A hundred strangers get half of the places; the rest hear when to come again, the owner still gets in."""
    with running(Meter(), STRANGER, seats=Seats(20)) as serving:
        readers = [Reader(serving) for _ in range(100)]
        statuses = [reader.answer.status for reader in readers]
        owner = Reader(serving, BEARER)
        for reader in readers:
            reader.close()
        again = Reader(serving)
        while again.answer.status != 200:  # the server sees that readers left when it next looks
            again.close()
            again = Reader(serving)
        again.close()
        owner.close()

    assert (statuses.count(200), statuses.count(503)) == (10, 90)
    assert owner.answer.status == 200
    assert readers[-1].answer.getheader("retry-after") == "5"


def test_a_reader_that_reads_nothing_holds_up_nobody() -> None:
    """While one reader's buffers are full the others get each change, and the server ends in time."""
    meter = Meter()
    meter.show(0.0, padding=1 << 20)
    with running(meter, STRANGER) as serving, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((serving.host, serving.port))
        slow.sendall(b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reader = Reader(serving)
        for watts in range(20):
            meter.show(float(watts), padding=1 << 18)
            while f'"power_watts":{watts}.0'.encode() not in (line := reader.data()):
                assert line
        assert ask(serving, "/healthz")[0].status == 200
        reader.close()


def test_a_reader_that_never_reads_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its buffers full, it is waited for so long and no longer; its place is free again, and the count says so."""
    monkeypatch.setattr(stream, "STUCK_SECONDS", 0.2)
    seats, meter = Seats(2), Meter()
    meter.show(0.0, padding=1 << 20)
    with running(meter, STRANGER, seats=seats) as serving, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((serving.host, serving.port))
        slow.sendall(b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for watts in range(1000):
            meter.show(float(watts), padding=1 << 20)
            if seats.dropped:
                break
            ask(serving, "/healthz")
            threading.Event().wait(0.01)

    assert (seats.dropped, seats.taken) == (1, {True: 0, False: 0})
