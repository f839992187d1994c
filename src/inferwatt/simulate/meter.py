"""An energy counter as real ones are: it ticks, lags, averages, rounds, and a poll of it sometimes fails. Pure.

The true energy is a piecewise linear function of time. The counter publishes it only at its own ticks (20 to 100 ms:
Alumet's and Zeus' observations of NVML), late, averaged over a window, in whole millijoules; a poll sees the last one
published. With no noise and a gain of one, what the counter gains is the true energy, but for its last tick.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from inferwatt.records import Event, EventKind, Reading
from inferwatt.simulate.costs import Floats
from inferwatt.simulate.shapley import Ints

SECOND_NS = 1_000_000_000
_UJ_PER_MJ = 1000
_SHORTEST_WINDOW_SECONDS = 1e-4
"""A shorter one is none: two almost equal integrals would be subtracted."""


@dataclass(frozen=True, slots=True)
class Meter:
    """How a counter is, and how it is polled; times in seconds.

    With `shows_power` it shows no counter but power, averaged over the window (at least a tick), renewed at each tick.
    """

    tick_seconds: float = 0.1
    phase_ratio: float | None = None
    """Where in its period the first tick lies; None draws it."""
    jitter_seconds: float = 0.0005
    lag_seconds: float = 0.0
    window_seconds: float = 0.0
    noise_ratio: float = 0.0
    """Standard deviation of what a tick gains."""
    gain: float = 1.0
    poll_seconds: float = 0.02
    poll_jitter_seconds: float = 0.0002
    lost_ratio: float = 0.0
    failed_ratio: float = 0.0
    shows_power: bool = False


class Energy:
    """The true cumulative energy of a device: power is constant between knots."""

    def __init__(self, knots_ns: Ints, watts: Floats) -> None:
        """Take knots in order, and the power of each span between two of them."""
        self._start_ns = int(knots_ns[0])
        self._seconds = (knots_ns - self._start_ns) / SECOND_NS
        self._watts = np.append(watts, watts[-1])
        spans = np.diff(self._seconds)
        self._joules = np.concatenate([[0.0], np.cumsum(watts * spans)])
        self._integral = np.concatenate([[0.0], np.cumsum(self._joules[:-1] * spans + watts * spans**2 / 2)])

    @property
    def total_joules(self) -> float:
        """All of it."""
        return float(self._joules[-1])

    def joules(self, seconds: Floats) -> Floats:
        """Return the energy used until `seconds` after the first knot."""
        result: Floats = np.interp(seconds, self._seconds, self._joules)
        return result

    def averaged_joules(self, seconds: Floats, window_seconds: float) -> Floats:
        """Return the energy that power averaged over the last `window_seconds` would add up to."""
        if window_seconds < _SHORTEST_WINDOW_SECONDS:
            return self.joules(seconds)
        return (self._integrated(seconds) - self._integrated(seconds - window_seconds)) / window_seconds

    def _integrated(self, seconds: Floats) -> Floats:
        seconds = np.maximum(seconds, 0.0)
        span = np.clip(np.searchsorted(self._seconds, seconds, side="right") - 1, 0, len(self._seconds) - 1)
        past = seconds - self._seconds[span]
        result: Floats = self._integral[span] + self._joules[span] * past + self._watts[span] * past**2 / 2
        return result


def readings(
    meter: Meter, energy: Energy, device: str, span_ns: tuple[int, int], rng: np.random.Generator
) -> Iterator[Reading | Event]:
    """Return what a poll of the counter sees from the first to the last moment of `span_ns`."""
    start_ns, end_ns = span_ns
    seconds = (end_ns - start_ns) / SECOND_NS
    tick_seconds, shown = (_powers if meter.shows_power else _ticks)(meter, energy, seconds, rng)
    polls = np.arange(0.0, seconds, meter.poll_seconds)
    polls = polls + np.abs(rng.normal(0.0, meter.poll_jitter_seconds, len(polls)))
    seen = shown[np.maximum(np.searchsorted(tick_seconds, polls, side="right") - 1, 0)]
    luck = rng.random(len(polls))
    for moment, value, chance in zip(polls.tolist(), seen.tolist(), luck.tolist(), strict=True):
        t_ns = start_ns + round(moment * SECOND_NS)
        if chance < meter.failed_ratio:
            yield Event(t_ns, EventKind.READ_FAILURE, device=device)
        elif chance >= meter.failed_ratio + meter.lost_ratio:
            yield Reading(t_ns, device, **{"power_mw" if meter.shows_power else "counter_uj": value})


def _ticks(meter: Meter, energy: Energy, seconds: float, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Return when the counter moves and what it then shows, beginning before the first poll."""
    moments = _moments(meter, seconds, rng)
    shown = energy.averaged_joules(np.maximum(moments - meter.lag_seconds, 0.0), meter.window_seconds)
    gained = np.diff(shown, prepend=0.0) * (1.0 + rng.normal(0.0, meter.noise_ratio, len(shown)))
    joules = np.cumsum(np.maximum(gained, 0.0)) * meter.gain
    begun_mj = int(rng.integers(1_000_000, 1_000_000_000))
    return moments, (np.floor(joules * 1000.0).astype(np.int64) + begun_mj) * _UJ_PER_MJ


def _powers(meter: Meter, energy: Energy, seconds: float, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Return when the shown power is renewed, and what it then is, mW."""
    moments, window = _moments(meter, seconds, rng), max(meter.window_seconds, meter.tick_seconds)
    until = np.maximum(moments - meter.lag_seconds, 0.0)
    since = np.maximum(until - window, 0.0)
    watts = np.divide(
        energy.joules(until) - energy.joules(since), until - since, out=np.zeros_like(until), where=until > since
    )
    noisy = watts * meter.gain * (1.0 + rng.normal(0.0, meter.noise_ratio, len(watts)))
    return moments, np.rint(noisy * 1000.0).astype(np.int64)


def _moments(meter: Meter, seconds: float, rng: np.random.Generator) -> Floats:
    """Return when what is shown is renewed, beginning before the first poll."""
    phase = rng.random() if meter.phase_ratio is None else meter.phase_ratio
    regular = (np.arange(-1, int(seconds / meter.tick_seconds) + 2) + phase) * meter.tick_seconds
    moments: Floats = np.maximum.accumulate(regular + rng.normal(0.0, meter.jitter_seconds, len(regular)))
    return moments
