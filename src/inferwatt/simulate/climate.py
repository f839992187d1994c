"""What changes while an engine runs: clocks, heat, a power cap, and power that follows no work at all. Pure."""

from dataclasses import dataclass
from math import exp, pi, sin

import numpy as np

from inferwatt.simulate.costs import Condition, Floats, StepCosts

_SLOWEST_CLOCK = 0.3
_CAP_STEPS = 20
"""Halvings of the search for the clock that keeps a cap."""


@dataclass(frozen=True, slots=True)
class Climate:
    """How conditions change, in seconds since the start of the run; with its defaults nothing does.

    `heat_ratio` is how much more power a warm device draws; it warms up by `heat_seconds`. `clock_swing` is how far
    the clock swings below its highest, once in `swing_seconds`. From `cap_after_seconds` on the clock follows power,
    late by `cap_seconds`, so that it stays under `cap_watts`; `cap_told` writes that as an event. `wander_ratio` lets
    power wander whatever runs, within `wander_seconds`.
    """

    heat_ratio: float = 0.0
    heat_seconds: float = 20.0
    clock_swing: float = 0.0
    swing_seconds: float = 15.0
    cap_watts: float | None = None
    cap_after_seconds: float = 15.0
    cap_seconds: float = 0.1
    cap_told: bool = True
    wander_ratio: float = 0.0
    wander_seconds: float = 2.0


class Weather:
    """The climate as it goes on, step by step."""

    def __init__(self, climate: Climate, cost: StepCosts, seed: int) -> None:
        self._climate = climate
        self._cost = cost
        self._rng = np.random.default_rng(seed)
        self._capped = 1.0
        self._wander = 0.0
        self._then = 0.0

    def condition(self, seconds: float, sums: Floats) -> Condition:
        """Return what holds in the step that begins `seconds` after the start, with this work."""
        climate = self._climate
        passed, self._then = seconds - self._then, seconds
        clock = 1.0 - climate.clock_swing * (0.5 - 0.5 * sin(2 * pi * seconds / climate.swing_seconds))
        power = 1.0 + climate.heat_ratio * (1.0 - exp(-seconds / climate.heat_seconds))
        if climate.wander_ratio:
            kept = exp(-passed / climate.wander_seconds)
            fresh = self._rng.normal() * (1.0 - kept**2) ** 0.5
            self._wander = self._wander * kept + fresh
            power *= exp(climate.wander_ratio * self._wander)
        if climate.cap_watts is not None and seconds >= climate.cap_after_seconds:
            aim = self._clock_under(climate.cap_watts / power, sums)
            self._capped += (aim - self._capped) * (1.0 - exp(-passed / climate.cap_seconds))
            clock = min(clock, self._capped)
        return Condition(clock, power)

    def _clock_under(self, watts: float, sums: Floats) -> float:
        """Return the highest clock at which a step with this work stays under so many watts."""
        low, high = _SLOWEST_CLOCK, 1.0
        if self._watts(sums, high) <= watts:
            return high
        for _ in range(_CAP_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._watts(sums, middle) <= watts else (low, middle)
        return low

    def _watts(self, sums: Floats, clock: float) -> float:
        return float(self._cost.joules(sums, clock) / self._cost.seconds(sums, clock))
