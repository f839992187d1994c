"""Shapley's value of what a group's members cause together, where that is no sum of what each causes alone. Pure.

A cost that is a sum has a closed form: what is shared in equal parts, and each one's own. A step's time is not (the
longer of computing and reading counts), nor are the experts that its tokens touch (the first token of each counts).
For these the value is an integral over the multilinear extension (G. Owen, "Multilinear Extensions of Games",
Management Science 18(5), 1972): each other member is there with probability t, and t goes from 0 to 1. The others are
taken at their mean, but for the two largest of them, which are there or not: long prompts beside many short steps.
"""

from collections.abc import Callable, Sequence

import numpy as np

from inferwatt.attribution.arrays import Floats, Ints

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)
_T = (_NODES + 1) / 2
_FIRST, _SECOND = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
"""Whether the largest and the second largest of the others are there."""
_BLOCK = 1024
"""Rows that are worked out together: what they need fits into a core's cache."""
_LEAST_PART = 1e-12
"""Less of a group's sum is what rounding left where nobody is: it is no work, and a step without work costs nothing."""
_THERE = (_FIRST + _SECOND)[:, None]
_CHANCE = (_WEIGHTS / 2 * _T**_THERE * (1 - _T) ** (2 - _THERE)).ravel()
_MEAN, _HAS_FIRST, _HAS_SECOND = (
    column[:, None] for column in (np.tile(_T, 4), np.repeat(_FIRST, 4), np.repeat(_SECOND, 4))
)


def shapley(columns: Sequence[Floats], group: Ints, groups: int, value: Callable[..., Floats]) -> Floats:
    """Return each row's part of `value` of its group's sums, by Shapley's rule.

    Args:
        columns: what each row brings, one array of shape (rows,) for each argument of `value`, >= 0.
        group: shape (rows,), the index of each row's group.
        groups: how many groups there are.
        value: what sums of the columns cause, elementwise; not decreasing, 0 where all are 0.

    Returns:
        Shape (rows,), >= 0, whose sums by group are the groups' values.
    """
    sums = [np.bincount(group, column, groups) for column in columns]
    first, second = _largest_others(columns, group)
    others = []
    for whole, own in zip(sums, columns, strict=True):
        one, two = np.where(first < 0, 0.0, own[first]), np.where(second < 0, 0.0, own[second])
        rest = whole[group] - own - one - two
        rest[rest < _LEAST_PART * whole[group]] = 0.0
        others.append((own, rest, one, two))
    part = np.empty(len(group))
    for at in range(0, len(group), _BLOCK):
        rows = slice(at, at + _BLOCK)
        part[rows] = _mean_gain([[each[rows] for each in column] for column in others], value)
    found = np.bincount(group, part, groups)
    scale = np.divide(value(*sums), found, out=np.zeros(groups), where=found > 0)
    result: Floats = part * scale[group]
    return result


def _mean_gain(columns: Sequence[Sequence[Floats]], value: Callable[..., Floats]) -> Floats:
    """Return what rows add to `value` in the mean: each column's own part, the others' rest, and their two largest."""
    before = [_MEAN * rest + _HAS_FIRST * one + _HAS_SECOND * two for _, rest, one, two in columns]
    after = [each + own for each, (own, *_) in zip(before, columns, strict=True)]
    result: Floats = np.maximum(_CHANCE @ (value(*after) - value(*before)), 0.0)
    return result


def _largest_others(columns: Sequence[Floats], group: Ints) -> tuple[Ints, Ints]:
    """Return for each row the two rows of its group that are largest without it; -1 where there is none.

    The first column decides, of equal ones the next: so that equal members have equal others.
    """
    order = np.lexsort((*reversed(columns), group))
    last = np.flatnonzero(np.diff(group[order], append=-1))
    top = [_kth(order, last, group, back) for back in range(3)]
    place = np.zeros(int(group.max(initial=0)) + 1, dtype=np.int64)
    place[group[order[last]]] = np.arange(len(last))
    largest, second, third = (each[place[group]] for each in top)
    rows = np.arange(len(group))
    first: Ints = np.where(largest == rows, second, largest)
    return first, np.where((largest == rows) | (second == rows), third, second)


def _kth(order: Ints, last: Ints, group: Ints, back: int) -> Ints:
    """Return each group's row that is `back` places before its largest; -1 where there is none."""
    place = np.maximum(last - back, 0)
    rows: Ints = order[place]
    return np.where((group[rows] == group[order[last]]) & (last >= back), rows, -1)
