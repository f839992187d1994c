"""The sampler without its thread, driven by a fake clock."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Device, Event, EventKind, Provenance, Reading, Usage
from inferwatt.sources import Emitted
from inferwatt.sources.sampler import REDISCOVER_NS, USAGE_NS, Sampler, SamplingConfig
from inferwatt.testing import FakeClock, ScriptedSource

MS = 1_000_000
RETRY = SourceRetry("no answer", where="gpu-0", fix="none")
GONE = SourceGone("fell off the bus", where="gpu-0", fix="none")


class Bench:
    """A sampler with a fake clock, driven beat by beat, and what it emitted."""

    def __init__(self, *sources: ScriptedSource, hz: float = 10, again: Iterable[ScriptedSource] = ()) -> None:
        self.clock = FakeClock(0)
        self.emitted: list[Emitted] = []
        self.again = list(again)
        self.sampler = Sampler(
            sources,
            None,
            self.clock,
            self.emitted.append,
            config=SamplingConfig(idle_hz=hz),
            rediscover=lambda: self.again,
        )

    def beats(self, count: int) -> None:
        """Let it beat `count` times, each at its own deadline."""
        for _ in range(count):
            deadline_ns = self.sampler.poll(self.clock.monotonic_ns())
            self.clock.advance(max(0, deadline_ns - self.clock.monotonic_ns()))

    def readings(self, device: str) -> list[Reading]:
        """Return the readings of one device."""
        return [record for record in self.emitted if isinstance(record, Reading) and record.device == device]

    def events(self) -> list[tuple[EventKind, str]]:
        """Return the events in order."""
        return [(record.kind, record.device) for record in self.emitted if isinstance(record, Event)]


def test_every_device_is_read_in_every_beat_at_the_time_of_the_read() -> None:
    """Ten beats a second, without drift."""
    bench = Bench(ScriptedSource("gpu-0", [1, 2, 3]), ScriptedSource("gpu-1", [5, 6, 7]))

    bench.beats(3)

    assert bench.readings("gpu-0") == [Reading(t * 100 * MS, "gpu-0", t + 1) for t in range(3)]
    assert [reading.counter_uj for reading in bench.readings("gpu-1")] == [5, 6, 7]
    assert bench.sampler.health().beats == 3


def test_a_beat_that_is_missed_is_skipped_and_counted() -> None:
    """After a long pause it goes on at the next deadline of the old rhythm, and does not catch up."""
    bench = Bench(ScriptedSource("gpu-0", [1]))
    bench.beats(1)
    bench.clock.advance(250 * MS)

    assert bench.sampler.poll(bench.clock.monotonic_ns()) == 400 * MS
    assert bench.sampler.health().missed_beats == 2


@given(st.lists(st.integers(0, 500 * MS), max_size=30))
def test_deadlines_never_drift_and_never_lie_in_the_past(delays_ns: list[int]) -> None:
    """However late the thread wakes, each deadline is a multiple of the period and ahead of now."""
    bench = Bench(ScriptedSource("gpu-0", [1]))
    for delay_ns in delays_ns:
        bench.clock.advance(delay_ns)
        deadline_ns = bench.sampler.poll(bench.clock.monotonic_ns())
        first_ns = delays_ns[0]

        assert (deadline_ns - first_ns) % (100 * MS) == 0
        assert deadline_ns >= bench.clock.monotonic_ns()


def test_the_rate_can_be_changed() -> None:
    """Fifty beats a second while work runs, from the next beat on."""
    bench = Bench(ScriptedSource("gpu-0", [1]))
    bench.beats(1)
    bench.sampler.set_rate(50)
    bench.beats(2)
    bench.sampler.set_rate(50)

    assert [reading.t_ns // MS for reading in bench.readings("gpu-0")] == [0, 100, 120]
    assert bench.sampler.health().hz == 50


def test_a_slow_source_is_read_only_when_it_is_due() -> None:
    """A source that changes once a second is not asked ten times."""
    slow = ScriptedSource("bmc", [1], period_ns=1000 * MS)
    bench = Bench(slow, ScriptedSource("gpu-0", [1]))

    bench.beats(21)

    assert [reading.t_ns // MS for reading in bench.readings("bmc")] == [0, 1000, 2000]
    assert len(bench.readings("gpu-0")) == 21


def test_a_failed_read_costs_one_sample_of_one_device() -> None:
    """It is an event and a count; the device is read again in the next beat, and the others are not touched."""
    bench = Bench(ScriptedSource("gpu-0", [1, RETRY, 3]), ScriptedSource("gpu-1", [1, 2, 3]))

    bench.beats(2)
    ill = bench.sampler.health().sources[0]
    bench.beats(1)

    assert bench.events() == [(EventKind.READ_FAILURE, "gpu-0")]
    assert (ill.up, ill.samples, ill.lost) == (False, 1, 1)
    assert bench.sampler.health().sources[0].up
    assert [len(bench.readings(device)) for device in ("gpu-0", "gpu-1")] == [2, 3]


@pytest.mark.parametrize("failure", [KeyError("x"), ZeroDivisionError(), OSError(5, "I/O error")])
def test_any_exception_of_a_driver_is_contained(failure: Exception) -> None:
    """It counts as a lost sample, with its name in the event."""
    bench = Bench(ScriptedSource("gpu-0", [failure, 2]))

    bench.beats(2)

    (event,) = [record for record in bench.emitted if isinstance(record, Event)]
    assert (event.kind, event.detail.split(":")[0]) == (EventKind.READ_FAILURE, type(failure).__name__)
    assert len(bench.readings("gpu-0")) == 1


def test_a_device_that_is_gone_is_dropped_closed_and_looked_for_again() -> None:
    """Ten seconds later it is found and read on; what else the search brings is closed."""
    first, second, other = ScriptedSource("gpu-0", [1, GONE]), ScriptedSource("gpu-0", [9]), ScriptedSource("gpu-1", [])
    bench = Bench(first, ScriptedSource("gpu-1", [1]), again=[second, other])

    bench.beats(2)
    lost = bench.sampler.health().sources[0]
    bench.beats(REDISCOVER_NS // (100 * MS) - 1)
    assert second.reads == 0
    bench.beats(3)

    assert bench.events() == [(EventKind.DEVICE_GONE, "gpu-0")]
    assert (lost.up, lost.lost, first.closed, first.reads) == (False, 1, True, 2)
    assert other.closed
    assert [reading.counter_uj for reading in bench.readings("gpu-0")][:2] == [1, 9]
    assert bench.sampler.health().sources[0].up
    assert len(bench.sampler.health().sources) == 2


@pytest.mark.parametrize(
    "found",
    [
        Device("gpu-0", uuid="GPU-b"),
        Device("gpu-0", uuid="GPU-a", provenance=Provenance.SAMPLED),
        Device("gpu-0", uuid="GPU-a", domain="module"),
    ],
)
def test_a_lost_device_is_not_mistaken_for_another_of_its_name(found: Device) -> None:
    """With one GPU less the others may move up: what has the name of the lost one is not the lost one."""
    lost, other = ScriptedSource(Device("gpu-0", uuid="GPU-a"), [GONE]), ScriptedSource(found, [9])
    bench = Bench(lost, again=[other])

    bench.beats(REDISCOVER_NS // (100 * MS) + 3)

    assert (other.reads, other.closed) == (0, True)
    assert not bench.sampler.health().sources[0].up


def test_the_shares_of_processes_come_with_the_readings() -> None:
    """The usage reader is asked in the same beat; its failure is told apart from a device's."""

    class Shares:
        def __init__(self) -> None:
            self.calls = 0

        def read(self, now_ns: int) -> tuple[Usage, ...]:
            """Fail the second time."""
            self.calls += 1
            if self.calls == 2:
                raise RETRY
            return (Usage(now_ns - 1, now_ns, "cpu", {1: 0.5}, 0.1),)

    clock, emitted = FakeClock(0), list[Emitted]()
    sampler = Sampler([], Shares(), clock, emitted.append)
    for _ in range(3):
        sampler.poll(clock.monotonic_ns())
        clock.advance(USAGE_NS)

    assert [type(record) for record in emitted] == [Usage, Event, Usage]
    assert emitted[1] == Event(USAGE_NS, EventKind.READ_FAILURE, detail="usage: no answer")


def test_a_rate_out_of_bounds_is_refused() -> None:
    """Zero or a million times a second is a mistake in the configuration."""
    with pytest.raises(msgspec.ValidationError, match=r"Expected `float` >= 0.1 - at `\$.active_hz`"):
        msgspec.convert({"active_hz": 0}, SamplingConfig)
