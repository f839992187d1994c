"""One call from its start to its end, whatever library makes it.

Nothing here may raise into the host: each step is a border with a counter.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from inferwatt.answering.usage import NOTHING
from inferwatt.clients import reading, telling
from inferwatt.clients.border import guarded
from inferwatt.clients.calls import CallEnergy, blocks, end_what_is_left, left
from inferwatt.records import Outcome

inside: ContextVar[bool] = ContextVar("inferwatt_inside", default=False)
"""Whether a call is being made already: a library that uses another is counted once."""

instrumented: set[str] = set()
"""Libraries whose calls are counted: who wraps our function may hold on to it when it is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a call before it is made. `host` is where it goes, as far as the library says."""

    library: str
    model: str
    host: str = ""
    provider: str = ""


class Call:
    """One call. It ends once; what comes after its end is ignored."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.started_ns = time.monotonic_ns()
        self.first_ns: int | None = None
        self.used = NOTHING
        self.figure: Any = None
        self.pieces = 0
        self.blocks = blocks.get()
        self.span = guarded("the span around a call", telling.current_span)
        self.ended: list[CallEnergy] = []
        self._is_open = True

    def see(self, answer: object) -> None:
        """Take an answer, or what one piece of it says."""
        guarded("an answer", self._see, answer)

    def _see(self, answer: object) -> None:
        self.used = self.used.then(reading.read(answer))
        self.figure = reading.figure(answer) or self.figure

    def piece(self, piece: object) -> None:
        """Take one piece of a stream."""
        if self._is_open:
            if self.first_ns is None:
                self.first_ns = time.monotonic_ns()
            self.pieces += bool(guarded("an answer", reading.is_output, piece))
            self.see(piece)

    def end(self, outcome: Outcome | None = None) -> None:
        """End it: `finished`, unless its answer said that it failed."""
        if self._is_open:
            self._is_open = False
            guarded("the end of a call", self._end, outcome)

    def _end(self, outcome: Outcome | None) -> None:
        outcome = outcome or (Outcome.FAILED if self.used.failed else Outcome.FINISHED)
        end_ns = time.monotonic_ns()
        took = telling.what_it_took(self, outcome, end_ns)
        self.ended.append(took)
        for block in self.blocks:
            block.made.append(took)
        guarded("the span around a call", telling.tell_span, self.span, took)
        guarded("the agent's socket", telling.tell_agent, self, took, end_ns)

    def fail(self, exc: BaseException) -> None:
        """End it by an exception: what is no `Exception` (cancellation, Ctrl-C) aborts it."""
        self.end(Outcome.FAILED if isinstance(exc, Exception) else Outcome.ABORTED)

    def abort(self) -> None:
        """End it because nobody wants the rest."""
        self.end(Outcome.ABORTED)

    def leave(self) -> None:
        """Let it be aborted soon. This may run in the garbage collector, where no lock can be taken."""
        if self._is_open:
            left.append(self.abort)


def begun(ask: Callable[..., Asked | None], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """Return the call that begins; None where it is none, or part of another."""
    end_what_is_left()
    if inside.get():
        return None
    asked = guarded("what is asked", lambda: ask(*args, **kwargs))
    if asked is None or asked.library not in instrumented:
        return None
    call: Call | None = guarded("the start of a call", Call, asked)
    return call
