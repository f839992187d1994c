from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inferwatt.attribution.split import apportion, apportion_few

TICKS = st.integers(min_value=0, max_value=10**15)  # up to a gigajoule, in µJ
WEIGHTS = st.lists(st.floats(min_value=0, max_value=1e18, allow_nan=False), min_size=1, max_size=40)


@given(TICKS, WEIGHTS)
def test_no_microjoule_is_lost_or_made(total_uj: int, weights: list[float]) -> None:
    """Whatever the weights, the shares sum to the counter exactly, and none is negative."""
    assume(0 < sum(weights) < float("inf"))

    shares_uj = apportion(total_uj, np.array(weights))

    assert total_uj == int(shares_uj.sum())
    assert (shares_uj >= 0).all()


@given(st.integers(min_value=0, max_value=10**12), st.lists(st.integers(0, 10**6), min_size=1, max_size=40))
def test_no_member_pays_for_rounding(total_uj: int, weights: list[int]) -> None:
    """Each share is less than 1 µJ (and what a float cannot tell) from its exact fraction of the tick."""
    assume(any(weights))

    for weight, share_uj in zip(weights, apportion(total_uj, np.array(weights, dtype=float)).tolist(), strict=True):
        exact_uj = Fraction(total_uj * weight, sum(weights))

        assert abs(exact_uj - share_uj) < 1 + Fraction(total_uj, 10**14)


@given(TICKS, WEIGHTS)
def test_few_are_divided_as_many(total_uj: int, weights: list[float]) -> None:
    """Without arrays the shares are the same, to the microjoule."""
    assume(0 < sum(weights) < float("inf"))

    assert apportion(total_uj, np.array(weights)).tolist() == apportion_few(total_uj, weights)


def test_ties_go_to_the_first() -> None:
    """What is left over after equal shares goes to the first in line, each time alike."""
    assert apportion(5, np.ones(3)).tolist() == [2, 2, 1]


def test_a_total_beyond_what_a_float_holds_is_divided_exactly() -> None:
    """A tick of more microjoules than a float can count is still divided to the microjoule."""
    shares_uj = apportion(2**62 + 1, np.array([1.0, 1.0, 1.0]))

    assert sum(shares_uj.tolist()) == 2**62 + 1
    assert max(shares_uj.tolist()) - min(shares_uj.tolist()) <= 1


@pytest.mark.parametrize(
    ("total_uj", "weights"), [(1, []), (1, [0.0]), (-1, [1.0]), (1, [1.0, -0.5]), (1, [float("nan")]), (1, [1e308] * 2)]
)
def test_what_cannot_be_divided_is_refused(total_uj: int, weights: list[float]) -> None:
    """A negative total, a negative or endless weight, or no weight at all is an error, not a share."""
    with pytest.raises(ValueError, match="cannot divide"):
        apportion(total_uj, np.array(weights))
