"""Of which time a tick of a counter tells: its own, or where power is averaged also of the time before. Pure."""

import numpy as np

from inferwatt.attribution.arrays import Floats, Ints


def told_ns(moment_ns: Ints, t0_ns: int, t1_ns: int, window_ns: int) -> Ints | Floats:
    """Return how much of what was used until a moment a tick shows, as time at constant power, nanoseconds.

    A counter that averages over a window adds, from `t0_ns` to `t1_ns`, what was used in each of the ticks that are
    this one moved back by 0 to `window_ns`, in equal parts.

    Args:
        moment_ns: any shape.
        t0_ns: where the tick begins.
        t1_ns: where it ends.
        window_ns: over how long power is averaged; 0 for not at all.
    """
    if window_ns == 0:
        return np.minimum(np.maximum(moment_ns, t0_ns), t1_ns) - t0_ns
    return (_area(moment_ns - t0_ns + window_ns, t1_ns - t0_ns) - _area(moment_ns - t0_ns, t1_ns - t0_ns)) / window_ns


def _area(past_ns: Ints, elapsed_ns: int) -> Floats:
    """Return the integral of what `told_ns` is without a window, from the tick's begin to `past_ns` after it."""
    inside = np.minimum(np.maximum(past_ns, 0), elapsed_ns).astype(np.float64)
    area: Floats = inside**2 / 2 + np.maximum(past_ns - elapsed_ns, 0) * elapsed_ns
    return area


def used_until(moments_ns: Ints, starts_ns: Ints, ends_ns: Ints, each: Floats) -> tuple[Floats, Floats]:
    """Return what steps had used until each moment, and the integral of that: its differences are what a mean tells.

    Args:
        moments_ns: any shape.
        starts_ns: shape (steps,).
        ends_ns: shape (steps,), later.
        each: shape (terms, steps), what each step used, evenly over its time.

    Returns:
        Two arrays of shape (terms, *moments), the second times nanoseconds.
    """
    knots_ns, rates = np.concatenate([starts_ns, ends_ns]), each / (ends_ns - starts_ns)
    order = knots_ns.argsort(kind="stable")
    knots_ns, rates = knots_ns[order], np.concatenate([rates, -rates], axis=1)[:, order].cumsum(axis=1)
    gaps_ns = np.diff(knots_ns).astype(np.float64)
    used, area = np.zeros_like(rates), np.zeros_like(rates)
    np.cumsum(rates[:, :-1] * gaps_ns, axis=1, out=used[:, 1:])
    np.cumsum((used[:, :-1] + used[:, 1:]) * (gaps_ns / 2), axis=1, out=area[:, 1:])
    at = np.maximum(knots_ns.searchsorted(moments_ns, side="right") - 1, 0)
    past_ns = np.maximum(moments_ns - knots_ns[at], 0).astype(np.float64)
    before, more = used[:, at], rates[:, at] * past_ns
    return before + more, area[:, at] + (before + more / 2) * past_ns
