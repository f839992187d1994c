"""Of which time a tick of a counter tells: its own, or where power is averaged also of the time before. Pure."""

import numpy as np

from inferwatt.attribution.arrays import Floats, Ints


def told_ns(moment_ns: Ints, t0_ns: Ints | int, t1_ns: Ints | int, window_ns: Ints | int) -> Ints | Floats:
    """Return how much of what was used until a moment a tick shows, as time at constant power, nanoseconds.

    A counter that averages over a window adds, from `t0_ns` to `t1_ns`, what was used in each of the ticks that are
    this one moved back by 0 to `window_ns`, in equal parts.

    Args:
        moment_ns: any shape.
        t0_ns: where the tick begins; like the others, it must broadcast with the moments.
        t1_ns: where it ends.
        window_ns: over how long power is averaged; an int 0 for not at all.
    """
    if isinstance(window_ns, int) and window_ns == 0:
        return np.minimum(np.maximum(moment_ns, t0_ns), t1_ns) - t0_ns
    return (_area(moment_ns - t0_ns + window_ns, t1_ns - t0_ns) - _area(moment_ns - t0_ns, t1_ns - t0_ns)) / window_ns


def _area(past_ns: Ints, elapsed_ns: Ints | int) -> Floats:
    """Return the integral of what `told_ns` is without a window, from the tick's begin to `past_ns` after it."""
    inside = np.minimum(np.maximum(past_ns, 0), elapsed_ns).astype(np.float64)
    area: Floats = inside**2 / 2 + np.maximum(past_ns - elapsed_ns, 0) * elapsed_ns
    return area
