import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt import units


@given(st.integers(0, 2**50))
def test_microjoules_survive_the_way_to_joules_and_back(uj: int) -> None:
    """What a float of joules can hold comes back to the microjoule (up to 1.1 GJ)."""
    assert units.microjoules(units.joules(uj)) == uj


@given(st.integers(0, 2**50))
def test_nanoseconds_survive_the_way_to_seconds_and_back(ns: int) -> None:
    """What a float of seconds can hold comes back to the nanosecond (up to 13 days)."""
    assert units.nanoseconds(units.seconds(ns)) == ns


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_power_is_energy_over_time(energy_uj: int, elapsed_ns: int) -> None:
    """Watts are joules by seconds, whichever way they are reached."""
    expected = units.joules(energy_uj) / units.seconds(elapsed_ns)

    assert units.watts(energy_uj, elapsed_ns) == pytest.approx(expected)


def test_the_constants_agree_with_each_other() -> None:
    """A milliwatt for a nanosecond is a picojoule, a kilowatt for an hour is a kilowatt hour, a joule a watt second."""
    milliwatts, picojoules_per_joule = 1000, units.PJ_PER_UJ * units.UJ_PER_JOULE

    assert picojoules_per_joule == milliwatts * units.NS_PER_SECOND
    assert units.JOULES_PER_KWH == 1000 * 3600
    assert units.NS_PER_SECOND == 1000 * units.NS_PER_MS
    assert units.watts(units.UJ_PER_JOULE, units.NS_PER_SECOND) == 1.0
