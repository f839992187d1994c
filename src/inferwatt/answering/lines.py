"""An answer of one JSON object a line, with the energy in the last: Ollama's own streams. Pure.

Lines go through as they came; only one that says that it is the last, `"done":true`, is read, and gets the object.
"""

import re
from dataclasses import replace

from inferwatt.answering import embed, usage
from inferwatt.answering.events import MOST_EVENT_BYTES
from inferwatt.answering.stream import Figure
from inferwatt.answering.usage import NOTHING

KIND = "application/x-ndjson"
_IS_LAST = re.compile(rb'"done"\s*:\s*true|\A\s*\{\s*"error"')


class Lines:
    """One answer in lines: bytes in as the server cut them, bytes out. It has what a `Stream` of events has.

    Args:
        figure: makes the object, when the last line is there.
        hides_usage, answers: not of this protocol: the usage is always told, of one answer.
    """

    def __init__(self, figure: Figure, *, hides_usage: bool = False, answers: int = 1) -> None:
        del hides_usage, answers
        self.used = NOTHING
        self.is_over = False
        """Whether its last line was seen: else it was cut."""
        self.events = 0
        """How many lines came before the last: about one a token."""
        self.too_long = 0
        self._figure = figure
        self._held = b""
        self._skipping = False

    def feed(self, data: bytes) -> bytes:
        """Return what goes out now: whole lines, and of one that is too long what there is."""
        whole, newline, rest = data.rpartition(b"\n")
        out = b""
        if newline:
            lines, self._held = (self._held + whole).split(b"\n"), rest
            out = b"".join(self._line(line + b"\n") for line in lines)
        else:
            self._held += data
        if len(self._held) > MOST_EVENT_BYTES:
            self.too_long += not self._skipping
            out, self._held, self._skipping = out + self._held, b"", True
        return out

    def end(self, *, was_cut: bool = False) -> bytes:
        """Return what is still held: a last line may have no end; one that was cut is no line."""
        held, self._held = self._held, b""
        return held if was_cut or not held else self._line(held)

    def _line(self, line: bytes) -> bytes:
        was_skipping, self._skipping = self._skipping, False
        if was_skipping or not _IS_LAST.search(line):
            self.events += bool(line.strip())
            return line
        told = usage.read(line)
        if not (told.is_last or told.failed):  # an answer's text may say so too
            self.events += 1
            return line
        self.used, self.is_over = replace(told, first_token_seconds=None), True  # its lines have shown when it came
        figure = self._figure(self.used)
        return line if figure is None or embed.own(line) is not None else embed.into_body(line, figure)
