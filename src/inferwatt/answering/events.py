"""Server-sent events on bytes, by the WHATWG standard: cut where they end, and otherwise left as they came. Pure.

Lines end by LF, CRLF or CR, events by a blank line, wherever the stream was split. The pieces joined are always the
bytes that came. The cost is linear: what was searched once is not searched again.
"""

import re

MOST_EVENT_BYTES = 1 << 20
"""An event beyond this is passed on in pieces that nobody reads."""

_BLANK = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class Framer:
    """Cuts a stream into events, each with the blank line that ends it.

    A CR that ends an event may be half of a CRLF: its LF then begins the next piece, where it means nothing.
    """

    def __init__(self, most_bytes: int = MOST_EVENT_BYTES) -> None:
        self.too_long = 0
        self._most = most_bytes
        self._held = bytearray()
        self._searched = 0
        self._skipping = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held: what comes next begins an event."""
        return not self._held and not self._skipping

    @property
    def held(self) -> bytes:
        """What came and is not whole."""
        return bytes(self._held)

    def feed(self, data: bytes) -> list[tuple[bytes, bool]]:
        """Return what is complete now: pieces, and whether each is a whole event that may be read."""
        self._held += data
        pieces: list[tuple[bytes, bool]] = []
        start = 0
        for end in self._ends():
            pieces.append((bytes(self._held[start:end]), not self._skipping))
            start, self._skipping = end, False
        if start:
            del self._held[:start]
        if len(self._held) > self._most:
            self._give_up(pieces)
        self._searched = max(len(self._held) - 3, 0)
        return pieces

    def _ends(self) -> list[int]:
        """Return where events end, in what was not searched yet."""
        if b"\r" in self._held:
            return [blank.end() for blank in _BLANK.finditer(self._held, self._searched)]
        ends, place = list[int](), self._held.find(b"\n\n", self._searched)
        while place >= 0:
            ends.append(place + 2)
            place = self._held.find(b"\n\n", place + 2)
        return ends

    def _give_up(self, pieces: list[tuple[bytes, bool]]) -> None:
        """Pass on an event that is too long, but for the bytes that may begin its end."""
        self.too_long += not self._skipping
        self._skipping = True
        pieces.append((bytes(self._held[:-3]), False))
        del self._held[:-3]

    def end(self) -> bytes:
        """Return what is left: by the standard an event without its blank line is none."""
        left, self._held, self._searched = bytes(self._held), bytearray(), 0
        return left


def data_of(event: bytes) -> bytes | None:
    """Return the data of one event, its lines joined by LF; None where it has none."""
    lines = _fields(event, b"data")
    return b"\n".join(lines) if lines else None


def kind_of(event: bytes) -> bytes:
    """Return the event's type; empty where it says none."""
    return next(reversed(_fields(event, b"event")), b"")


def _fields(event: bytes, name: bytes) -> list[bytes]:
    found = []
    for line in _LINE.split(event.removeprefix(_BOM)):
        field, colon, value = line.partition(b":")
        if field == name:
            found.append(value.removeprefix(b" ") if colon else b"")
    return found
