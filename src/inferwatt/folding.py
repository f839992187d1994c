"""Names that others choose (tenants, models), within a limit: the first ones are named, the rest are one. Pure.

A name once named stays named, after a restart too: a joule that moved from it to the fold would make a counter fall.
"""

from collections.abc import Callable, Iterable

from inferwatt.records import FOLDED_TENANT

FOLDED = FOLDED_TENANT
_FOLDED_REMEMBERED = 100
"""How many folded names are remembered for each that is named, so that one is counted once."""


class Names:
    """The names of one kind that are shown, at most `limit`; `on_fold` is called once for each that is not."""

    def __init__(self, limit: int, on_fold: Callable[[], object]) -> None:
        self._limit, self._on_fold = limit, on_fold
        self._named: set[str] = set()
        self._folded: set[str] = set()

    def restore(self, names: Iterable[str]) -> None:
        """Go on with the names of an earlier run, however many they were."""
        self._named.update(name for name in names if name not in ("", FOLDED))

    def shown(self, name: str) -> str:
        """Return the name as it is shown; what has no name keeps none."""
        if name in self._named or not name:
            return name
        if len(self._named) < self._limit:
            self._named.add(name)
            return name
        if name not in self._folded and len(self._folded) < _FOLDED_REMEMBERED * self._limit:
            self._folded.add(name)
            self._on_fold()
        return FOLDED
