"""What the sources of this machine show while they are read for a moment: how often they move, and how many watts."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from inferwatt.attribution.timeline import Timeline
from inferwatt.clock import Clock, SystemClock
from inferwatt.records import Device, Event, EventKind, Reading
from inferwatt.sources import Emitted, Source
from inferwatt.sources.sampler import Sampler, SamplingConfig
from inferwatt.units import NS_PER_SECOND

READS_HZ = 100.0
"""As fast as any source of ours can change, a counter of 1 ms aside."""
_WATCH_SECONDS = 0.1
_MOST_KEPT = 10_000
_GAP_FACTOR = 1.5
_MW_PER_WATT = 1000


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one device; what could not be seen in the time is None.

    `period_seconds` is the mean time between two changes; where `is_faster` every read brought another figure, and it
    is the time between reads: the device itself may be faster.
    """

    watts: float | None
    period_seconds: float | None
    is_faster: bool
    readings: int
    failures: int
    trouble: str = ""
    """What the last failure said; empty where there was none."""


class Trial:
    """One device, watched for a moment: feed it what the sampler says, then ask for what was seen."""

    def __init__(self, device: Device) -> None:
        self._timeline = Timeline(device)
        self._readings = self._changes = self._failures = 0
        self._energy_uj = self._elapsed_ns = 0
        self._trouble = ""
        self._last: Reading | None = None
        self._last_change_ns = 0
        self._between_ns: deque[int] = deque(maxlen=_MOST_KEPT)

    def take(self, record: Emitted) -> None:
        """Take what the sampler says of this device."""
        if isinstance(record, Reading):
            self._read(record)
        elif isinstance(record, Event) and record.kind in (EventKind.READ_FAILURE, EventKind.DEVICE_GONE):
            self._failures += 1
            self._trouble = record.detail
            self._timeline.failed(record)

    def _read(self, reading: Reading) -> None:
        tick = self._timeline.add(reading)
        last, self._last = self._last, reading
        self._readings += 1
        if last is None or (last.counter_uj, last.power_mw) == (reading.counter_uj, reading.power_mw):
            return
        self._changes += 1
        since_ns, self._last_change_ns = self._last_change_ns, reading.t_ns
        if self._changes == 1:
            return  # what came before it began before it was looked at
        self._between_ns.append(reading.t_ns - since_ns)
        if tick is not None:
            self._energy_uj += tick.energy_uj
            self._elapsed_ns += tick.elapsed_ns

    def seen(self) -> Seen:
        """Return what was seen so far."""
        period_ns = self._period_ns()
        return Seen(
            watts=self._watts(),
            period_seconds=None if period_ns is None else period_ns / NS_PER_SECOND,
            is_faster=self._changes == self._readings - 1,
            readings=self._readings,
            failures=self._failures,
            trouble=self._trouble,
        )

    def _period_ns(self) -> float | None:
        """Return the mean time between changes; a gap in which nothing was read, since another read hung, is none."""
        if not self._between_ns:
            return None
        usual_ns = median(self._between_ns)
        least_ns, most_ns = usual_ns / _GAP_FACTOR, usual_ns * _GAP_FACTOR
        return fmean(between_ns for between_ns in self._between_ns if least_ns <= between_ns <= most_ns)

    def _watts(self) -> float | None:
        if self._last is not None and self._last.power_mw is not None:
            return self._last.power_mw / _MW_PER_WATT
        return self._energy_uj * 1000 / self._elapsed_ns if self._elapsed_ns else None


def survey(sources: Sequence[Source], seconds: float, clock: Clock | None = None) -> dict[str, Seen]:
    """Read the sources for `seconds` and return what was seen, by device; they are closed then.

    A device whose read hangs is left behind, and the others are read on.
    """
    clock = clock or SystemClock()
    trials = {source.device.device: Trial(source.device) for source in sources}

    def take(record: Emitted) -> None:
        if record.device in trials:
            trials[record.device].take(record)

    sampler = Sampler(sources, None, clock, take, config=SamplingConfig(idle_hz=READS_HZ, active_hz=READS_HZ))
    until_ns = clock.monotonic_ns() + round(seconds * NS_PER_SECOND)
    sampler.start()
    try:
        while (left_ns := until_ns - clock.monotonic_ns()) > 0:
            threading.Event().wait(min(left_ns / NS_PER_SECOND, _WATCH_SECONDS))
            sampler.check(clock.monotonic_ns())
    finally:
        sampler.stop()
    return {device: trial.seen() for device, trial in trials.items()}
