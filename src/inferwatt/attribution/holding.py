"""Who held a device during a tick, from what was seen of it. Pure."""

from collections import deque

from inferwatt.attribution.timeline import Tick
from inferwatt.records import Activity


def mean_activity(activities: deque[Activity], tick: Tick) -> Activity | None:
    """Return the mean activity over the tick, weighted by time; None where nothing is known of it."""
    shares: dict[str, float] = {}
    other = unknown = 0.0
    covered_ns = 0
    for seen in activities:
        if seen.t0_ns >= tick.t1_ns:
            break
        inside_ns = min(seen.t1_ns, tick.t1_ns) - max(seen.t0_ns, tick.t0_ns)
        if inside_ns <= 0:
            continue
        covered_ns += inside_ns
        other += seen.other_ratio * inside_ns
        unknown += seen.unknown_ratio * inside_ns
        for name, ratio in seen.shares.items():
            shares[name] = shares.get(name, 0.0) + ratio * inside_ns
    if covered_ns == 0:
        return None
    return Activity(
        tick.t0_ns,
        tick.t1_ns,
        tick.device,
        {name: value / covered_ns for name, value in shares.items()},
        other / covered_ns,
        unknown / covered_ns,
    )
