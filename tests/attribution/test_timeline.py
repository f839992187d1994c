import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.timeline import Tick, TickKind, Timeline
from inferwatt.records import Device, Event, EventKind, Reading

MS = 1_000_000
GPU = Device("gpu-0", max_watts=1000.0)


def ticks_of(timeline: Timeline, readings: list[Reading]) -> list[Tick]:
    """Return the ticks that the readings end."""
    return [tick for tick in map(timeline.add, readings) if tick is not None]


def polled(*counters_uj: int, every_ms: int = 10, wraps_at_uj: int | None = None) -> list[Reading]:
    """Return readings of these counters, one poll after the other."""
    return [
        Reading(i * every_ms * MS, "gpu-0", counter_uj=uj, wraps_at_uj=wraps_at_uj) for i, uj in enumerate(counters_uj)
    ]


def kinds(timeline: Timeline) -> list[EventKind]:
    """Return the kinds of the events so far."""
    return [event.kind for event in timeline.events]


def test_a_counter_that_moves_at_each_poll_ends_its_ticks_where_it_was_read() -> None:
    """Where every poll shows a new value, ticks end at the polls."""
    ticks = ticks_of(Timeline(GPU), polled(0, 100, 250, 300))

    assert [(t.t0_ns // MS, t.t1_ns // MS, t.energy_uj) for t in ticks] == [(0, 10, 100), (10, 20, 150), (20, 30, 50)]


@given(st.floats(min_value=0, max_value=0.099), st.integers(1, 30))
def test_a_slow_counter_is_placed_by_its_own_period(phase_seconds: float, poll_ms: int) -> None:
    """A counter that moves every 100 ms is placed within three quarters of a poll (or 1 ms) of its move, on average."""
    timeline = Timeline(GPU)
    ticks = []
    for t_ns in range(0, 20_000 * MS, poll_ms * MS):
        moves = int((t_ns / 1e9 - phase_seconds) // 0.1) + 1
        tick = timeline.add(Reading(t_ns, "gpu-0", counter_uj=max(moves, 0) * 10_000))
        if tick is not None:
            ticks.append(tick)

    late = [t for t in ticks if t.t1_ns > 10_000 * MS]
    periods = [(t.t1_ns / 1e9 - phase_seconds) / 0.1 for t in late]
    errors_ns = [abs(p - round(p)) * 100 * MS for p in periods]

    assert sum(errors_ns) / len(errors_ns) <= max(0.75 * poll_ms * MS, MS)


@given(st.integers(1, 99 * MS), st.integers(5, 30), st.integers(500, 5000))
def test_a_gap_in_the_polls_ends_where_the_counter_last_moved(phase_ns: int, poll_ms: int, gap_ms: int) -> None:
    """A counter moves on while nobody reads it: the tick over a gap ends within a period of its last move."""
    timeline = Timeline(GPU)
    resumed_ns = (5000 + gap_ms) * MS
    polls = [*range(0, 5000 * MS, poll_ms * MS), *range(resumed_ns, resumed_ns + 200 * MS, poll_ms * MS)]
    moves = [(t_ns - phase_ns) // (100 * MS) + 1 for t_ns in polls]
    readings = [Reading(t_ns, "gpu-0", counter_uj=10_000 * moved) for t_ns, moved in zip(polls, moves, strict=True)]

    over_gap = [tick for tick in ticks_of(timeline, readings) if tick.energy_uj > 20_000]

    assert len(over_gap) == 1
    assert all(abs(tick.elapsed_ns / (100 * MS) - tick.energy_uj / 10_000) <= 1.1 for tick in over_gap)


@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=60), st.integers(1000, 40_000))
def test_a_wrapping_counter_loses_nothing(steps_uj: list[int], start_uj: int) -> None:
    """Whatever it gains between polls, a counter that wraps adds up to what was used."""
    wraps_at_uj = 60_000
    total_uj, readings = start_uj, [start_uj]
    for step_uj in steps_uj:
        total_uj += step_uj
        readings.append(total_uj % wraps_at_uj)
    timeline = Timeline(Device("gpu-0", max_watts=5.0 / 1.5))

    ticks = ticks_of(timeline, polled(*readings, wraps_at_uj=wraps_at_uj))

    assert sum(t.energy_uj for t in ticks) == timeline.measured_uj
    assert set(kinds(timeline)) <= {EventKind.WRAP}
    open_uj = total_uj - start_uj - timeline.measured_uj
    assert open_uj == 0


def test_a_counter_that_falls_without_a_wrap_has_been_reset() -> None:
    """A driver reload is counted as a reset; what the counter shows since then is kept, and nothing is negative."""
    timeline = Timeline(GPU)

    ticks = ticks_of(timeline, polled(1_000_000_000, 1_000_100_000, 40_000, 50_000))

    assert [t.energy_uj for t in ticks] == [100_000, 40_000, 10_000]
    assert TickKind.RESET is ticks[1].kind
    assert kinds(timeline) == [EventKind.RESET]


def test_a_jump_that_no_device_can_make_is_no_energy() -> None:
    """A counter that jumps by more than the device can use is a reset: none of the jump is booked."""
    timeline = Timeline(GPU)

    ticks = ticks_of(timeline, polled(0, 2**63, 2**63 + 5))

    assert [t.energy_uj for t in ticks] == [0, 5]
    assert kinds(timeline) == [EventKind.RESET]


def test_a_counter_that_stands_still_is_counted_once_as_stalled() -> None:
    """A counter that does not move for two seconds stalls; when it moves again the gap is bridged."""
    timeline = Timeline(GPU)

    ticks = ticks_of(timeline, polled(0, 100, *([100] * 300), 40_000))

    assert kinds(timeline) == [EventKind.STALL]
    assert [t.kind for t in ticks] == [TickKind.NORMAL, TickKind.BRIDGED]


def test_a_failed_read_is_bridged() -> None:
    """The tick over a failed read has the counter's total, and says that its course is not known."""
    timeline = Timeline(GPU)
    readings = polled(0, 100, 200)
    timeline.add(readings[0])
    timeline.add(readings[1])
    timeline.failed(Event(15 * MS, EventKind.READ_FAILURE, device="gpu-0"))

    tick = timeline.add(readings[2])

    assert tick == Tick("gpu-0", 10 * MS, 20 * MS, 100, TickKind.BRIDGED, 200)


def test_lost_polls_are_bridged_without_being_told() -> None:
    """A hole in the polls shows by itself."""
    timeline = Timeline(GPU)
    ticks = ticks_of(timeline, [*polled(0, 100, 200, 300, 400), Reading(600 * MS, "gpu-0", counter_uj=900)])

    assert TickKind.BRIDGED is ticks[-1].kind


def test_a_reading_from_the_past_is_counted_and_dropped() -> None:
    """Two readings at one time, or out of order, end no tick."""
    timeline = Timeline(GPU)

    ticks = ticks_of(timeline, [polled(0, 100)[1], polled(0)[0], polled(0, 100)[1]])

    assert ticks == []
    assert kinds(timeline) == [EventKind.LATE, EventKind.LATE]


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 350_000)), min_size=2, max_size=50))
def test_power_is_integrated_to_the_picojoule(samples: list[tuple[int, int]]) -> None:
    """Ticks of power that each sample sees changed sum to the trapezoid's area, less than 1 µJ apart."""
    timeline = Timeline(GPU)
    t_ns, exact_pj, last_mw, total_uj = 0, 0, 0, 0
    for i, (elapsed_ms, half_mw) in enumerate(samples):
        power_mw = 2 * half_mw + i % 2
        t_ns += elapsed_ms * MS
        exact_pj += (last_mw + power_mw) * elapsed_ms * MS if i else 0
        last_mw = power_mw
        tick = timeline.add(Reading(t_ns, "gpu-0", power_mw=power_mw))
        total_uj += tick.energy_uj if tick else 0

    assert 0 <= exact_pj / 2e6 - total_uj < 1


def test_power_samples_far_apart_are_not_joined() -> None:
    """What was used between samples more than three seconds apart is not known, so it is not booked."""
    timeline = Timeline(GPU)
    readings = [Reading(0, "gpu-0", power_mw=1000), Reading(4000 * MS, "gpu-0", power_mw=1000)]

    assert ticks_of(timeline, readings) == []
    assert kinds(timeline) == [EventKind.READ_FAILURE]


def test_a_gap_in_which_a_counter_may_have_gone_round_unseen_is_a_lower_bound() -> None:
    """65.7 kJ take 44 s at 1.5 times 1 kW: what a longer gap shows is of no known course, and an event says so."""
    wraps_at_uj = 65_700_000_000
    timeline = Timeline(Device("cpu-0", max_watts=1000.0))
    seconds = (0, 10, 20, 210, 220)
    ticks = ticks_of(
        timeline,
        [Reading(s * 1000 * MS, "cpu-0", s * 700_000_000 % wraps_at_uj, wraps_at_uj=wraps_at_uj) for s in seconds],
    )

    assert [tick.kind for tick in ticks] == [TickKind.NORMAL, TickKind.NORMAL, TickKind.RESET, TickKind.NORMAL]
    assert ticks[2].energy_uj == 190 * 700_000_000 - 2 * wraps_at_uj
    assert kinds(timeline).count(EventKind.RESET) == 1


def test_a_slow_power_meter_is_integrated_from_its_second_poll_on() -> None:
    """A poll each 10 s is known as slow after the first gap; a gap of three polls is none of its own."""
    timeline = Timeline(Device("server"))
    ticks = ticks_of(timeline, [Reading(s * 1000 * MS, "server", power_mw=500_000) for s in (0, 10, 20, 40, 140, 150)])

    assert [(tick.t0_ns // (1000 * MS), tick.energy_uj // 10**6) for tick in ticks] == [
        (10, 5000),
        (20, 10000),
        (140, 5000),
    ]


def renewed(period_ms: int, watts: list[int], poll_ms: int = 20) -> list[Reading]:
    """Return the polls of a meter that shows a new power every `period_ms`."""
    count = len(watts) * period_ms // poll_ms
    return [Reading(i * poll_ms * MS, "gpu-0", power_mw=watts[i * poll_ms // period_ms] * 1000) for i in range(count)]


def test_power_that_is_renewed_slower_than_polled_is_one_tick_a_value() -> None:
    """A value holds until the next: ticks as long as the meter's period, each with the power that it showed."""
    watts = [100 + 10 * (i % 7) for i in range(40)]
    timeline = Timeline(Device("gpu-0"))

    ticks = ticks_of(timeline, renewed(100, watts))[-20:]

    assert [tick.elapsed_ns for tick in ticks] == [100 * MS] * 20
    assert [round(tick.energy_uj * 1000 / tick.elapsed_ns) for tick in ticks] == watts[-21:-1]


def test_power_that_stays_as_it_was_is_closed_all_the_same() -> None:
    """A meter that shows the same for seconds holds nothing up for longer than a quarter of one."""
    timeline = Timeline(Device("gpu-0"))

    ticks = ticks_of(timeline, renewed(100, [100 + i % 3 for i in range(30)] + [75] * 50))

    assert max(tick.elapsed_ns for tick in ticks) <= 250 * MS
    assert ticks[-1].t1_ns >= 7750 * MS
    assert ticks[-1].energy_uj * 1000 == 75_000_000 * ticks[-1].elapsed_ns // MS


def test_a_slow_meter_that_shows_the_same_is_closed_at_each_poll() -> None:
    """A server's power, polled each ten seconds, is no value to be held: each poll ends a tick."""
    timeline = Timeline(Device("server", max_watts=2000.0))

    ticks = ticks_of(timeline, [Reading(i * 10_000 * MS, "server", power_mw=500_000) for i in range(30)])

    assert [tick.elapsed_ns for tick in ticks[-20:]] == [10_000 * MS] * 20


def test_held_power_conserves_what_was_shown() -> None:
    """However values and polls fall, the ticks sum to each value times the time until the next was seen, or placed."""
    random = np.random.default_rng(6)
    readings = renewed(100, random.integers(60, 700, 60).tolist())
    timeline = Timeline(Device("gpu-0"))

    ticks = ticks_of(timeline, readings)

    shown = [(reading.t_ns, reading.power_mw or 0) for reading in readings if reading.t_ns <= ticks[-1].t1_ns]
    by_trapezoid_uj = sum((a + b) * (t1 - t0) / 2e6 for (t0, a), (t1, b) in itertools.pairwise(shown))
    assert sum(tick.energy_uj for tick in ticks) == pytest.approx(by_trapezoid_uj, rel=0.01)
    assert all(a.t1_ns == b.t0_ns for a, b in itertools.pairwise(ticks))
