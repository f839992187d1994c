"""Intervals: what was unsure in a request's ticks, as one half-width."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.accounts import DIRECTIONS, NOTES
from inferwatt.attribution.intervals import half_width_uj
from inferwatt.records import Tier

ENERGY_UJ = 1_000_000
UJ = st.floats(-1e6, 1e6)


@given(st.lists(UJ, min_size=DIRECTIONS, max_size=DIRECTIONS), st.floats(0, 1e6))
def test_more_doubt_is_never_a_narrower_interval(moved: list[float], unexplained_uj: float) -> None:
    """Each cause widens it, in whichever direction the coefficients are wrong."""
    doubts = np.array([*moved, unexplained_uj**2])
    width = half_width_uj(Tier.STEP_EXACT, ENERGY_UJ, doubts)

    assert half_width_uj(Tier.STEP_EXACT, ENERGY_UJ, doubts * 2) >= width
    assert half_width_uj(Tier.STEP_EXACT, ENERGY_UJ, -doubts * [*[1] * DIRECTIONS, -1]) == pytest.approx(width)


def test_less_known_of_the_work_is_a_wider_interval() -> None:
    """By tier, where all else is the same."""
    doubts = np.zeros(NOTES)

    widths = [half_width_uj(tier, ENERGY_UJ, doubts) for tier in Tier]

    assert widths == sorted(widths)
    assert widths[0] > 0


def test_doubts_of_opposite_sign_cancel_over_a_life_and_what_no_work_explains_does_not() -> None:
    """A coefficient that is too large cost in one tick and saved in another; noise adds up as squares."""
    tick = np.array([*[1e4] * DIRECTIONS, 1e4**2])
    back = np.array([*[-1e4] * DIRECTIONS, 1e4**2])
    only_noise = np.array([*[0.0] * DIRECTIONS, 2e8])

    assert half_width_uj(Tier.STEP_EXACT, 0, tick + back) == half_width_uj(Tier.STEP_EXACT, 0, only_noise)
