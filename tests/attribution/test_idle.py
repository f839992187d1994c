import pytest

from inferwatt.attribution.idle import BaselinePower, IdlePower
from inferwatt.records import Device

SECOND = 1_000_000_000


def test_idle_power_is_learnt_from_quiet_ticks() -> None:
    """The first quiet tick is believed, the later ones pull slowly."""
    idle = IdlePower(Device("gpu-0"))

    idle.quiet(0, 75.0)
    idle.quiet(SECOND, 95.0)

    assert idle.watts == pytest.approx(76.0)


def test_the_moment_after_work_teaches_nothing() -> None:
    """Clocks stay up for half a second after work: that power is not idle power."""
    idle = IdlePower(Device("gpu-0"))
    idle.worked(SECOND)

    idle.quiet(SECOND + SECOND // 4, 300.0)
    assert idle.watts is None

    idle.quiet(2 * SECOND, 75.0)
    assert idle.watts == 75.0


def test_what_the_source_knows_is_not_learnt_over() -> None:
    """A device whose source knows its idle power keeps that."""
    idle, baseline = IdlePower(Device("cpu", idle_watts=0.7)), BaselinePower(Device("cpu", idle_watts=0.7))

    idle.quiet(0, 5.0)
    baseline.learn(0.0, 5.0)

    assert idle.watts == baseline.watts == 0.7


def test_the_baseline_is_the_power_at_zero_use() -> None:
    """From ticks at different use the straight line finds the power that nobody's use explains."""
    baseline = BaselinePower(Device("cpu-0"))
    for used in (0.2, 0.9, 0.5, 0.4, 0.7):
        baseline.learn(used, 20.0 + 100.0 * used)

    assert baseline.watts == pytest.approx(20.0)


def test_a_use_that_never_varies_tells_no_line() -> None:
    """Where the use is always the same, the lowest power seen stands for the baseline."""
    baseline = BaselinePower(Device("cpu-0"))
    for watts in (71.0, 70.0, 72.0):
        baseline.learn(0.5, watts)

    assert baseline.watts == 70.0


def test_nothing_seen_is_no_baseline() -> None:
    """Before the first tick nothing is taken for idle."""
    assert BaselinePower(Device("cpu-0")).watts == 0.0


def test_what_was_not_quiet_is_taken_back() -> None:
    """Ticks that prove to have been work leave the idle power as it was; a power that is given stays."""
    idle, given = IdlePower(Device("gpu-0")), IdlePower(Device("gpu-0", idle_watts=50.0))
    for power in (idle, given):
        power.quiet(0, 100.0)
        before_watts = power.watts
        power.quiet(SECOND, 300.0)
        power.forget(before_watts)
    idle.forget(500.0)

    assert (idle.watts, given.watts) == (100.0, 50.0)
