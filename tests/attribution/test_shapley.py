"""Shapley's value of costs that are no sums: against every order of arrival, and its axioms."""

from itertools import permutations
from math import factorial
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.arrays import Floats
from inferwatt.attribution.shapley import shapley

SIZES = st.lists(st.floats(min_value=0.1, max_value=1e3), min_size=1, max_size=6)


def touched(tokens: Floats) -> Floats:
    """Return the experts that tokens touch: of 64, four each."""
    result: Floats = 64 * (1 - (1 - 4 / 64) ** tokens)
    return result


def by_all_orders(sizes: list[float]) -> list[float]:
    """Return the exact value: the mean gain over every order in which the members could have come."""
    gains = np.zeros(len(sizes))
    for order in permutations(range(len(sizes))):
        sum_so_far = 0.0
        for member in order:
            after = sum_so_far + sizes[member]
            gains[member] += float(touched(np.array(after)) - touched(np.array(sum_so_far)))
            sum_so_far = after
    return [float(gain) / factorial(len(sizes)) for gain in gains]


def of(sizes: list[float]) -> list[float]:
    """Return our value of one group."""
    column = np.array(sizes)
    return [float(x) for x in shapley((column,), np.zeros(len(sizes), dtype=np.int64), 1, touched)]


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1], [500, 1, 1, 1, 1], [300, 200, 1, 1, 1], [8, 4, 2, 1], [30, 7]])
def test_it_is_near_the_mean_over_all_orders(sizes: list[float]) -> None:
    """Long prompts beside single tokens, several prompts, and equals: within 6% of the whole's mean part."""
    exact = by_all_orders(sizes)

    assert of(sizes) == pytest.approx(exact, abs=0.06 * sum(exact) / len(exact))


@given(SIZES)
def test_the_parts_sum_to_the_whole(sizes: list[float]) -> None:
    """Efficiency: what a group causes is divided without a rest."""
    assert sum(of(sizes)) == pytest.approx(float(touched(np.array(sum(sizes)))))


@given(SIZES)
def test_equal_members_have_equal_parts(sizes: list[float]) -> None:
    """Symmetry: two members that bring the same get the same, also where they are the largest."""
    parts = of([*sizes, sizes[0]])

    assert parts[0] == pytest.approx(parts[-1])


@given(SIZES, st.floats(min_value=0.1, max_value=1e3))
def test_groups_do_not_know_each_other(sizes: list[float], other: float) -> None:
    """A group's parts do not change with what is in another."""
    column, group = np.array([*sizes, other]), np.array([*[1] * len(sizes), 0])

    parts = shapley((column,), group, 2, touched)

    assert list(parts[:-1]) == pytest.approx(of(sizes))
    assert parts[-1] == pytest.approx(float(touched(np.array(other))))


def test_without_work_there_is_no_part() -> None:
    """Dummy: a member that brings nothing gets nothing, and a group of such members causes nothing."""
    assert of([3.0, 0.0])[1] == 0
    assert of([0.0, 0.0]) == [0.0, 0.0]


@given(st.lists(st.floats(min_value=0.1, max_value=1e13), min_size=2, max_size=3), st.randoms(use_true_random=False))
def test_what_rounding_leaves_is_nobody(sizes: list[float], random: Random) -> None:
    """A cost that begins with a jump, as computing a prompt at all does, is shared alike in any order of members."""

    def jump(flops: Floats) -> Floats:
        """Return a second for any work at all."""
        return np.where(flops > 0, 1.0, 0.0)

    random.shuffle(sizes)
    parts = shapley((np.array(sizes),), np.zeros(len(sizes), dtype=np.int64), 1, jump)

    assert parts == pytest.approx([1 / len(sizes)] * len(sizes))
