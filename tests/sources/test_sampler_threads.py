"""The sampler with real threads: reads that hang, records that nobody takes."""

import threading
import time

from inferwatt.clock import SystemClock
from inferwatt.records import Event, EventKind, Reading
from inferwatt.sources import Emitted
from inferwatt.sources.sampler import LEAST_HANG_NS, RETRY_HUNG_NS, Sampler, SamplingConfig
from inferwatt.testing import FakeClock, ScriptedSource

MS = 1_000_000
PATIENCE_SECONDS = 10


class Threaded:
    """A sampler with its real thread and what it emitted; `wait` is woken by records, not by a sleep."""

    def __init__(self, *sources: ScriptedSource) -> None:
        self.emitted: list[Emitted] = []
        self.changed = threading.Condition()
        self.sampler = Sampler(sources, None, SystemClock(), self.take, config=SamplingConfig(idle_hz=200))

    def take(self, record: Emitted) -> None:
        """Keep a record and wake who waits."""
        with self.changed:
            self.emitted.append(record)
            self.changed.notify_all()

    def wait(self, device: str, count: int) -> None:
        """Wait for so many readings of a device."""
        with self.changed:
            assert self.changed.wait_for(
                lambda: sum(isinstance(r, Reading) and r.device == device for r in self.emitted) >= count,
                PATIENCE_SECONDS,
            )


def test_a_hung_read_stops_one_device_and_not_the_others() -> None:
    """The watchdog leaves the thread that hangs and starts another; the late answer is not emitted."""
    hang = threading.Event()
    ill, well = ScriptedSource("gpu-0", [1, hang, 2]), ScriptedSource("gpu-1", [1])
    bench = Threaded(ill, well)
    bench.sampler.start()
    bench.wait("gpu-1", 1)
    before = threading.active_count()
    seen = sum(isinstance(record, Reading) for record in bench.emitted)
    bench.sampler.check(time.monotonic_ns() + LEAST_HANG_NS // 2)
    assert not bench.sampler.health().sources[0].stale

    while not bench.sampler.health().sources[0].stale:
        bench.sampler.check(time.monotonic_ns() + 2 * LEAST_HANG_NS)
    bench.wait("gpu-1", seen + 5)

    health = bench.sampler.health().sources
    assert (health[0].up, health[0].stale, health[0].hung, health[1].up) == (False, True, 1, True)
    assert threading.active_count() == before + 1
    bench.sampler.check(time.monotonic_ns())
    hang.set()
    bench.wait("gpu-1", seen + 10)
    bench.sampler.stop()
    assert [
        record.counter_uj for record in bench.emitted if isinstance(record, Reading) and record.device == "gpu-0"
    ] == [1]
    assert [r.device for r in bench.emitted if isinstance(r, Event)].count("gpu-0") == 1
    assert well.closed


def test_a_hung_device_is_tried_again_after_a_minute_and_not_while_its_call_is_out() -> None:
    """At most one abandoned thread a device: first the old call must have come back."""
    hang = threading.Event()
    ill = ScriptedSource("gpu-0", [hang, 7])
    clock, emitted = FakeClock(0), list[Emitted]()
    sampler = Sampler([ill], None, clock, emitted.append)
    sampler.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while ill.reads == 0 and time.monotonic() < deadline:
        pass
    clock.advance(2 * LEAST_HANG_NS)
    sampler.check(clock.monotonic_ns())
    clock.advance(RETRY_HUNG_NS)
    while sampler.health().beats < 3 and time.monotonic() < deadline:
        clock.advance(100 * MS)

    assert (ill.reads, sampler.health().sources[0].stale) == (1, True)
    hang.set()
    while not sampler.health().sources[0].up and time.monotonic() < deadline:
        clock.advance(100 * MS)
    sampler.stop()
    assert sampler.health().sources[0].up
    assert [(record.kind, record.device) for record in emitted if isinstance(record, Event)] == [
        (EventKind.READ_FAILURE, "gpu-0")
    ]


def test_a_sampler_ends_while_a_read_hangs() -> None:
    """The exit does not wait for a driver: only a daemon thread is left, and its source is not closed under it."""
    hang = threading.Event()
    ill = ScriptedSource("gpu-0", [hang, 1])
    bench = Threaded(ill)
    bench.sampler.start()
    bench.sampler.stop(timeout_seconds=0.05)

    left = [thread for thread in threading.enumerate() if thread.name == "inferwatt-sampler"]
    assert all(thread.daemon for thread in left)
    assert not ill.closed or not left
    hang.set()
    for thread in left:
        thread.join(PATIENCE_SECONDS)


def test_records_that_nobody_takes_do_not_end_the_thread() -> None:
    """An error of who takes the records is counted, and sampling goes on."""
    failed = threading.Event()
    source = ScriptedSource("gpu-0", [1])

    def full(_record: Emitted) -> None:
        if source.reads > 2:
            failed.set()
        raise BufferError("full")

    sampler = Sampler([source], None, SystemClock(), full, config=SamplingConfig(idle_hz=500))
    sampler.start()
    sampler.start()

    assert failed.wait(PATIENCE_SECONDS)
    sampler.stop()
    assert sampler.health().errors >= 2
    assert not sampler.health().running
