"""What was told of an engine's work after its ticks were closed, until the ticks are corrected. Pure."""

from dataclasses import dataclass, field

from inferwatt.attribution.lives import Life
from inferwatt.attribution.work import StepRows
from inferwatt.units import NS_PER_SECOND

_PAUSE_NS = NS_PER_SECOND // 2
_MOST_WAIT_NS = 3 * NS_PER_SECOND
"""Late words come in a burst: a tick is shared among all of them once they pause, or after so long."""


@dataclass(slots=True)
class Latecomers:
    """Steps, and lives where steps are not known, that no tick has seen in full."""

    steps: list[StepRows] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    _seen: int = 0
    _first_ns: int = 0
    _due_ns: int = 0

    def __bool__(self) -> bool:
        return bool(self.steps or self.lives)

    def are_due(self, now_ns: int, *, last: bool) -> bool:
        """Return whether it is time to correct ticks for them."""
        count = len(self.steps) + len(self.lives)
        if count > self._seen:
            self._first_ns = self._first_ns if self._seen else now_ns
            self._seen, self._due_ns = count, min(now_ns + _PAUSE_NS, self._first_ns + _MOST_WAIT_NS)
        return count > 0 and (last or now_ns >= self._due_ns)
