"""Asks without waiting for ever: a driver's first call may hang as any other.

Nothing in Python can end such a call, so it has a thread of its own, a daemon. What it brings after nobody waits any
more is handed to `too_late`, which closes it.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

PATIENCE_SECONDS = 60.0
"""Longer than a driver takes that is loaded for this call: half a minute on a machine with many GPUs."""

_T = TypeVar("_T")


class _Question(Generic[_T]):
    """One call, and what comes of it."""

    def __init__(self, call: Callable[[], _T], too_late: Callable[[_T], object]) -> None:
        self.failure: Exception = RuntimeError("it ended without an answer")
        self.answers: list[_T] = []
        self._call = call
        self._too_late = too_late
        self._lock = threading.Lock()
        self._is_awaited = True

    def ask(self) -> None:
        """Ask, in the thread."""
        try:
            answer = self._call()
        except Exception as exc:  # noqa: BLE001 - the border of the thread: raised where it is waited for
            self.failure = exc
            return
        with self._lock:
            if self._is_awaited:
                self.answers.append(answer)
                return
        with suppress(Exception):
            self._too_late(answer)

    def wait_no_more(self) -> None:
        """Take no answer from now on."""
        with self._lock:
            self._is_awaited = False


def answer_of(
    call: Callable[[], _T], *, too_late: Callable[[_T], object], patience_seconds: float = PATIENCE_SECONDS
) -> _T:
    """Return what `call` returns, or raise what it raises.

    Raises:
        TimeoutError: it has done neither for `patience_seconds`.
    """
    question = _Question(call, too_late)
    thread = threading.Thread(target=question.ask, name="inferwatt-asking", daemon=True)
    thread.start()
    thread.join(patience_seconds)
    question.wait_no_more()
    if question.answers:
        return question.answers[0]
    if thread.is_alive():
        raise TimeoutError(f"no answer within {patience_seconds:g} s: its driver hangs")
    raise question.failure
