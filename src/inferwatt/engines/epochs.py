"""One server's life by its pages: since when a page's counters count, and whether the same process answers. Pure.

A server that names its start in a header settles it. Else one that was away has been restarted, and its counters began
at zero after it was last seen away. A start that was seen before, or is earlier than the last one, is no restart: there
are several servers behind one address.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MOST_STARTS = 64


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a page is of: since when its growth was done (None: not known), and whose counters it shows."""

    since_ns: int | None
    is_new: bool = False
    is_restart: bool = False
    replicas: bool = False


class Epochs:
    """Tells restarts from absences and from replicas.

    Args:
        start_header: the header that names the start of the process; empty where the server has none.
    """

    def __init__(self, start_header: str) -> None:
        self._start_header = start_header
        self._start = ""
        self._earlier: list[str] = []
        self._page_ns: int | None = None
        self._away_ns: int | None = None

    def away(self, now_ns: int) -> None:
        """Take that no process with a loaded model was there."""
        self._away_ns = now_ns

    def page(self, headers: Mapping[str, str], now_ns: int) -> Epoch:
        """Take a page's headers, and say what the page is of."""
        before_ns, self._page_ns = self._page_ns, now_ns
        away_ns, self._away_ns = self._away_ns, None
        start = headers.get(self._start_header, "") if self._start_header else ""
        known, self._start = self._start, start or self._start
        has_changed = bool(known and start and start != known)
        if has_changed and away_ns is None and (start in self._earlier or _is_earlier(start, known)):
            return Epoch(before_ns, replicas=True)
        if has_changed:
            self._earlier = [*self._earlier, known][-MOST_STARTS:]
        if away_ns is None or (known and start == known):
            return Epoch(before_ns, has_changed, has_changed and before_ns is not None)
        return Epoch(away_ns, True, before_ns is not None)


def _is_earlier(start: str, known: str) -> bool:
    """Return whether one start was before another, as numbers; of other texts that is not known."""
    try:
        return float(start) < float(known)
    except ValueError:
        return False
