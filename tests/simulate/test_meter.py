"""A counter as real ones are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatt.records import Event, EventKind, Reading
from inferwatt.simulate.meter import SECOND_NS, Energy, Meter, readings

SPAN = (0, 10 * SECOND_NS)


def energy() -> Energy:
    """Return ten seconds: 100 W, then 700 W, then 50 W."""
    return Energy(np.array([0, 3 * SECOND_NS, 7 * SECOND_NS, 10 * SECOND_NS]), np.array([100.0, 700.0, 50.0]))


def polled(meter: Meter, seed: int = 1) -> list[Reading]:
    """Return what polls of a meter saw."""
    seen = readings(meter, energy(), "gpu-0", SPAN, np.random.default_rng(seed))
    return [record for record in seen if isinstance(record, Reading)]


@settings(max_examples=50, deadline=None)
@given(st.floats(0.02, 0.1), st.floats(0.0, 0.05), st.floats(0.0, 0.05), st.integers(0, 1000))
def test_what_a_counter_gains_is_what_was_used(tick: float, lag: float, window: float, seed: int) -> None:
    """The last reading less the first is the integral of power, but for a tick, the lag and the window at each end."""
    rows = polled(Meter(tick_seconds=tick, lag_seconds=lag, window_seconds=window), seed)
    gained = (rows[-1].counter_uj or 0) - (rows[0].counter_uj or 0)
    late = tick + lag + window + 0.03

    assert gained / 1e6 == pytest.approx(3250.0, abs=100.0 * late + 50.0 * late + 0.002)


def test_a_counter_moves_by_its_ticks_in_whole_millijoules() -> None:
    """A counter of 100 ms polled at 50 Hz shows ten values a second, each a whole millijoule."""
    values = [row.counter_uj or 0 for row in polled(Meter())]

    assert 98 <= len(set(values)) <= 102
    assert values == sorted(values)
    assert all(value % 1000 == 0 for value in values)


def test_a_lag_shows_late() -> None:
    """Power that rises at 3 s shows after the lag."""
    prompt = polled(Meter(tick_seconds=0.02, phase_ratio=0.0, jitter_seconds=0.0))
    late = polled(Meter(tick_seconds=0.02, phase_ratio=0.0, jitter_seconds=0.0, lag_seconds=0.2))

    def rises(rows: list[Reading]) -> int:
        counters = [row.counter_uj or 0 for row in rows]
        steep = (i for i in range(1, len(rows)) if counters[i] - counters[i - 1] > 6_000_000)
        return rows[next(steep)].t_ns

    assert rises(late) - rises(prompt) == pytest.approx(0.2 * SECOND_NS, abs=0.001 * SECOND_NS)


def test_a_gain_is_a_gain() -> None:
    """A counter that shows 5% too much gains 5% more."""
    plain, gained = polled(Meter()), polled(Meter(gain=1.05))

    ratio = ((gained[-1].counter_uj or 0) - (gained[0].counter_uj or 0)) / (
        (plain[-1].counter_uj or 0) - (plain[0].counter_uj or 0)
    )
    assert ratio == pytest.approx(1.05, rel=1e-4)


def test_power_is_an_average_renewed_at_each_tick() -> None:
    """A meter without a counter shows the mean power of its last tick in milliwatts."""
    seen = readings(Meter(shows_power=True), energy(), "gpu-0", SPAN, np.random.default_rng(1))
    rows = [record for record in seen if isinstance(record, Reading)]
    watts = {round((row.power_mw or 0) / 1000) for row in rows}

    assert all(row.counter_uj is None for row in rows)
    assert {50, 100, 700} <= watts
    assert sum(row.power_mw or 0 for row in rows) * 0.02 / 1000 == pytest.approx(3250.0, rel=0.03)


def test_lost_samples_are_absent_and_failed_ones_are_events() -> None:
    """Of 500 polls some are not there, and each failed one says so."""
    meter = Meter(lost_ratio=0.1, failed_ratio=0.05)
    seen = list(readings(meter, energy(), "gpu-0", SPAN, np.random.default_rng(4)))
    failed = [record for record in seen if isinstance(record, Event)]

    assert 400 < len(seen) - len(failed) < 450
    assert 10 < len(failed) < 45
    assert {event.kind for event in failed} == {EventKind.READ_FAILURE}
