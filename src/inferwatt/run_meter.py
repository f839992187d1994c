"""What `inferwatt run` measures: each device's joules in a window, and one command's share of them.

The share follows the rule of the attribution: what is above a device's baseline goes by CPU time among all that was
busy, and the baseline belongs to whoever held the capacity. With CPU time c of the command, o of everything else and
n CPUs over t seconds: share = (E - B) * c / (c + o) + B * c / (n * t). Where the baseline B of a device is not known
it lies between nothing and everything, and the share between E * c / (n * t) and E * c / (c + o): the bounds.
CPU time is exact for the command and for each descendant that it waited for; a daemon that it leaves behind counts
with the others.
"""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inferwatt.attribution.timeline import Timeline
from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Component, Device, Event, EventKind
from inferwatt.snapshot import Lack
from inferwatt.sources import Source, reading_in
from inferwatt.sources.modelled import BusyTime, PsutilTime
from inferwatt.sources.procfs import HostTime
from inferwatt.units import NS_PER_SECOND, UJ_PER_JOULE

CPU_SECOND_FACTOR = 2.0
"""A CPU-second of the command may cost half or twice what one of its neighbours costs (clock, SMT sibling, vector
units); nothing that every machine lets us read tells more. It is an assumption, and only widens the bounds."""

_HELD_BY_CPU_TIME = frozenset({Component.CPU, Component.DRAM})
_JOIN_SECONDS = 1.0
_COARSE_SECONDS = 0.2
"""Shorter windows hold fewer than twenty ticks of the host's CPU time, which comes in steps of 10 ms."""


@dataclass(frozen=True, slots=True)
class Share:
    """The command's part of one device's energy, joules; low and high bound the split, the sensor taken as true."""

    energy_joules: float
    low_joules: float
    high_joules: float


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """One device over the window: all its energy, and the command's share where that can be told."""

    device: Device
    energy_joules: float
    share: Share | None
    lost_reads: int


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU time in the window, seconds: the command's, everything's, and what there was."""

    command_seconds: float
    busy_seconds: float
    capacity_seconds: float


def share_of(device: Device, energy_joules: float, duration_seconds: float, cpu: CpuTimes) -> Share | None:
    """Return the command's share of `energy_joules`, or None where CPU time says nothing about the device."""
    if device.component not in _HELD_BY_CPU_TIME or cpu.capacity_seconds <= 0:
        return None
    held = min(1.0, cpu.command_seconds / cpu.capacity_seconds)
    others_seconds = max(0.0, cpu.busy_seconds - cpu.command_seconds)

    def split(baseline_joules: float, factor: float) -> float:
        weight = cpu.command_seconds * factor
        busy = weight / (weight + others_seconds) if weight > 0 else 0.0
        return (energy_joules - baseline_joules) * busy + baseline_joules * held

    known = device.idle_watts is not None
    baselines = (min(energy_joules, (device.idle_watts or 0.0) * duration_seconds),) if known else (0.0, energy_joules)
    energies = [split(baseline, 1.0) for baseline in baselines]
    bounds = [split(baseline, f) for baseline in baselines for f in (1 / CPU_SECOND_FACTOR, CPU_SECOND_FACTOR)]
    return Share(sum(energies) / len(energies), min(bounds), max(bounds))


def _host_time() -> BusyTime:
    if sys.platform == "linux":
        return HostTime("/proc")
    return PsutilTime()


class RunMeter:
    """Reads every source at the start and at the end of a window, and often enough between to see a counter wrap."""

    def __init__(self, sources: Sequence[Source], clock_ns: Callable[[], int], interval_seconds: float) -> None:
        self.lacks: list[Lack] = []
        self._live = list(sources)
        self._sources = list(sources)
        self._timelines = {source.device.device: Timeline(source.device) for source in sources}
        self._lost = dict.fromkeys(self._timelines, 0)
        self._clock_ns = clock_ns
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="inferwatt-run", daemon=True)
        self._host = _host_time()
        self._busy_ns = 0
        self._start_ns = 0

    def start(self) -> None:
        """Take the first reading of each device and begin to sample."""
        self._busy_ns = self._host.busy_ns()
        self._start_ns = self._clock_ns()
        self.poll()
        self._thread.start()

    def poll(self) -> None:
        """Read each device once; a failed read is counted, a device that is gone is dropped and named."""
        for source in list(self._live):
            name = source.device.device
            now_ns = self._clock_ns()
            try:
                reading = reading_in(source.read(now_ns))
                if reading is not None:
                    self._timelines[name].add(reading)
            except SourceRetry:
                self._lose(name, now_ns)
            except SourceGone as gone:
                self._live.remove(source)
                self.lacks.append(Lack(gone.what, gone.where, gone.fix))
            except Exception as exc:  # noqa: BLE001 - a driver must never end the command that is measured
                self._lose(name, now_ns)
                self._live.remove(source)
                self.lacks.append(Lack(f"{name} cannot be read: {exc!r}", type(source).__name__, "inferwatt sources"))

    def _lose(self, name: str, now_ns: int) -> None:
        self._lost[name] += 1
        self._timelines[name].failed(Event(now_ns, EventKind.READ_FAILURE, device=name))

    def _sample(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            self.poll()

    def stop(self, command_cpu_seconds: float) -> list[DeviceFigures]:
        """Take the last reading and return each device's figures; a device that hangs is left as it was read last."""
        self._stopping.set()
        self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive():
            self.poll()
        duration_seconds = (self._clock_ns() - self._start_ns) / NS_PER_SECOND
        if duration_seconds < _COARSE_SECONDS:
            what = f"a window of {duration_seconds:.3f} s is short beside the meter's steps: the figures are coarse"
            self.lacks.append(Lack(what, "inferwatt run", "measure a longer run, or many runs in one"))
        # The command's own time is exact, the host's comes in steps: a short command can seem to exceed it.
        busy_seconds = max((self._host.busy_ns() - self._busy_ns) / NS_PER_SECOND, command_cpu_seconds)
        cpu = CpuTimes(command_cpu_seconds, busy_seconds, (os.cpu_count() or 1) * duration_seconds)
        figures = [self._figures(source.device, duration_seconds, cpu) for source in self._sources]
        for source in self._sources:
            source.close()
        self._host.close()
        return [figure for figure in figures if figure is not None]

    def _figures(self, device: Device, duration_seconds: float, cpu: CpuTimes) -> DeviceFigures | None:
        timeline = self._timelines[device.device]
        if timeline.open_since_ns is None:  # never read: unknown, not zero
            return None
        energy_joules = timeline.measured_uj / UJ_PER_JOULE
        share = share_of(device, energy_joules, duration_seconds, cpu)
        return DeviceFigures(device, energy_joules, share, self._lost[device.device])
