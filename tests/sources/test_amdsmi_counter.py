"""The accumulator's unit, and its comparison with the power sensor."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.timeline import Timeline
from inferwatt.records import Device, EventKind, Reading
from inferwatt.sources.amdsmi_counter import EXACT, CounterCheck, counter_uj, unit_uj
from inferwatt.units import NS_PER_SECOND

FLOAT_15_3 = 15.300000190734863
"""15.3 as a C float: what the library says (amdsmi 6.2 to 7.0)."""
ACCUMULATORS = st.integers(min_value=0, max_value=2**64 - 2).filter(lambda value: value != 0xFFFFFFFF)
STEP_NS = NS_PER_SECOND // 10
STARTS = st.integers(0, 2**31) | st.integers(2**33, 2**60)
"""From none of them a test of ours counts to 2^32 - 1, which is no value."""


@given(ACCUMULATORS)
def test_a_counter_is_exact_to_the_microjoule(accumulator: int) -> None:
    """Whatever it shows, the reading is less than 1 µJ below 2^-16 J times the accumulator, never above."""
    exact_uj = Fraction(accumulator * 10**6, 2**16)

    shown_uj = counter_uj(accumulator, FLOAT_15_3)

    assert shown_uj is not None
    assert 0 <= exact_uj - shown_uj < 1


def test_the_rounded_resolution_is_read_as_what_it_stands_for() -> None:
    """A megajoule by 15.3 µJ would be 2.7 kJ too much."""
    accumulator = 10**6 * 2**16

    assert counter_uj(accumulator, FLOAT_15_3) == 10**12
    assert accumulator * FLOAT_15_3 / 1e12 == pytest.approx(1.0027, abs=1e-4)
    assert EXACT[0] / EXACT[1] == 1e6 / 2**16


def test_another_resolution_is_taken_at_its_word() -> None:
    """A library that counts in whole µJ, or in mJ, is read so."""
    assert counter_uj(7, 1.0) == 7
    assert counter_uj(7, 1000.0) == 7000
    assert counter_uj(3, 0.5) == 1


@pytest.mark.parametrize("resolution", [0.0, -15.3, float("nan"), float("inf")])
def test_a_resolution_that_is_none_is_no_value(resolution: float) -> None:
    """A joule is never made of a unit that is not known."""
    assert unit_uj(resolution) is None
    assert counter_uj(1000, resolution) is None


@pytest.mark.parametrize("accumulator", [0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF])
def test_all_bits_set_is_no_value(accumulator: int) -> None:
    """The driver's "not there" is not 281 TJ."""
    assert counter_uj(accumulator, FLOAT_15_3) is None


@given(st.lists(st.integers(min_value=0, max_value=10**7), min_size=1, max_size=40), STARTS)
def test_ticks_add_up_to_the_accumulator(steps: list[int], start: int) -> None:
    """However it moves, standing still too, the ticks lose and make nothing: they sum to the counter's difference."""
    line, accumulator, ticks_uj = Timeline(Device("gpu-0")), start, 0
    first_uj = counter_uj(start, FLOAT_15_3)
    for number, step in enumerate([0, *steps]):
        accumulator += step
        tick = line.add(Reading((number + 1) * STEP_NS, "gpu-0", counter_uj(accumulator, FLOAT_15_3)))
        ticks_uj += tick.energy_uj if tick else 0

    last_uj = counter_uj(accumulator, FLOAT_15_3)

    assert first_uj is not None
    assert last_uj is not None
    assert ticks_uj == last_uj - first_uj


@given(st.integers(2**33, 2**60), st.integers(0, 10**7))
def test_a_fall_is_a_reset_and_no_negative_joule(before: int, after: int) -> None:
    """A driver that was loaded again begins anew: one event, and no more energy than the new count shows."""
    line = Timeline(Device("gpu-0"))
    line.add(Reading(STEP_NS, "gpu-0", counter_uj(before, FLOAT_15_3)))

    tick = line.add(Reading(2 * STEP_NS, "gpu-0", counter_uj(after, FLOAT_15_3)))

    assert tick is not None
    assert 0 <= tick.energy_uj <= (counter_uj(after, FLOAT_15_3) or 0)
    assert [event.kind for event in line.events] == [EventKind.RESET]


def compared(counted_watts: float, sensed_watts: float | None, seconds: int = 60) -> list[str]:
    """Return what a check says over a minute of one reading a second."""
    check = CounterCheck()
    power_mw = None if sensed_watts is None else round(sensed_watts * 1000)
    said = (check.add(t * NS_PER_SECOND, round(t * counted_watts * 1e6), power_mw) for t in range(seconds))
    return [words for words in said if words]


def test_a_counter_that_stands_still_is_told_once() -> None:
    """An MI210's counter was constant for the life of a process (rocm_smi_lib issue 180), at 305 W."""
    assert compared(0, 305) == ["the energy counter stands still while the power sensor says 305 W"]


def test_a_counter_of_another_rate_is_told_once() -> None:
    """Far too slow or far too fast is seen within 10 s, and said with both figures."""
    assert compared(30, 305) == ["the energy counter says 30 W while the power sensor says 305 W"]
    assert compared(3000, 305) == ["the energy counter says 3000 W while the power sensor says 305 W"]


@pytest.mark.parametrize(
    ("counted_watts", "sensed_watts"), [(305, 305), (120, 305), (800, 305), (0, 0), (0, 4), (300, 0), (0, None)]
)
def test_what_cannot_be_told_from_a_sensor_of_means_is_not_told(counted_watts: float, sensed_watts: float) -> None:
    """A factor below three, a GPU that is off or asleep, and a sensor that says nothing, raise no alarm."""
    assert compared(counted_watts, sensed_watts) == []


def test_a_reset_and_a_gap_begin_the_comparison_anew() -> None:
    """Neither a driver that was loaded again nor a sleep of the machine makes a counter wrong."""
    check = CounterCheck()
    said = [check.add(t * NS_PER_SECOND, 300_000_000 * t, 300_000) for t in range(9)]
    said += [check.add(t * NS_PER_SECOND, 300_000_000 * (t - 9), 300_000) for t in range(9, 18)]
    said += [check.add(t * NS_PER_SECOND, 300_000_000 * 9, 300_000) for t in (400, 401)]

    assert said == [""] * 20
