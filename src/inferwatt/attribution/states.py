"""What the attributor keeps of each device, and what it gives out when ticks are closed. Pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from inferwatt.attribution.accounts import DeviceTotals, TickEnergy
from inferwatt.attribution.late import History
from inferwatt.attribution.overhead import Overhead
from inferwatt.attribution.power import Power
from inferwatt.attribution.timeline import Tick, Timeline
from inferwatt.records import Device, Event, EventKind, Reading, Request, RequestEnergy
from inferwatt.units import NS_PER_SECOND

_STALE_NS = 2 * NS_PER_SECOND


@dataclass(slots=True)
class DeviceState:
    """One device: its timeline, its power, its accounts and its open ticks."""

    device: Device
    timeline: Timeline
    power: Power
    totals: DeviceTotals
    slot_class: int
    overhead: Overhead | None = None
    """Set for what is shared by the energy of the other devices."""
    pending: deque[Tick] = field(default_factory=deque)
    history: History = field(default_factory=History)
    closed_ns: int = 0
    closed_counter_uj: int | None = None
    given_up_ns: int = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """What one call to `Attributor.advance` settled for good."""

    ticks: tuple[TickEnergy, ...]
    requests: tuple[tuple[Request, RequestEnergy], ...]
    corrections: tuple[TickEnergy, ...] = ()
    """What late work used of ticks that are closed: entries without energy that move it from accounts to requests."""
    corrected: tuple[tuple[Request, RequestEnergy], ...] = ()
    """Requests that were final before, and what they hold by the corrections."""
    late: int = 0
    """Requests that became final although a device of theirs had stopped answering."""


NOTHING = Closed((), ())


def moved_to(record: object) -> int | None:
    """Return the time to which a record moves the meter: a reading does, and a beat where no device is read."""
    if isinstance(record, Reading) or (isinstance(record, Event) and record.kind is EventKind.BEAT):
        return record.t_ns
    return None


def give_up(states: Sequence[DeviceState], closed_ns: int, due_ns: int) -> tuple[int, bool]:
    """Give up on devices that have not answered for two seconds, or two periods of the slowest.

    Return until when all that still count are closed, and whether one was given up on.
    """
    if closed_ns >= due_ns - _STALE_NS:
        return closed_ns, False
    periods_ns = [2 * round(max(state.timeline.period_ns, state.timeline.poll_ns)) for state in states]
    give_up_ns = due_ns - max([_STALE_NS, *periods_ns])
    for state in states:
        if state.closed_ns < give_up_ns:
            state.given_up_ns = give_up_ns
    return max(closed_ns, give_up_ns), closed_ns < give_up_ns
