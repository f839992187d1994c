"""Slow sources without their thread, driven by a fake clock."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Condition, Device, Reading
from inferwatt.snapshot import Lack
from inferwatt.sources import Said, Source
from inferwatt.sources.sampler import Sampler
from inferwatt.sources.slow import (
    MOST_POSTPONED_NS,
    Postponed,
    Sample,
    Samples,
    SlowDevice,
    SlowPoller,
    slow_source,
)
from inferwatt.testing import FakeClock
from inferwatt.units import NS_PER_MS, NS_PER_SECOND

SECOND = NS_PER_SECOND
TIRED = SourceRetry("no answer", where="https://bmc", fix="look at it")


def no_thread(_run: Callable[[], None], _name: str) -> None:
    """Start nothing: the test drives the poller."""


class Bench:
    """A poller that answers by a script, its devices, and a clock that goes on while it polls."""

    def __init__(
        self,
        script: Iterable[Samples | Exception],
        *devices: str,
        poll_ns: int = 10 * SECOND,
        takes_ns: int = 0,
    ) -> None:
        self.clock = FakeClock(100 * SECOND)
        self.asked_ns: list[int] = []
        self._script = iter(script)
        self._takes_ns = takes_ns
        self.poller = SlowPoller("bmc", self._answer, poll_ns, clock=self.clock, spawn=no_thread)
        self.views = [SlowDevice(self.poller, Device(name)) for name in devices or ("server",)]

    def _answer(self) -> Samples:
        self.asked_ns.append(self.clock.monotonic_ns())
        self.clock.advance(self._takes_ns)
        said = next(self._script, {})
        if isinstance(said, Exception):
            raise said
        return said

    def poll(self) -> int:
        """Poll when it is due, and return when the next is."""
        due_ns = self.poller.step(self.clock.monotonic_ns())
        if not self.asked_ns or self.clock.monotonic_ns() < due_ns:
            self.clock.advance(max(0, due_ns - self.clock.monotonic_ns()))
        return due_ns

    def read(self, view: int = 0) -> Said:
        """Read one device now."""
        return self.views[view].read(self.clock.monotonic_ns())


def watts(milliwatts: int, t_ns: int | None = None) -> Samples:
    """Return the answer of a BMC of one server."""
    return {"server": Sample(power_mw=milliwatts, t_ns=t_ns)}


def test_a_sample_is_handed_over_once() -> None:
    """Nothing before the first poll, then the sample, then nothing until the next one."""
    bench = Bench([watts(5000, 7)])
    before = bench.read()
    bench.poll()

    assert (before, bench.read(), bench.read()) == (None, Reading(7, "server", power_mw=5000), None)


def test_a_sample_without_a_time_is_of_the_middle_of_its_poll() -> None:
    """When it is handed over does not matter."""
    bench = Bench([watts(5000)], takes_ns=4 * SECOND)
    bench.poll()
    bench.clock.advance(3 * SECOND)

    assert bench.read() == Reading(102 * SECOND, "server", power_mw=5000)


def test_what_comes_with_a_sample_is_handed_on() -> None:
    """A condition follows the reading."""
    condition = Condition(7, "server", temperature_celsius=40.0)
    bench = Bench([{"server": Sample(counter_uj=9, wraps_at_uj=100, t_ns=7, also=(condition,))}])
    bench.poll()

    assert bench.read() == (Reading(7, "server", 9, None, 100), condition)


def test_one_poll_serves_every_device_of_the_page() -> None:
    """Each device gets its own sample; one that is not named has nothing new, one that failed says so."""
    answer: Samples = {"gpu-0": Sample(counter_uj=1, t_ns=7), "gpu-1": Sample(counter_uj=2, t_ns=7), "gpu-3": TIRED}
    bench = Bench([answer], "gpu-0", "gpu-1", "gpu-2", "gpu-3")
    bench.poll()

    assert [bench.read(view) for view in (1, 0, 2)] == [Reading(7, "gpu-1", 2), Reading(7, "gpu-0", 1), None]
    with pytest.raises(SourceRetry, match=r"no answer\n.*https://bmc\n.*look at it"):
        bench.read(3)
    assert len(bench.asked_ns) == 1


def test_a_failed_poll_is_said_once_to_each_device() -> None:
    """The poll's own words; the next read has nothing new."""
    bench = Bench([TIRED], "gpu-0", "gpu-1")
    bench.poll()

    for view in (0, 1):
        with pytest.raises(SourceRetry, match="no answer"):
            bench.read(view)
        assert bench.read(view) is None


def test_a_sample_that_was_not_handed_over_yet_comes_before_a_later_failure() -> None:
    """A failure does not take away what was measured before it; one before the sample is forgotten."""
    bench = Bench([TIRED, watts(4000, 6), watts(5000, 7), TIRED])
    bench.poll()
    bench.poll()
    assert [bench.read(), bench.read()] == [Reading(6, "server", power_mw=4000), None]
    bench.poll()
    bench.poll()

    assert bench.read() == Reading(7, "server", power_mw=5000)
    with pytest.raises(SourceRetry):
        bench.read()
    assert bench.read() is None


def test_a_device_that_is_certainly_gone_is_said_to_be_gone() -> None:
    """Only where the poll itself says so."""
    bench = Bench([{"server": SourceGone("unplugged", where="bay 1", fix="plug it in")}])
    bench.poll()

    with pytest.raises(SourceGone, match="unplugged"):
        bench.read()


def test_a_defect_in_a_poll_ends_no_thread_and_is_counted() -> None:
    """It is a failed poll with its name, and the next poll comes."""
    bench = Bench([KeyError("watts"), watts(5000, 7)])
    bench.poll()

    with pytest.raises(SourceRetry, match="KeyError: 'watts'"):
        bench.read()
    bench.poll()
    assert bench.read() == Reading(7, "server", power_mw=5000)
    assert bench.poller.errors == 1


@pytest.mark.parametrize(("poll_ns", "silent_s"), [(SECOND, 30), (20 * SECOND, 60)])
def test_silence_is_told_from_time_to_time(poll_ns: int, silent_s: int) -> None:
    """A poll that hangs, or leaves a device out, makes it stale after three polls and 30 s, not at every read."""
    bench = Bench([], poll_ns=poll_ns)
    told = []
    for second in range(2 * silent_s + 3):
        try:
            assert bench.read() is None
        except SourceRetry as exc:
            told.append((second, exc.what))
        bench.clock.advance(SECOND)

    what = f"nothing was heard of server for {silent_s} s"
    assert told == [(silent_s + 1, what), (2 * silent_s + 2, what)]


def test_a_long_failure_is_repeated_with_its_reason() -> None:
    """Who comes later still learns why there is no figure."""
    bench = Bench([Postponed("locked out", where="https://bmc", fix="the password", after_ns=600 * SECOND)])
    bench.poll()
    with pytest.raises(SourceRetry):
        bench.read()
    bench.clock.advance(31 * SECOND)

    with pytest.raises(SourceRetry, match="locked out"):
        bench.read()


def test_polls_come_at_absolute_deadlines() -> None:
    """A poll that takes long delays no other, and what is missed is skipped."""
    bench = Bench([watts(1), watts(2)], takes_ns=3 * SECOND)
    for _ in range(4):
        bench.poll()
    quick = [t_ns // SECOND for t_ns in bench.asked_ns]
    slow = Bench([], takes_ns=25 * SECOND)
    for _ in range(3):
        slow.poll()

    assert quick == [100, 110, 120, 130]
    assert [t_ns // SECOND for t_ns in slow.asked_ns] == [100, 130, 160]


def test_a_poll_is_not_made_before_it_is_due() -> None:
    """A thread that wakes early goes back to sleep."""
    bench = Bench([watts(1)])
    due_ns = bench.poller.step(bench.clock.monotonic_ns())

    assert bench.poller.step(due_ns - 1) == due_ns
    assert len(bench.asked_ns) == 1


def test_failures_make_it_ask_less_often_and_a_success_as_before() -> None:
    """The first failure changes nothing, since most are alone; the pauses end at half a minute."""
    bench = Bench([TIRED] * 7 + [watts(1)] * 3, poll_ns=SECOND)
    for _ in range(10):
        bench.poll()

    pauses = [(later - earlier) // SECOND for earlier, later in pairwise(bench.asked_ns)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 1, 1]


def test_who_asks_for_a_pause_gets_it() -> None:
    """Retry-After and refused passwords: within an hour."""
    bench = Bench(
        [
            Postponed("busy", where="bmc", fix="", after_ns=95 * SECOND),
            Postponed("busy", where="bmc", fix="", after_ns=10**18),
            Postponed("busy", where="bmc", fix="", after_ns=-5),
        ]
    )
    for _ in range(4):
        bench.poll()

    pauses = [later - earlier for earlier, later in pairwise(bench.asked_ns)]
    assert pauses == [100 * SECOND, MOST_POSTPONED_NS, 30 * SECOND]


def test_a_sample_is_fetched_soon_after_its_poll() -> None:
    """Ten reads a poll, but no more than ten and no less than one a second."""
    periods = [slow_source("bmc", Device("server"), lambda: None, poll_ns).period_ns for poll_ns in POLLS_NS]

    assert periods == [100 * NS_PER_MS, 500 * NS_PER_MS, SECOND]


POLLS_NS = (SECOND // 5, 5 * SECOND, 60 * SECOND)


def test_who_wants_to_know_at_once_polls_once() -> None:
    """What is wrong is a lack with its remedy; after a good poll there is none. The thread alone polls once it runs."""
    bench = Bench([TIRED, watts(5000, 7)])
    lack = bench.views[0].look()
    bench.clock.advance(20 * SECOND)

    assert lack == Lack("no answer", "https://bmc", "look at it", source="bmc", component="accelerator")
    assert bench.views[0].look() is None
    assert bench.read() == Reading(7, "server", power_mw=5000)
    bench.clock.advance(20 * SECOND)
    bench.views[0].look()
    assert len(bench.asked_ns) == 2


def test_the_sampler_counts_samples_and_not_reads() -> None:
    """A device is up from its first sample on, and down from a failed poll until the next sample."""
    bench = Bench([{}, watts(5000), TIRED, watts(5000)])
    sampler = Sampler(bench.views, None, bench.clock, lambda _record: None)
    seen = []
    for _ in range(4):
        bench.poller.step(bench.clock.monotonic_ns())
        for _ in range(2):
            bench.clock.advance(5 * SECOND)
            sampler.poll(bench.clock.monotonic_ns())
            health = sampler.health().sources[0]
            seen.append((health.up, health.samples, health.lost))

    quiet, good, bad, again = seen[::2]
    assert seen[1::2] == seen[::2]
    assert (quiet, good, bad, again) == ((False, 0, 0), (True, 1, 0), (False, 1, 1), (True, 2, 1))


def test_it_is_a_source() -> None:
    """The sampler takes it as any other; what it is called is the poller's name."""
    source: Source = slow_source("redfish", Device("server", source="redfish"), lambda: None, SECOND)

    assert (source.name, source.device.device) == ("redfish", "server")
