"""A moment's look at the sources: the period and watts that were there, and nothing that was not seen."""

import threading

import pytest

from inferwatt.records import Condition, Device, Event, EventKind, Reading
from inferwatt.survey import Seen, Trial, survey
from inferwatt.testing import ScriptedSource

MS = 1_000_000


def counters(period_ms: int, watts: float, seconds: float, poll_ms: int = 10) -> Seen:
    """Return what is seen of a counter that moves every `period_ms`, polled every `poll_ms` from the middle on."""
    trial = Trial(Device("gpu-0"))
    for t_ms in range(period_ms // 2, round(seconds * 1000), poll_ms):
        trial.take(Reading(t_ms * MS, "gpu-0", round(t_ms // period_ms * period_ms * watts * 1000)))
    return trial.seen()


@pytest.mark.parametrize("period_ms", [20, 100, 250])
def test_the_period_and_the_watts_of_a_counter_are_seen(period_ms: int) -> None:
    """Whatever its period: the tick that began before we looked says nothing of the power, and is left out."""
    seen = counters(period_ms, watts=412.5, seconds=2)

    assert seen.period_seconds == pytest.approx(period_ms / 1000, rel=0.06)
    assert seen.watts == pytest.approx(412.5, rel=0.06)
    assert not seen.is_faster


def test_a_gap_in_the_reads_is_not_its_period() -> None:
    """While another device's read hung nothing was read: the counter moved on unseen."""
    trial = Trial(Device("gpu-0"))
    for t_ms in [*range(0, 1000, 10), *range(2000, 3000, 10)]:
        trial.take(Reading(t_ms * MS, "gpu-0", t_ms // 100 * 100 * 300_000))

    assert trial.seen().period_seconds == pytest.approx(0.1)
    assert trial.seen().watts == pytest.approx(300)


def test_a_counter_that_moves_at_every_read_may_move_faster() -> None:
    """Then the time between reads is only a limit, and said to be one."""
    seen = counters(5, watts=90, seconds=0.5)

    assert seen.is_faster
    assert seen.period_seconds == pytest.approx(0.01)


def test_too_short_a_look_shows_nothing() -> None:
    """With one reading, or one change, neither period nor power is known: they are absent, not zero."""
    assert counters(5000, watts=90, seconds=2) == Seen(None, None, is_faster=False, readings=0, failures=0)
    one = counters(500, watts=90, seconds=0.6)

    assert (one.watts, one.period_seconds) == (None, None)


def test_a_power_is_shown_as_it_is_and_its_period_by_its_changes() -> None:
    """A sensor that is polled faster than it moves repeats itself: those are no changes."""
    trial = Trial(Device("gpu-0"))
    for t_ms in range(0, 1000, 10):
        trial.take(Reading(t_ms * MS, "gpu-0", power_mw=300_000 + t_ms // 100))
    trial.take(Condition(5, "gpu-0", 0.5))

    assert trial.seen() == Seen(300.009, 0.1, is_faster=False, readings=100, failures=0)


def test_failures_are_counted_and_the_last_is_told() -> None:
    """A read that failed is no reading, and other events are no failure."""
    trial = Trial(Device("gpu-0"))
    trial.take(Event(1, EventKind.READ_FAILURE, "gpu-0", detail="no"))
    trial.take(Event(2, EventKind.DEVICE_GONE, "gpu-0", detail="lost"))
    trial.take(Event(3, EventKind.WRAP, "gpu-0", detail="x"))

    assert trial.seen() == Seen(None, None, is_faster=False, readings=0, failures=2, trouble="lost")


def test_every_source_is_read_and_closed() -> None:
    """A look by the real sampler: one counter moves, one fails, and both are closed after it."""
    moving, failing = ScriptedSource("cpu", range(0, 10_000_000, 1000)), ScriptedSource("gpu-0", [OSError("no")] * 1000)

    seen = survey([moving, failing], 0.2)

    assert seen["cpu"].readings == moving.reads > 2
    assert (seen["gpu-0"].readings, seen["gpu-0"].trouble) == (0, "OSError: no")
    assert moving.closed
    assert failing.closed


def test_a_read_that_hangs_does_not_hold_up_the_others() -> None:
    """The driver's call never comes back: the look ends in time, and says so of that device alone."""
    hang = threading.Event()
    seen = survey([ScriptedSource("gpu-0", [hang]), ScriptedSource("cpu", range(0, 10_000_000, 1000))], 1.4)
    hang.set()

    assert "a read hangs" in seen["gpu-0"].trouble
    assert seen["cpu"].readings > 2
