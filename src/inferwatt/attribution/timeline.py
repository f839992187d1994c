"""From the polls of one device to ticks of energy: wrap, reset, stall and failed reads told apart, and counted. Pure.

A counter is polled faster than it moves, so only its changes are kept. A change is seen up to one poll late; where
the counter moves by a period of its own, the tick's end is placed by that period, within the poll that saw it.
Where power is polled faster than it is renewed, a value holds until the next, and is one tick.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto

from inferwatt.records import Device, Event, EventKind, Reading
from inferwatt.units import NS_PER_SECOND, PJ_PER_UJ, UJ_PER_JOULE

_SANE_WATTS = 100_000.0
"""No device that we know draws more than this; a faster counter has been reset (or is not one)."""
_PLAUSIBLE_FACTOR = 1.5
_STALL_NS = 2 * NS_PER_SECOND
_MAX_POWER_GAP_NS = 3 * NS_PER_SECOND
"""Power samples further apart than this are not joined by a line (InferenceX's maximal sample gap)."""
_MAX_POWER_POLLS = 3
_OVERDUE = 1.5
_OVERDUE_NS = NS_PER_SECOND // 4
"""Power that is not renewed for so many of its periods, or for so long, is taken to have stayed as it was."""
_EVERY_POLL_RATIO = 0.7
_MAX_MISSED = 3
_FIRST_CHANGES = 8
_ANCHORED_CHANGES = 2000
_POLL_GAIN = 0.1


class TickKind(Enum):
    """What is known of how a tick's energy came about."""

    NORMAL = auto()
    BRIDGED = auto()  # reads failed or were lost inside it: the counter's total is right, its course is not known
    RESET = auto()  # the counter began anew inside it: what it shows is a lower bound, of no known course


@dataclass(frozen=True, slots=True)
class Tick:
    """The energy that a device used from `t0_ns` to `t1_ns`, microjoules."""

    device: str
    t0_ns: int
    t1_ns: int
    energy_uj: int
    kind: TickKind = TickKind.NORMAL
    counter_uj: int | None = None
    """What the counter showed at its end; None where there is no counter."""
    window_ns: int = 0
    """Over how long before, what it shows is averaged."""

    @property
    def elapsed_ns(self) -> int:
        """How long the tick is, nanoseconds (> 0)."""
        return self.t1_ns - self.t0_ns

    def earlier(self, ns: int, window_ns: int = 0) -> "Tick":
        """Return this tick moved back in time; what it shows is averaged over a window before."""
        if not (ns or window_ns):
            return self
        return replace(self, t0_ns=self.t0_ns - ns, t1_ns=self.t1_ns - ns, window_ns=window_ns)

    def with_next(self, following: "Tick") -> "Tick":
        """Return this tick and the one that follows it as one."""
        energy_uj = self.energy_uj + following.energy_uj
        return Tick(self.device, self.t0_ns, following.t1_ns, energy_uj, self.kind, following.counter_uj)


class Timeline:
    """The ticks of one device, made from its readings in the order of time."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.events: list[Event] = []
        self.measured_uj = 0
        self.bridged_uj = 0
        """What of it was used in gaps: the total is right, its course is not known."""
        self._max_watts = device.max_watts or _SANE_WATTS
        self._bounded = device.max_watts is not None
        self._last: Reading | None = None
        self._tick_start_ns = 0
        self._period_ns = 0.0
        self._has_anchor = False
        self._anchor_ns = 0.0
        self._anchor_count = 0
        self._poll_ns = 0.0
        self._changed_ratio = 0.0
        self._polls = 0
        self._failed = False
        self._stalled = False
        self._rest_pj = 0
        self._held_pj = 0

    @property
    def period_ns(self) -> float:
        """The counter's own update period as seen so far, nanoseconds; 0 while unknown."""
        return self._period_ns

    @property
    def poll_ns(self) -> float:
        """The time between two polls as seen so far, nanoseconds; 0 while unknown."""
        return self._poll_ns

    @property
    def newest_ns(self) -> int:
        """When it was last read; 0 before."""
        return 0 if self._last is None else self._last.t_ns

    @property
    def open_since_ns(self) -> int | None:
        """Where the tick that is still open began; None before the first reading."""
        return None if self._last is None else self._tick_start_ns

    def take_events(self) -> list[Event]:
        """Return what was noticed since the last call."""
        events, self.events = self.events, []
        return events

    def failed(self, event: Event) -> None:
        """Note that a read failed: the next tick is bridged over the gap."""
        self._failed = True
        self.events.append(event)

    def add(self, reading: Reading) -> Tick | None:
        """Take one poll and return the tick that it ends, if it ends one."""
        last = self._last
        if last is None:
            self._last, self._tick_start_ns = reading, reading.t_ns
            return None
        if reading.t_ns <= last.t_ns:
            self._note(reading.t_ns, EventKind.LATE)
            return None
        if reading.counter_uj is None or last.counter_uj is None:
            return self._add_power(last, reading)
        return self._add_counter(last, last.counter_uj, reading, reading.counter_uj)

    def _note(self, t_ns: int, kind: EventKind) -> None:
        self.events.append(Event(t_ns, kind, device=self.device.device))

    def _add_counter(self, last: Reading, before_uj: int, reading: Reading, now_uj: int) -> Tick | None:
        poll_ns = reading.t_ns - last.t_ns
        lost = bool(self._poll_ns) and poll_ns > 2.5 * self._poll_ns and poll_ns > self._period_ns
        usual_ns = self._poll_ns or float(poll_ns)
        self._poll_ns = usual_ns + _POLL_GAIN * (min(poll_ns, 4 * usual_ns) - usual_ns)
        self._last = reading
        changed = now_uj != before_uj
        self._polls += 1
        self._changed_ratio += max(_POLL_GAIN, 1 / self._polls) * (changed - self._changed_ratio)
        if not changed:
            self._watch_for_stall(reading.t_ns)
            return None
        delta_uj, kind = self._difference(reading, now_uj - before_uj, now_uj, poll_ns)
        if kind is TickKind.NORMAL and (lost or self._failed or self._stalled):
            kind = TickKind.BRIDGED
        end_ns = reading.t_ns if kind is TickKind.RESET else self._place(last.t_ns, reading.t_ns)
        return self._tick(end_ns, delta_uj, kind, now_uj)

    def _watch_for_stall(self, t_ns: int) -> None:
        if not self._stalled and t_ns - self._tick_start_ns > max(_STALL_NS, 10 * self._period_ns):
            self._stalled = True
            self._note(t_ns, EventKind.STALL)

    def _difference(self, reading: Reading, delta_uj: int, now_uj: int, poll_ns: int) -> tuple[int, TickKind]:
        turn_uj = reading.wraps_at_uj
        if self._bounded and turn_uj and self._most_uj(poll_ns) >= turn_uj + delta_uj % turn_uj:
            # between two reads this far apart it may have gone round once more, unseen: a lower bound
            self._note(reading.t_ns, EventKind.RESET)
            return delta_uj % turn_uj, TickKind.RESET
        limit_uj = self._most_uj(reading.t_ns - self._tick_start_ns + self._poll_ns)
        if 0 < delta_uj <= limit_uj:
            return delta_uj, TickKind.NORMAL
        if delta_uj < 0 and reading.wraps_at_uj and delta_uj + reading.wraps_at_uj <= limit_uj:
            self._note(reading.t_ns, EventKind.WRAP)
            return delta_uj + reading.wraps_at_uj, TickKind.NORMAL
        self._note(reading.t_ns, EventKind.RESET)
        return (now_uj if 0 <= now_uj <= limit_uj else 0), TickKind.RESET

    def _most_uj(self, elapsed_ns: float) -> float:
        """Return the most energy that can have been used in this time."""
        return _PLAUSIBLE_FACTOR * self._max_watts * elapsed_ns / NS_PER_SECOND * UJ_PER_JOULE

    def _place(self, before_ns: int, seen_ns: int) -> int:
        """Return when the counter moved: after `before_ns`, where it had not, and not after `seen_ns`.

        Its period is learnt from how many changes there were since an anchor: the longer ago, the better.
        """
        if self._changed_ratio > _EVERY_POLL_RATIO:
            return seen_ns
        if self._period_ns:  # after a gap in the polls: it moved all the while, the last time within a period
            before_ns = max(before_ns, seen_ns - round(self._period_ns))
        middle_ns = (before_ns + seen_ns) / 2
        if not self._has_anchor:
            self._has_anchor, self._anchor_ns, self._anchor_count = True, middle_ns, 0
            return round(middle_ns)
        is_settled = self._anchor_count >= _FIRST_CHANGES
        count = max(1, round((middle_ns - self._tick_start_ns) / self._period_ns)) if is_settled else 1
        self._anchor_count += count
        self._period_ns = (middle_ns - self._anchor_ns) / self._anchor_count
        if count > _MAX_MISSED or self._anchor_count > _ANCHORED_CHANGES:
            self._has_anchor = False
        expected_ns = self._tick_start_ns + count * self._period_ns
        return round(min(max(expected_ns, before_ns + 1), seen_ns))

    def _tick(self, end_ns: int, energy_uj: int, kind: TickKind, counter_uj: int | None = None) -> Tick:
        start_ns = self._tick_start_ns
        tick = Tick(self.device.device, start_ns, max(end_ns, start_ns + 1), energy_uj, kind, counter_uj)
        if self._changed_ratio > _EVERY_POLL_RATIO and self._polls > _FIRST_CHANGES:
            self._period_ns = self._poll_ns
        self._tick_start_ns = tick.t1_ns
        self._failed = self._stalled = False
        self.measured_uj += energy_uj
        if kind is TickKind.BRIDGED:
            self.bridged_uj += energy_uj
        return tick

    def _add_power(self, last: Reading, reading: Reading) -> Tick | None:
        self._last = reading
        elapsed_ns = reading.t_ns - last.t_ns
        too_long = elapsed_ns > max(_MAX_POWER_GAP_NS, _MAX_POWER_POLLS * self._poll_ns)
        if reading.power_mw is None or last.power_mw is None or too_long:
            self._poll_ns = self._poll_ns or float(elapsed_ns)  # a slow meter is known as such from its second poll on
            held = self._close_held(last.t_ns) if self._held_pj else None
            self._tick_start_ns = reading.t_ns
            self._note(reading.t_ns, EventKind.READ_FAILURE)
            return held
        self._poll_ns = float(elapsed_ns)
        changed = reading.power_mw != last.power_mw
        self._polls += 1
        self._changed_ratio += max(_POLL_GAIN, 1 / self._polls) * (changed - self._changed_ratio)
        if self._polls <= _FIRST_CHANGES or self._changed_ratio > _EVERY_POLL_RATIO:
            self._held_pj += (last.power_mw + reading.power_mw) * elapsed_ns // 2
            return self._close_held(reading.t_ns)
        return self._hold_power(last, last.power_mw, reading, reading.power_mw)

    def _hold_power(self, last: Reading, before_mw: int, reading: Reading, now_mw: int) -> Tick | None:
        """Let a value hold until the next one, or until that is overdue."""
        if now_mw == before_mw:
            self._held_pj += before_mw * (reading.t_ns - last.t_ns)
            if reading.t_ns - self._tick_start_ns < min(_OVERDUE * (self._period_ns or _OVERDUE_NS), _OVERDUE_NS):
                return None
            self._has_anchor = False
            return self._close_held(reading.t_ns)
        end_ns = self._place(last.t_ns, reading.t_ns)
        self._held_pj += before_mw * (end_ns - last.t_ns)
        tick = self._close_held(end_ns)
        self._held_pj = now_mw * (reading.t_ns - end_ns)
        return tick

    def _close_held(self, end_ns: int) -> Tick:
        energy_uj, self._rest_pj = divmod(self._held_pj + self._rest_pj, PJ_PER_UJ)
        self._held_pj = 0
        return self._tick(end_ns, energy_uj, TickKind.BRIDGED if self._failed else TickKind.NORMAL)
