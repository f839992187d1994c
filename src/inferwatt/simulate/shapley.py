"""What each member of a step truly caused: its Shapley value under the true cost function. Pure.

v(S) is split into what any step costs, which all members share equally, and a rest that is zero for no member. Where
the rest is a plain sum, a member's part is its own; else it is averaged over orders of arrival: all of them for few
members, and pairs of an order and its reverse, drawn from a seed, for more.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from inferwatt.simulate.costs import Floats, StepCosts

Ints = npt.NDArray[np.int64]

_FEW_MEMBERS = 4
"""Up to so many members, all orders are tried."""
_PAIRS_ALIKE = 32
_PAIRS_UNLIKE = 768
"""Pairs of orders a step: members that are much alike need few."""
_UNLIKE_TOKENS = 8
"""A step in which one member has so many new tokens has unlike members."""
_CELLS = 1_000_000
"""Numbers handled at once."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps with their members' work in one table: step `i` owns rows `offsets[i]` to `offsets[i + 1]`."""

    offsets: Ints
    work: Floats
    clock_ratio: Floats
    power_ratio: Floats


@dataclass(frozen=True, slots=True)
class Values:
    """Each row's true joules, and the variance of what sampling orders left uncertain."""

    joules: Floats
    variance: Floats


def shapley(cost: StepCosts, steps: Steps, seed: int) -> Values:
    """Return the Shapley value of each row; equal seeds give equal values."""
    rng = np.random.default_rng(seed)
    joules, variance = np.zeros(len(steps.work)), np.zeros(len(steps.work))
    counts = np.diff(steps.offsets)
    for members in np.unique(counts[counts > 0]):
        index = np.flatnonzero(counts == members)
        for chosen in _chunks(index, int(members)):
            rows = steps.offsets[chosen][:, None] + np.arange(members)
            values = _of_equal_size(cost, steps.work[rows], steps.clock_ratio[chosen], rng)
            ratio = steps.power_ratio[chosen][:, None]
            joules[rows], variance[rows] = values.joules * ratio, values.variance * ratio**2
    return Values(joules, variance)


def _chunks(index: Ints, members: int) -> list[Ints]:
    size = max(1, _CELLS // (members * _PAIRS_UNLIKE))
    return [index[start : start + size] for start in range(0, len(index), size)]


def _of_equal_size(cost: StepCosts, work: Floats, clock: Floats, rng: np.random.Generator) -> Values:
    """Return the values of steps with equally many members: `work` has shape (steps, members, 4)."""
    members = work.shape[1]
    base = cost.joules(np.zeros((len(work), 4)), clock)
    joules = cost.joules(work, clock[:, None]) - base[:, None]
    variance = np.zeros_like(joules)
    rest = ~cost.is_affine(work, clock) & (members > 1)
    unlike = (work[..., 2] >= _UNLIKE_TOKENS).any(axis=1)
    for index, pairs in ((rest & ~unlike, _PAIRS_ALIKE), (rest & unlike, _PAIRS_UNLIKE)):
        if index.any():
            orders = _orders(int(index.sum()), members, pairs, rng)
            joules[index], variance[index] = _by_orders(cost, work[index], clock[index], base[index], orders)
    return Values(joules + base[:, None] / members, variance)


def _orders(steps: int, members: int, pairs: int, rng: np.random.Generator) -> Ints:
    """Return orders of arrival, shape (steps, orders, members); each stands for itself and its reverse."""
    if members <= _FEW_MEMBERS:
        every = [order for order in permutations(range(members)) if order <= order[::-1]]
        return np.broadcast_to(np.array(every), (steps, len(every), members))
    return np.argsort(rng.random((steps, pairs, members)), axis=-1)


def _by_orders(cost: StepCosts, work: Floats, clock: Floats, base: Floats, orders: Ints) -> tuple[Floats, Floats]:
    """Return the mean marginal joules of each member over orders and their reverses, and the variance of that mean."""
    steps, count, members = orders.shape
    sums = np.cumsum(work[np.arange(steps)[:, None, None], orders], axis=2)
    ahead = cost.joules(sums, clock[:, None, None]) - base[:, None, None]
    behind = cost.joules(sums[:, :, -1:] - sums, clock[:, None, None]) - base[:, None, None]
    behind[:, :, -1] = 0.0
    total = ahead[:, :, -1:]
    marginal = np.diff(ahead, axis=2, prepend=0.0) - np.diff(behind, axis=2, prepend=total)
    placed = np.empty_like(marginal)
    np.put_along_axis(placed, orders, marginal / 2, axis=2)
    spread = placed.var(axis=1) / count if members > _FEW_MEMBERS else np.zeros((steps, members))
    return placed.mean(axis=1), spread
