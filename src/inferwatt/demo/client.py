"""A plain client of an OpenAI-compatible server: standard library only, streamed and not. It knows nothing of energy.

Framing is on bytes: a stream's events are cut where the bytes say so, and decoded only when whole.
"""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 120.0
_READ_BYTES = 65_536
_LARGEST_EVENT_BYTES = 1 << 20


class ServerRefused(Exception):
    """The server answered with something else than an answer."""


@dataclass(frozen=True, slots=True)
class Used:
    """What a client can know of its tokens; None is what it was not told."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a stream, or a whole answer: its id, whether it carried text, and the tokens up to here."""

    response_id: str
    has_text: bool
    used: Used


class Events:
    """Server-sent events out of a byte stream, however it is cut (one `data` field each, as this API sends them)."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of each event that became whole."""
        self._buffer += data.replace(b"\r", b"")
        *events, self._buffer = self._buffer.split(b"\n\n")
        if len(self._buffer) > _LARGEST_EVENT_BYTES:
            raise ServerRefused("an event without an end")
        lines = (line for event in events for line in event.split(b"\n"))
        return [line.removeprefix(b"data:").strip() for line in lines if line.startswith(b"data:")]


class Call:
    """One chat request on a connection of its own; `cut` may come from another thread."""

    def __init__(self, server: str, body: dict[str, Any]) -> None:
        place = urlsplit(server)
        self._connection = HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=TIMEOUT_SECONDS)
        self._body = body

    def tell(self) -> Iterator[Told]:
        """Send the request and yield what comes back, whole answer or stream, until its end.

        Raises:
            ServerRefused: the status is not 200, or the answer is none.
            OSError, http.client.HTTPException: the connection broke.
        """
        content = json.dumps(self._body).encode()
        self._connection.request("POST", "/v1/chat/completions", content, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise ServerRefused(f"status {answer.status}: {answer.read(500)!r}")
        if self._body.get("stream"):
            yield from _stream(answer)
        else:
            yield _told(_decode(answer.read()), "message")

    def cut(self) -> None:
        """Break the connection now, as a client that leaves does; the server notices at its next write."""
        if self._connection.sock is not None:
            try:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


def _stream(answer: HTTPResponse) -> Iterator[Told]:
    events = Events()
    while data := answer.read1(_READ_BYTES):
        for event in events.feed(data):
            if event == b"[DONE]":
                return
            yield _told(_decode(event), "delta")
    raise ServerRefused("a stream that stopped in the middle")


def _decode(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError as exc:
        raise ServerRefused(f"not JSON: {content[:100]!r}") from exc
    if not isinstance(document, dict):
        raise ServerRefused(f"not an answer: {content[:100]!r}")
    return document


def _told(document: dict[str, Any], field: str) -> Told:
    choices = document.get("choices") or [{}]
    text = (choices[0].get(field) or {}).get("content")
    return Told(str(document.get("id", "")), bool(text), _used(document))


def _used(document: dict[str, Any]) -> Used:
    """Return the tokens of an answer, or, from llama.cpp's `timings`, of a stream up to this event.

    `usage.prompt_tokens` is the whole prompt; `timings.prompt_n` is the part of it that was computed.
    """
    usage, timings = document.get("usage"), document.get("timings")
    if usage:
        details = usage.get("prompt_tokens_details") or {}
        return Used(usage.get("prompt_tokens"), details.get("cached_tokens"), usage.get("completion_tokens"))
    if timings:
        cached, computed = timings.get("cache_n"), timings.get("prompt_n")
        prompt = None if cached is None or computed is None else cached + computed
        return Used(prompt, cached, timings.get("predicted_n"))
    return Used()
