"""The events of the live stream, and their schema: version 1, in which fields are added and never taken away.

`window` is what stands now, at most once a second; `request` is one ended request, told once, to whom it may be shown.
An event's id is the agent's start and how many requests had ended: ids of requests are consecutive, so that a reader
who comes again with `Last-Event-ID` goes on where it was, and sees by a gap that it missed some.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Final

import msgspec

from inferwatt.snapshot import LiveView, RequestView
from inferwatt.units import NS_PER_SECOND

VERSION: Final = 1
USUAL_REQUESTS: Final = 100
"""How many of the last requests a new reader is told, and a snapshot holds."""
_SHOWN: Final = tuple(each.name for each in fields(LiveView) if each.name != "requests")
_TYPES: Final[dict[str, Any]] = {each.name: each.type for each in fields(LiveView)}

Window: Any = msgspec.defstruct("Window", [*((name, _TYPES[name]) for name in _SHOWN), ("restricted", bool)])
"""A live view without its requests; `restricted` says that tenants and requests were left out."""


def encode_window(live: LiveView, *, details: bool) -> bytes:
    """Return a window as JSON, with what may be shown."""
    shown = {name: getattr(live, name) for name in _SHOWN}
    if not details:
        shown["tenants"] = ()
    return msgspec.json.encode(Window(**shown, restricted=not details))


def encode_view(live: LiveView, *, details: bool) -> bytes:
    """Return a window and the last requests as JSON, with what may be shown."""
    requests = live.requests[:USUAL_REQUESTS] if details else ()
    return encode_window(live, details=details)[:-1] + b',"requests":' + msgspec.json.encode(requests) + b"}"


def schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of what an event's data is: a window or a request."""
    references, parts = msgspec.json.schema_components((Window, RequestView), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"the live stream of inferwatt, version {VERSION}: data of the events window and request",
        "anyOf": list(references),
        "$defs": parts,
    }


class Frames:
    """The events, made once for all readers, of what is shown now and of the last requests."""

    def __init__(self) -> None:
        self._live: LiveView | None = None
        self._requests: deque[tuple[int, bytes]] = deque()
        self._windows: dict[bool, bytes] = {}

    def show(self, live: LiveView) -> None:
        """Take a newer view."""
        known = self._requests[-1][0] if self._requests else 0
        for number, view in _numbered(live):
            if number > known:
                self._requests.append((number, _event("request", _id(live, number), msgspec.json.encode(view))))
        while self._requests and self._requests[0][0] <= live.requests_ended - len(live.requests):
            self._requests.popleft()
        self._live, self._windows = live, {}

    def since(self, number: int, *, details: bool) -> bytes:
        """Return the requests after `number`, where they may be shown, and the window."""
        live = self._live
        if live is None:
            return b""
        window = self._windows.get(details)
        if window is None:
            window = _event("window", _id(live, live.requests_ended), encode_window(live, details=details))
            self._windows[details] = window
        if not details:
            return window
        return b"".join(frame for ended, frame in self._requests if ended > number) + window


class Reader:
    """One reader: how far it has been told. `newest` is what is shown, of which `frames` has the events."""

    def __init__(self, newest: Callable[[], LiveView], frames: Frames, details: bool, last_event_id: str) -> None:
        self._newest = newest
        self._frames = frames
        self._details = details
        self._last: LiveView | None = None
        live = newest()
        self._number = _number(live, last_event_id)

    def next(self) -> bytes:
        """Return the events since the last call; nothing where there are none."""
        live = self._newest()
        if live is self._last:
            return b""
        told = self._frames.since(self._number, details=self._details)
        self._last, self._number = live, live.requests_ended
        return told


def _numbered(live: LiveView) -> Iterator[tuple[int, RequestView]]:
    """Yield the kept requests, oldest first, each with how many had ended with it."""
    return enumerate(reversed(live.requests), live.requests_ended - len(live.requests) + 1)


def _id(live: LiveView, number: int) -> str:
    return f"{round(live.started_unix_seconds * NS_PER_SECOND):x}-{number}"


def _number(live: LiveView, last_event_id: str) -> int:
    """Return the number of the last request that a reader has; of a new one, that before the usual ones."""
    start, _, number = last_event_id.partition("-")
    if f"{start}-0" == _id(live, 0) and number.isascii() and number.isdigit() and len(number) < 16:
        return int(number)
    return live.requests_ended - USUAL_REQUESTS


def _event(name: str, number: str, data: bytes) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), number.encode(), data)
