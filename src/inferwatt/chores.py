"""What the desk does now and then, beside its work: the ledger loses what is old, what is learnt is kept."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from inferwatt.fits import read_fits, write_fits
from inferwatt.ledger.sqlite import Ledger
from inferwatt.records import Fit

_SECONDS = 600.0
_AGAIN_SECONDS = 1.0


class Chores:
    """The chores of an agent with a ledger in `folder`; one without has none."""

    def __init__(self, ledger: Ledger | None, folder: Path, learnt: Callable[[], Iterable[Fit]]) -> None:
        self._ledger = ledger
        self._folder = folder
        self._learnt = learnt
        self._prune_due = self._keep_due = time.monotonic() + _SECONDS

    def fits(self) -> tuple[Fit, ...]:
        """Return what was learnt another time."""
        return () if self._ledger is None else read_fits(self._folder)

    def do(self) -> None:
        """Do what is due.

        Raises:
            LedgerRetry: the ledger could not be pruned.
        """
        now = time.monotonic()
        if now > self._keep_due:
            self._keep_due = now + _SECONDS
            self.end()
        if self._ledger is not None and now > self._prune_due:
            more = self._ledger.prune().more
            self._prune_due = now + (_AGAIN_SECONDS if more else _SECONDS)

    def end(self) -> None:
        """Keep what is learnt by now."""
        if self._ledger is not None:
            write_fits(self._folder, self._learnt())
