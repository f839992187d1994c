"""How late a counter is, from steps and ticks of a device whose lag is known."""

from dataclasses import replace

import numpy as np
import pytest

from inferwatt.attribution.lag import MOST_NS, Lag
from inferwatt.attribution.timeline import Tick
from inferwatt.attribution.work import Shape, StepRows, StepStore, from_steps

MS = 1_000_000
TICK_NS = 100 * MS
SHAPE = Shape(16e9, 0.0, 131072.0)


def load(seed: int, count: int) -> StepStore:
    """Return steps of a changing load: decodes of 10 ms, now and then a prompt of 60 ms, and pauses."""
    random, store, now_ns = np.random.default_rng(seed), StepStore(), 0
    for _ in range(count):
        prompt, lasting_ns = (2000.0, 60 * MS) if random.random() < 0.1 else (0.0, 10 * MS)
        rows = np.array([prompt or 1.0]), np.array([500.0]), np.array([bool(prompt)])
        store.add(StepRows(now_ns, now_ns + lasting_ns, np.array([0]), *rows))
        now_ns += lasting_ns + (80 * MS if random.random() < 0.02 else 0)
    return store


def watts(step: StepRows) -> float:
    """Return what the device draws in a step."""
    return 650.0 if step.prefill[0] else 350.0


def learnt(lag_ns: int, *, follows: bool = True) -> int:
    """Return what is learnt of a counter that is `lag_ns` late."""
    store, lag, random = load(1, 4000), Lag(), np.random.default_rng(2)
    for number in range(3, 400):
        t0_ns, t1_ns = number * TICK_NS, (number + 1) * TICK_NS
        energy_uj = 75.0 * TICK_NS / 1000
        for step in store.overlapping(t0_ns - lag_ns, t1_ns - lag_ns):
            inside_ns = min(step.t1_ns, t1_ns - lag_ns) - max(step.t0_ns, t0_ns - lag_ns)
            energy_uj += (watts(step) - 75.0) * inside_ns / 1000
        if not follows:
            energy_uj = random.uniform(100, 600) * TICK_NS / 1000
        tick = Tick("gpu-0", t0_ns, t1_ns, round(energy_uj * random.normal(1, 0.01)))
        if lag.is_due():
            lag.learn(tick, store.overlapping(t0_ns - MOST_NS, t1_ns), SHAPE)
    return lag.ns


@pytest.mark.parametrize("lag_ms", [20, 35, 80, 120])
def test_a_lag_is_found(lag_ms: int) -> None:
    """Ticks that show the steps of a little earlier tell how much earlier, to 5 ms."""
    assert learnt(lag_ms * MS) == pytest.approx(lag_ms * MS, abs=5 * MS)


def test_a_counter_in_time_has_none() -> None:
    """Where the ticks show their own steps nothing is moved by more than a poll's part."""
    assert learnt(0) <= 5 * MS


def test_power_that_follows_no_step_tells_nothing() -> None:
    """Where no lag explains the ticks better than none, none is supposed."""
    assert learnt(0, follows=False) == 0


@pytest.mark.parametrize("window_ms", [100, 300, 1000])
def test_a_window_is_found(window_ms: int) -> None:
    """A counter that averages over a window is known by it, and shows the work of that time."""
    store, lag, window_ns = load(1, 4000), Lag(), window_ms * MS
    for number in range(15, 200):
        tick = Tick("gpu-0", number * TICK_NS, (number + 1) * TICK_NS, 0)
        shown = [
            (step, from_steps([step], tick.t0_ns, tick.t1_ns, SHAPE, window_ns))
            for step in store.overlapping(tick.t0_ns - window_ns, tick.t1_ns)
        ]
        busy = [(step, work.seconds.sum()) for step, work in shown if work]
        energy_uj = 75.0 * TICK_NS / 1000 + sum((watts(step) - 75.0) * seconds * 1e6 for step, seconds in busy)
        if lag.is_due():
            lag.learn(
                replace(tick, energy_uj=round(energy_uj)), store.overlapping(tick.t0_ns - MOST_NS, tick.t1_ns), SHAPE
            )

    assert lag.window_ns == pytest.approx(window_ns, rel=0.01)
    assert lag.ns <= 20 * MS
    assert lag.reach_ns == lag.ns + lag.window_ns
