"""Divide a whole number of microjoules by weights, to the last microjoule. Pure, no clock, no I/O."""

from collections.abc import Sequence
from math import floor, inf

import numpy as np
import numpy.typing as npt

_FEW = 8


def apportion(total_uj: int, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Divide `total_uj` in proportion to `weights`, by largest remainder (Hamilton's method).

    The counter decides the total, the weights only the shares. Ties go to the lower index: equal input, equal
    output.

    Args:
        total_uj: energy of the tick by the device's counter, microjoules, >= 0.
        weights: shape (n,), what each account is expected to have used, any one unit, >= 0, with a sum > 0.

    Returns:
        Shape (n,), microjoules, with ``result.sum() == total_uj`` exactly.

    Raises:
        ValueError: the total or a weight is negative or not finite, or no weight is above zero.
    """
    with np.errstate(over="ignore"):
        sum_weights = float(weights.sum()) if len(weights) else 0.0
    if total_uj < 0 or not 0 < sum_weights < np.inf or weights.min() < 0:
        raise ValueError(f"cannot divide {total_uj} µJ by weights that sum to {sum_weights}")
    exact_uj = weights / sum_weights * total_uj
    shares_uj = np.floor(exact_uj).astype(np.int64)
    left_uj = total_uj - int(shares_uj.sum())
    if left_uj == 0:
        return shares_uj
    if 0 < left_uj < len(weights):
        order = np.argsort(shares_uj - exact_uj, kind="stable")
        shares_uj[order[:left_uj]] += 1
        return shares_uj
    return _exactly(total_uj, weights)


def apportion_few(total_uj: int, weights: Sequence[float]) -> list[int]:
    """Divide as `apportion` does, to the same microjoules, where arrays would cost more than they save.

    Args:
        total_uj: as there.
        weights: as there; below eight of them numpy adds in the order given, as is done here.
    """
    sum_weights = 0.0
    for weight in weights:
        sum_weights += weight
    if len(weights) >= _FEW or total_uj < 0 or not 0 < sum_weights < inf or min(weights) < 0:
        return [int(uj) for uj in apportion(total_uj, np.array(weights, dtype=np.float64))]
    exact_uj = [weight / sum_weights * total_uj for weight in weights]
    shares_uj = [floor(exact) for exact in exact_uj]
    left_uj = total_uj - sum(shares_uj)
    if left_uj == 0:
        return shares_uj
    if not 0 < left_uj < len(weights):
        return [int(uj) for uj in _exactly(total_uj, np.array(weights, dtype=np.float64))]
    for at in sorted(range(len(weights)), key=lambda i: shares_uj[i] - exact_uj[i])[:left_uj]:
        shares_uj[at] += 1
    return shares_uj


def _exactly(total_uj: int, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Do the same in whole numbers, for totals that a float cannot hold to the microjoule."""
    parts = [int(w * 2**52 / float(weights.max())) for w in weights]
    total_parts = sum(parts)
    shares = [total_uj * part // total_parts for part in parts]
    order = sorted(range(len(parts)), key=lambda i: (-(total_uj * parts[i] % total_parts), i))
    for i in order[: total_uj - sum(shares)]:
        shares[i] += 1
    return np.array(shares, dtype=np.int64)
