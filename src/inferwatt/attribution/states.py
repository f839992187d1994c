"""What the attributor keeps of each device, and what it gives out when ticks are closed. Pure."""

from collections import deque
from dataclasses import dataclass, field

from inferwatt.attribution.accounts import DeviceTotals, TickEnergy
from inferwatt.attribution.sharing import Power
from inferwatt.attribution.timeline import Tick, Timeline
from inferwatt.records import Device, Event, EventKind, Reading, Request, RequestEnergy


@dataclass(slots=True)
class DeviceState:
    """One device: its timeline, its power, its accounts and its open ticks."""

    device: Device
    timeline: Timeline
    power: Power
    totals: DeviceTotals
    slot_class: int
    pending: deque[Tick] = field(default_factory=deque)
    closed_ns: int = 0
    closed_counter_uj: int | None = None
    given_up_ns: int = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """What one call to `Attributor.advance` settled for good."""

    ticks: tuple[TickEnergy, ...]
    requests: tuple[tuple[Request, RequestEnergy], ...]
    late: int = 0
    """Requests that became final although a device of theirs had stopped answering."""


NOTHING = Closed((), ())


def moved_to(record: object) -> int | None:
    """Return the time to which a record moves the meter: a reading does, and a beat where no device is read."""
    if isinstance(record, Reading) or (isinstance(record, Event) and record.kind is EventKind.BEAT):
        return record.t_ns
    return None
