"""How a call ends before its answer does: its client leaves, or it takes too long."""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from inferwatt.gateway.answer import Refused

CONNECTION = "inferwatt.connection"
"""Where the server leaves the connection of a call (server.py)."""


class Connection(Protocol):
    """A client's connection: who is called when it is lost."""

    on_lost: Callable[[], None] | None


class Ending:
    """Ends the task of a call at once when its client leaves, or when it has taken too long."""

    def __init__(self, scope: Mapping[str, Any], seconds: float) -> None:
        self.has_left = False
        self.is_late = False
        self._connection: Connection = scope[CONNECTION]
        self._seconds = seconds

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._too_late)
        self._connection.on_lost = self._lost
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        self._connection.on_lost = None
        is_ours = kind is asyncio.CancelledError and (self.has_left or self.is_late)
        return is_ours and self._task.uncancel() == 0

    def _lost(self) -> None:
        self.has_left = True
        self._task.cancel()

    def _too_late(self) -> None:
        self.is_late = True
        self._task.cancel()


def refusal(exc: Exception) -> Refused:
    """Return what a client is told of a server that cannot be asked."""
    if isinstance(exc, TimeoutError):
        return Refused(504, "the server did not answer in time", "Ask again later.")
    return Refused(502, "the server cannot be reached", "Ask again later.")
