"""The wall clock beside the monotonic one: where rows are placed on it, and when it was set. Pure."""

from dataclasses import dataclass

from inferwatt.ledger.rows import ClockPair
from inferwatt.records import Event, EventKind
from inferwatt.units import NS_PER_SECOND

STEP_NS = NS_PER_SECOND
"""What differs by less is the wall clock's drift; by more somebody has set it."""


@dataclass(frozen=True, slots=True)
class Step:
    """The wall clock was set: the event, and the pair of times from then on."""

    event: Event
    pair: ClockPair


@dataclass(slots=True)
class Wall:
    """`offset_ns` is what the wall clock shows beyond the monotonic one; rows are placed by it."""

    offset_ns: int

    def look(self, now_ns: int, unix_ns: int) -> Step | None:
        """Follow the wall clock; return its step where it made one."""
        step_ns = unix_ns - now_ns - self.offset_ns
        self.offset_ns += step_ns
        if abs(step_ns) < STEP_NS:
            return None
        event = Event(now_ns, EventKind.CLOCK_STEP, detail=f"{step_ns / NS_PER_SECOND:+.3f} s")
        return Step(event, ClockPair(now_ns, unix_ns, "clock_step"))
