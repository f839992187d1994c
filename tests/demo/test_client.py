"""The demo's client reads what the real server writes, however the bytes are cut."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.demo.client import Call, Events, ServerRefused, Told, Used
from tests.serving import serving

# llama.cpp b11549 by xllamacpp 2026.10.11549: POST /v1/chat/completions, stream, timings_per_token, include_usage.
CHUNK = {
    "choices": [{"finish_reason": None, "index": 0, "delta": {"content": "P"}}],
    "id": "chatcmpl-0w6i",
    "timings": {"cache_n": 58, "prompt_n": 1, "predicted_n": 2},
}
LAST = {
    "choices": [],
    "id": "chatcmpl-0w6i",
    "usage": {"completion_tokens": 4, "prompt_tokens": 59, "prompt_tokens_details": {"cached_tokens": 58}},
    "timings": {"cache_n": 58, "prompt_n": 1, "predicted_n": 4},
}
STREAM = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in (CHUNK, LAST)) + b"data: [DONE]\n\n"
WHOLE = {"choices": [{"message": {"content": "Paris, très bien"}}], "id": "chatcmpl-1", "usage": LAST["usage"]}


@contextmanager
def server(body: bytes, status: int = 200) -> Iterator[str]:
    """Serve one body to every POST; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with serving(Handler) as url:
        yield url


def ask(body: bytes, *, stream: bool, status: int = 200) -> list[Told]:
    """Return what a call tells of an answer."""
    with server(body, status) as address:
        call = Call(address, {"stream": stream})
        try:
            return list(call.tell())
        finally:
            call.close()


@given(st.lists(st.integers(0, len(STREAM)), max_size=20), st.booleans())
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int], with_returns: bool) -> None:
    """Wherever a stream is cut, inside a character or an end of line, the same events come out."""
    stream = STREAM.replace(b"\n", b"\r\n") if with_returns else STREAM
    places = [0, *sorted(cuts), len(stream)]
    events = Events()
    found = [event for start, end in itertools.pairwise(places) for event in events.feed(stream[start:end])]

    assert found == [json.dumps(CHUNK).encode(), json.dumps(LAST).encode(), b"[DONE]"]


def test_a_stream_tells_tokens_while_it_runs_and_at_its_end() -> None:
    """Cached and computed prompt tokens are summed from the timings; usage has the last word."""
    assert ask(STREAM, stream=True) == [
        Told("chatcmpl-0w6i", True, Used(59, 58, 2)),
        Told("chatcmpl-0w6i", False, Used(59, 58, 4)),
    ]


def test_a_whole_answer_tells_its_tokens() -> None:
    """An answer that is not streamed is one event."""
    assert ask(json.dumps(WHOLE).encode(), stream=False) == [Told("chatcmpl-1", True, Used(59, 58, 4))]


def test_what_is_not_told_is_unknown() -> None:
    """Without usage and timings tokens are None, not zero."""
    assert ask(b'{"choices": [{"message": {"content": "x"}}]}', stream=False) == [
        Told("", True, Used(None, None, None))
    ]


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b""])
def test_an_answer_that_is_none_is_refused(body: bytes) -> None:
    """Garbage is an error of the request, not of the client."""
    with pytest.raises(ServerRefused):
        ask(body, stream=False)


def test_another_status_is_refused() -> None:
    """A server that is loading or full is not an answer."""
    with pytest.raises(ServerRefused, match="status 503"):
        ask(b"{}", stream=False, status=503)


def test_a_stream_that_stops_in_the_middle_is_refused() -> None:
    """A server that dies mid-answer does not look like a finished request."""
    with pytest.raises(ServerRefused, match="stopped in the middle"):
        ask(STREAM[: len(STREAM) // 2], stream=True)
