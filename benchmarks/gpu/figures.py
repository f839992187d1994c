"""What is computed from the polls of a GPU: how often values change, and how far integrated power is off. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

RATES_HZ = (10.0, 50.0)
NS = 10**9


@dataclass(frozen=True)
class Sample:
    """One poll: the counter in mJ and two powers in mW; None is what the GPU does not answer."""

    t_ns: int
    energy_mj: int | None
    instant_mw: int | None
    average_mw: int | None


def changes(points: Sequence[tuple[int, int]]) -> dict[str, float] | None:
    """Return how often a polled value changed: its period, median and percentiles in ms; None below three changes."""
    moved = [t for (_, before), (t, value) in pairwise(points) if value != before]
    gaps_ms = sorted((after - before) / 1e6 for before, after in pairwise(moved))
    if len(gaps_ms) < 2:
        return None
    polls_ms = (points[-1][0] - points[0][0]) / 1e6 / (len(points) - 1)
    return {
        "median": round(statistics.median(gaps_ms), 3),
        "p10": round(gaps_ms[len(gaps_ms) // 10], 3),
        "p90": round(gaps_ms[len(gaps_ms) * 9 // 10], 3),
        "changes": len(moved),
        "poll": round(polls_ms, 4),
    }


def thinned(samples: Sequence[Sample], hertz: float) -> list[Sample]:
    """Return the samples that a poll at this rate would have seen."""
    kept: list[Sample] = []
    for sample in samples:
        if not kept or sample.t_ns - kept[-1].t_ns >= NS / hertz * 0.95:
            kept.append(sample)
    return kept


def integrated_joules(points: Sequence[tuple[int, int]]) -> float:
    """Return the integral of (t_ns, mW) by the trapezoidal rule, joules."""
    return sum((p0 + p1) / 2 * (t1 - t0) for (t0, p0), (t1, p1) in pairwise(points)) / 1000 / NS


def counted_joules(samples: Sequence[Sample]) -> float | None:
    """Return what the counter counted from the first to the last sample, None without one."""
    counted = [sample.energy_mj for sample in samples if sample.energy_mj is not None]
    return (counted[-1] - counted[0]) / 1000 if len(counted) > 1 else None


def compared(samples: Sequence[Sample], idle_watts: float | None) -> dict[str, Any]:
    """Return the energy of a window by the counter, and how far each way of integrating power is from it.

    Each way is compared with the counter between its own first and last sample: what a slower poll misses at the ends
    is not its error.
    """
    seconds = (samples[-1].t_ns - samples[0].t_ns) / NS
    found: dict[str, Any] = {"window_seconds": round(seconds, 3), "counter_joules": counted_joules(samples)}
    for hertz in RATES_HZ:
        seen = thinned(samples, hertz)
        counter = counted_joules(seen)
        if not counter:
            continue
        above = counter - (idle_watts or 0.0) * (seen[-1].t_ns - seen[0].t_ns) / NS
        for name in ("instant", "average"):
            powers = [(s.t_ns, power) for s in seen if (power := getattr(s, f"{name}_mw")) is not None]
            if len(powers) != len(seen):
                continue
            off = integrated_joules(powers) - counter
            found[f"{name}_{hertz:g}hz_error_ratio"] = round(off / counter, 5)
            if idle_watts is not None and above > 0.05 * counter:
                found[f"{name}_{hertz:g}hz_error_above_idle_ratio"] = round(off / above, 5)
    return found


def mean_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of each figure over repeated loads, and the spread of the errors."""
    merged: dict[str, Any] = {"repeats": len(rows)}
    for key in {key: None for row in rows for key in row}:
        values = [row[key] for row in rows if row.get(key) is not None]
        merged[key] = round(statistics.mean(values), 5) if values else None
        if key.endswith("_ratio") and len(values) > 1:
            merged[key.replace("_ratio", "_spread_ratio")] = round(statistics.stdev(values), 5)
    return merged
