"""Servers that answer in ways that HTTP allows, or does not: what goes on, and that one answer is never another's."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from inferwatt.records import Outcome
from tests.gateway.conftest import Desk
from tests.gateway.processes import CHAT, Gateway, StandIn
from tests.gateway.test_limits import rss_bytes
from tests.gateway.test_streams import DONE, END, TOKEN

JSON = b"Content-Type: application/json\r\n"
GOOD = b'{"id":"x","usage":{"prompt_tokens":7,"completion_tokens":2}}'
PLAIN = b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD
CHUNKED = b"HTTP/1.1 200 OK\r\n" + JSON + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class RawServer:
    """Answers every call with the same bytes, whatever they are, and keeps its connections open."""

    def __init__(self) -> None:
        self.says = PLAIN
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._open):
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(1 << 16):
                if data.endswith(b"}"):  # the call's body is whole: it is small
                    connection.sendall(self.says)
        except OSError:
            return


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    """Return a server that says what it is told to."""
    with RawServer() as running:
        yield running


@pytest.fixture(scope="module")
def before_raw(folder: Path, raw: RawServer, desk: Desk) -> Iterator[Gateway]:
    """Return a gateway before it, which waits a moment for what does not come."""
    more = "[gateway.limits]\nsilent_seconds = 0.3\nretries = 0\n"
    with Gateway(folder / "raw", [raw.url], more, str(folder / "agent.sock")) as running:
        yield running


ALLOWED = {
    "early_hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + PLAIN,
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN,
    "trailers": CHUNKED + b"%x\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(GOOD), GOOD),
    "extensions_of_chunks": CHUNKED + b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_http_allows_is_passed_on(name: str, raw: RawServer, before_raw: Gateway, desk: Desk) -> None:
    """Interim answers and trailers end here; the body goes on, and its tokens are read."""
    raw.says = ALLOWED[name]

    answer = before_raw.ask({"model": "m"})
    record = desk.ended(answer.name)

    assert answer.status == 200
    assert answer.json()["id"] == "x"
    assert not {"link", "trailer", "x-sum"} & answer.headers.keys()
    assert (record.outcome, record.prompt_tokens, record.output_tokens) == (Outcome.FINISHED, 7, 2)


def test_an_answer_without_a_body_has_none(raw: RawServer, before_raw: Gateway) -> None:
    """A 204 goes on as it is; what a server sends behind it is no body, and not the next call's answer."""
    raw.says = b"HTTP/1.1 204 No Content\r\n" + JSON + b"\r\n"
    empty = before_raw.ask({"model": "m"})
    raw.says = b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"
    odd = before_raw.ask({"model": "m"})
    raw.says = PLAIN
    after = [before_raw.ask({"model": "m"}) for _ in range(3)]

    assert (empty.status, empty.body) == (204, b"")
    assert "content-length" not in empty.headers
    assert (odd.status, b"hello" in odd.body) == (502, False)
    assert [(one.status, one.json()["id"]) for one in after] == [(200, "x")] * 3


def test_what_stands_behind_an_answer_is_not_the_next_ones(raw: RawServer, before_raw: Gateway) -> None:
    """A server that says more than it announced has its connection closed: no client gets another's answer."""
    raw.says = PLAIN + PLAIN.replace(b'"x"', b'"y"')
    answers = [before_raw.ask({"model": "m"}) for _ in range(5)]

    assert [one.json()["id"] for one in answers] == ["x"] * 5


BROKEN = {
    "length_and_chunks": PLAIN.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n", 1),
    "two_lengths": PLAIN.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n", 1),
    "no_http": b"hello\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_could_be_read_in_two_ways_is_no_answer(name: str, raw: RawServer, before_raw: Gateway) -> None:
    """502, or 504 where nothing comes: the client hears that its server is the matter, and nothing hangs."""
    raw.says = BROKEN[name]

    assert before_raw.ask({"model": "m"}).status == (504 if name == "nothing" else 502)


def test_a_server_that_falls_silent_is_a_cut(raw: RawServer, before_raw: Gateway, desk: Desk) -> None:
    """After `silent_seconds` in the middle of a stream its client is let go, with the tokens so far on record."""
    events = (TOKEN + TOKEN).encode()
    raw.says = STREAM + b"%x\r\n%b\r\n" % (len(events), events)

    answer = before_raw.ask({"model": "m", "stream": True})
    record = desk.ended(answer.name)

    assert (answer.status, answer.is_whole, answer.body) == (200, False, events)
    assert (record.outcome, record.output_tokens) == (Outcome.FAILED, 2)


def test_a_stream_that_tells_no_usage_is_counted(gateway: Gateway, desk: Desk) -> None:
    """About a token an event; its prompt is not known."""
    answer = gateway.ask({"model": "m", "stream": True, "say": {"segments": [TOKEN, TOKEN, TOKEN, END, DONE]}})
    record = desk.ended(answer.name)

    assert (record.outcome, record.prompt_tokens, record.output_tokens) == (Outcome.FINISHED, None, 3)


def test_events_too_long_to_be_read_are_counted(gateway: Gateway) -> None:
    """They are passed on; how many there were stands in the health."""
    huge = 'data: {"text": "' + "x" * (3 << 20) + '"}\n\n'
    before = gateway.ask(b"", "/healthz", "GET").json()["counts"].get("unread_events", 0)
    gateway.ask({"model": "m", "stream": True, "say": {"segments": [huge, TOKEN, END, DONE]}})

    assert gateway.ask(b"", "/healthz", "GET").json()["counts"]["unread_events"] == before + 1


def test_only_the_body_of_a_head_is_missing(gateway: Gateway, server: StandIn) -> None:
    """HEAD on a call's path is no call; on the health it is its head."""
    calls = server.seen()["calls"]

    assert (gateway.ask(b"", CHAT, "HEAD").status, gateway.ask(b"", CHAT, "HEAD").body) == (404, b"")
    assert gateway.ask(b"", "/healthz", "HEAD").status == 200
    assert server.seen()["calls"] == calls


def test_thousands_of_idle_connections_cost_little(gateway: Gateway) -> None:
    """Each holds some kilobytes, and calls are answered beside them."""
    gateway.ask({"model": "m"})
    before = rss_bytes(gateway)
    idle = [socket.create_connection(("127.0.0.1", gateway.port), 5) for _ in range(3000)]
    try:
        assert gateway.ask({"model": "m"}).status == 200
        assert rss_bytes(gateway) - before < 3000 * 12_000
    finally:
        for one in idle:
            one.close()
