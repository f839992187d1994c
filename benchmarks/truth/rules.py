"""Simple rules beside those that replay knows: the best token price of a few, and residence, moment by moment."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.truth.scores import Score, score_joules
from inferwatt.records import Reading, Request
from inferwatt.simulate.world import Truth

Floats = npt.NDArray[np.float64]
PRICES = (1 / 5, 1 / 10, 1 / 20, 1 / 50)
"""Prices of a computed prompt token, in output tokens."""


def best_price(truth: Mapping[str, Truth], requests: Mapping[str, Request], total_joules: float) -> tuple[str, Score]:
    """Return the best of a few token prices, chosen with the truth in hand, which no user could."""
    scored = {f"token price 1/{round(1 / price)}": _priced(truth, requests, price, total_joules) for price in PRICES}
    return min(scored.items(), key=lambda item: item[1].misplaced)


def _priced(truth: Mapping[str, Truth], requests: Mapping[str, Request], price: float, total_joules: float) -> Score:
    weights = {
        name: price * ((row.prompt_tokens or 0) - (row.cached_tokens or 0)) + (row.output_tokens or 0)
        for name, row in requests.items()
    }
    total = sum(weights.values())
    return score_joules(truth, {name: weight / total * total_joules for name, weight in weights.items()})


def live_residence(truth: Mapping[str, Truth], requests: Mapping[str, Request], readings: Sequence[Reading]) -> Score:
    """Score the rule that divides power, moment by moment, by how many requests are there."""
    arrivals = np.array([row.arrival_ns for row in requests.values()], dtype=np.float64)
    ends = np.array([row.end_ns or 0 for row in requests.values()], dtype=np.float64)
    moments = np.unique(np.concatenate([arrivals, ends]))
    there = np.searchsorted(np.sort(arrivals), moments, "right") - np.searchsorted(np.sort(ends), moments, "right")
    gained = np.diff(_counted_joules(readings, moments))
    each = np.concatenate([[0.0], np.cumsum(gained / np.maximum(there[:-1], 1))])
    joules = np.interp(ends, moments, each) - np.interp(arrivals, moments, each)
    return score_joules(truth, dict(zip(requests, joules.tolist(), strict=True)))


def _counted_joules(readings: Sequence[Reading], moments: Floats) -> Floats:
    """Return what all counters together showed at these moments, between their changes by a straight line.

    Where power is shown, its sum over time stands for a counter.
    """
    total = np.zeros(len(moments))
    for device in {reading.device for reading in readings}:
        rows = [(row.t_ns, row.counter_uj or 0, row.power_mw or 0) for row in readings if row.device == device]
        times, counters, powers = np.array(rows, dtype=np.float64).T
        counters = counters + np.concatenate([[0.0], np.cumsum(np.diff(times) * powers[1:])]) / 1e6
        moved = np.diff(counters, prepend=-1.0) > 0
        total += np.interp(moments, times[moved], counters[moved]) / 1e6
    return total
