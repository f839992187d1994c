"""The command's share of a device's energy, and what a device that fails does to it."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Component, Device, Reading
from inferwatt.run_meter import CpuTimes, RunMeter, share_of
from inferwatt.testing import FakeClock

SECOND_NS = 1_000_000_000
CPU = Device("cpu", component=Component.CPU, domain="package")


class Counter:
    """A device whose counter goes through `values`, one a read; an exception among them is raised."""

    name = "counter"
    period_ns = 0

    def __init__(self, values: list[int | Exception], device: Device = CPU, wraps_at_uj: int | None = None) -> None:
        self.device = device
        self.closed = False
        self._values = values
        self._wraps_at_uj = wraps_at_uj

    def read(self, now_ns: int) -> Reading:
        """Return the next value, or raise it."""
        value = self._values.pop(0) if len(self._values) > 1 else self._values[0]
        if isinstance(value, Exception):
            raise value
        return Reading(now_ns, self.device.device, value, wraps_at_uj=self._wraps_at_uj)

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


def meter(*sources: Counter) -> tuple[RunMeter, FakeClock]:
    """Return a meter on a fake clock, whose own thread never reads."""
    clock = FakeClock()
    return RunMeter(sources, clock.monotonic_ns, interval_seconds=3600.0), clock


@given(
    energy_joules=st.floats(0, 1e6),
    idle_watts=st.none() | st.floats(0, 1000),
    duration_seconds=st.floats(0.001, 1e5),
    cpus=st.integers(1, 512),
    busy=st.floats(0, 1),
    own=st.floats(0, 1),
)
def test_the_share_lies_within_its_bounds_and_the_device(
    energy_joules: float, idle_watts: float | None, duration_seconds: float, cpus: int, busy: float, own: float
) -> None:
    """Whatever ran, 0 <= low <= share <= high <= the device's energy."""
    capacity_seconds = cpus * duration_seconds
    cpu = CpuTimes(capacity_seconds * busy * own, capacity_seconds * busy, capacity_seconds)
    share = share_of(
        Device("cpu", component=Component.CPU, idle_watts=idle_watts), energy_joules, duration_seconds, cpu
    )

    assert share is not None
    slack = 1e-9 * (1 + energy_joules)
    assert -slack <= share.low_joules <= share.energy_joules + slack
    assert share.energy_joules <= share.high_joules + slack
    assert share.high_joules <= energy_joules + slack


def test_baseline_goes_by_capacity_and_the_rest_by_cpu_time() -> None:
    """20 J in 2 s on 4 CPUs, 4 W idle, 2 of 3 busy CPU-seconds ours: 12 J * 2/3 + 8 J * 2/8."""
    share = share_of(Device("cpu", component=Component.CPU, idle_watts=4.0), 20.0, 2.0, CpuTimes(2.0, 3.0, 8.0))

    assert share is not None
    assert share.energy_joules == pytest.approx(12 * 2 / 3 + 8 * 2 / 8)


def test_alone_on_the_machine_all_dynamic_energy_is_the_commands() -> None:
    """With nobody else busy the split of what is above the baseline has no uncertainty."""
    share = share_of(Device("cpu", component=Component.CPU, idle_watts=4.0), 20.0, 2.0, CpuTimes(8.0, 8.0, 8.0))

    assert share is not None
    assert (share.low_joules, share.energy_joules, share.high_joules) == (20.0, 20.0, 20.0)


def test_what_cpu_time_says_nothing_about_has_no_share() -> None:
    """An accelerator's share is unknown, not zero."""
    assert share_of(Device("gpu-0"), 20.0, 2.0, CpuTimes(2.0, 2.0, 8.0)) is None


def test_a_counter_that_wraps_is_measured_through() -> None:
    """The energy of a window over a wrap is what was used, not the difference of two figures."""
    source = Counter([990_000, 5_000], wraps_at_uj=1_000_000)
    measuring, clock = meter(source)
    measuring.start()
    clock.advance(SECOND_NS)

    assert [figures.energy_joules for figures in measuring.stop(0.0)] == [0.015]
    assert source.closed


def test_a_device_that_is_gone_is_named_and_the_others_go_on() -> None:
    """One device's end costs its own figures after that, nothing else."""
    gone = Counter(
        [0, SourceGone("it is gone", where="gone", fix="plug it in")], device=Device("a", component=Component.CPU)
    )
    steady = Counter([0, 3_000_000], device=Device("b", component=Component.CPU))
    measuring, clock = meter(gone, steady)
    measuring.start()
    clock.advance(SECOND_NS)
    figures = measuring.stop(0.0)

    assert {one.device.device: one.energy_joules for one in figures} == {"a": 0.0, "b": 3.0}
    assert [(lack.what, lack.fix) for lack in measuring.lacks] == [("it is gone", "plug it in")]


def test_a_failed_read_is_counted_and_bridged() -> None:
    """A read that fails once loses no energy: the counter's next figure holds it."""
    source = Counter([0, SourceRetry("not now", where="x", fix="none"), 2_000_000])
    measuring, clock = meter(source)
    measuring.start()
    clock.advance(SECOND_NS)
    measuring.poll()
    clock.advance(SECOND_NS)
    (figures,) = measuring.stop(0.0)

    assert (figures.energy_joules, figures.lost_reads) == (2.0, 1)


def test_a_device_that_was_never_read_has_no_figures() -> None:
    """Unknown is absent, never zero."""
    measuring, clock = meter(Counter([RuntimeError("a driver's bug")]))
    measuring.start()
    clock.advance(SECOND_NS)

    assert measuring.stop(0.0) == []
    assert "a driver's bug" in measuring.lacks[0].what


def test_a_driver_that_hangs_holds_nothing_up() -> None:
    """A read that never returns leaves the figures up to it, and the end comes."""
    release = threading.Event()

    class Hangs(Counter):
        reads = 0

        def read(self, now_ns: int) -> Reading:
            self.reads += 1
            if self.reads > 2:
                release.wait()
            return super().read(now_ns)

    source = Hangs([0, 1_000_000])
    measuring = RunMeter([source], time.monotonic_ns, interval_seconds=0.001)
    measuring.start()
    while source.reads < 3:
        time.sleep(0.001)
    (figures,) = measuring.stop(0.0)
    release.set()

    assert figures.energy_joules == 1.0


def test_a_window_too_short_for_the_meter_is_said_to_be() -> None:
    """A figure over a few ticks of the host's clock comes with a warning."""
    measuring, clock = meter(Counter([0, 1000]))
    measuring.start()
    clock.advance(SECOND_NS // 100)
    measuring.stop(0.0)

    assert "a window of 0.010 s is short" in measuring.lacks[0].what
