"""A stream of answers with the energy in its last data: passed on as it came, but for one object. Pure.

Only events that may be the last are looked at: whole events before the first sign of that go through uncut. One event
is kept at most: the one that ends an answer, until the next shows that it was the last (`[DONE]`, the usage).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from inferwatt.answering import embed, usage
from inferwatt.answering.events import Framer, data_of
from inferwatt.answering.usage import NOTHING, Used

Figure = Callable[[Used], Mapping[str, Any] | None]
"""Returns the object of an answer by what is known of its tokens; None: there is to be none."""

_SIGN = re.compile(
    rb'\[DONE\]|message_st|message_delta|response\.(?:created|completed|incomplete|failed)|"error"|\Aevent:\s*error'
    rb'|"(?:usage|finish_reason|stop_reason|generated_text|details|timings)"\s*:\s*["{]'
)
_PLAIN_SIGNS = (b"[DONE]", b'"timings"', b"error")
_ENDS = re.compile(rb'"finish_reason"\s*:\s*"')
_COUNTS = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_IS_LAST = re.compile(
    rb'"type"\s*:\s*"(?:message_stop|response\.(?:completed|incomplete|failed))"|"generated_text"\s*:\s*"'
)
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_DONE = b"[DONE]"


class Stream:
    """One streamed answer: bytes in as the server cut them, bytes out.

    Args:
        figure: makes the object, when the last data is there.
        hides_usage: the client did not ask for the usage that the server sends at the end.
        answers: how many answers were asked for (`n`).
    """

    def __init__(self, figure: Figure, *, hides_usage: bool = False, answers: int = 1) -> None:
        self.used = NOTHING
        self.is_over = False
        """Whether its last event was seen: else it was cut."""
        self.events = 0
        """How many events had data, as far as they were counted: about one a token."""
        self._figure, self._hides, self._answers = figure, hides_usage, answers
        self._framer = Framer()
        self._kept = b""
        self._ended = 0
        self._is_told = False
        self._own: Mapping[str, Any] | None = None
        """What the server itself has said of its joules, in the event that its client did not ask for."""

    @property
    def too_long(self) -> int:
        """How many events were too long to be read."""
        return self._framer.too_long

    @property
    def held(self) -> bytes:
        """What came and has not gone out."""
        return self._kept + self._framer.held

    def feed(self, data: bytes) -> bytes:
        """Return what goes out now."""
        out, start = b"", 0
        if not self._is_between:
            start = _first_end(data)
            out = self._framed(data[:start])
        if start < len(data) and self._is_between:
            plain = start + _plain(data[start:] if start else data)
            self.events += data.count(b"data:", start, plain)
            out, start = out + data[start:plain], plain
        return out + self._framed(data[start:]) if start < len(data) else out

    @property
    def _is_between(self) -> bool:
        """Whether the first event is known, and nothing is held: an event begins that may be like those before."""
        return bool(self.events) and not self._kept and self._framer.is_empty

    def _framed(self, data: bytes) -> bytes:
        return b"".join(
            [self._event(piece) if whole else self._flush() + piece for piece, whole in self._framer.feed(data)]
        )

    def end(self, *, was_cut: bool = False) -> bytes:
        """Return what is still held; a stream that was cut gets no figure."""
        kept = self._flush() if was_cut or self._is_told else self._last()
        return kept + self._framer.end()

    def _flush(self) -> bytes:
        kept, self._kept = self._kept, b""
        return kept

    def _event(self, event: bytes) -> bytes:
        data = data_of(event)
        if data is None:  # a comment keeps the connection alive; it may stand after what is kept
            if self._kept:
                self._kept += event
                return b""
            return event
        if data.strip() == _DONE:
            self.is_over = True
            return self._last() + event
        self.events += 1
        if self.events == 1 or _first_sign(event) < len(event):
            self.used = self.used.then(usage.read(data))
            return self._signed(event)
        return self._flush() + event

    def _signed(self, event: bytes) -> bytes:
        """Return what goes out for an event that may be among the last."""
        if _IS_LAST.search(event):
            self.is_over = True
            return self._flush() + self._tell(event)
        if _COUNTS.search(event) and _USAGE.search(event):
            if not self._hides:
                return self._flush() + self._tell(event)
            self._own = embed.own(data_of(event) or b"")
            return self._last()
        if _ENDS.search(event):
            self._ended += 1
            if self._ended >= self._answers:
                self.is_over = True
                out, self._kept = self._flush(), event
                return out
        return self._flush() + event

    def _last(self) -> bytes:
        """Return what is kept, which is the last data, with the object in it."""
        kept = self._flush()
        return self._tell(kept) if kept else kept

    def _tell(self, event: bytes) -> bytes:
        if self._is_told:
            return event
        self._is_told = True
        figure = self._own or self._figure(self.used)
        return event if figure is None else embed.into_event(event, figure)


def _first_end(data: bytes) -> int:
    """Return where the first event ends; the whole of it where that cannot be seen."""
    ends = [data.find(blank) + len(blank) for blank in (b"\n\n", b"\r\n\r\n") if blank in data]
    return min(ends, default=len(data))


def _plain(data: bytes) -> int:
    """Return how many bytes of whole events stand before the first that has a sign of the end."""
    end = _first_sign(data)
    blank = data.rfind(b"\n\n", 0, end)
    if blank < 0:
        blank = data.rfind(b"\r\n\r\n", 0, end) + 2
    return blank + 2 if blank > 1 else 0


def _first_sign(data: bytes) -> int:
    """Return where the first sign stands: in OpenAI's events by searches that begin with plain bytes: quick."""
    if b'"choices"' not in data:
        sign = _SIGN.search(data)
        return len(data) if sign is None else sign.start()
    places = [sign.start() for expression in (_ENDS, _USAGE) if (sign := expression.search(data)) is not None]
    places += [place for plain in _PLAIN_SIGNS if (place := data.find(plain)) >= 0]
    return min(places, default=len(data))
