import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.costmodel import CostModel
from inferwatt.attribution.ridge import RidgeFit, nonnegative_least_squares
from inferwatt.attribution.steptime import StepTime
from inferwatt.attribution.work import Work

AMOUNTS = st.floats(min_value=0, max_value=1e6)


def work_of(flops: list[float], read_bytes: list[float], seconds: float = 1.0, steps: float = 10.0) -> Work:
    """Return the work of one group with these members."""
    count = len(flops)
    return Work(
        slot=np.arange(count),
        prefill=np.zeros(count, dtype=np.bool_),
        flops=np.array(flops),
        read_bytes=np.array(read_bytes),
        group=np.zeros(count, dtype=np.int64),
        seconds=np.array([seconds]),
        steps=np.array([steps]),
        busy_ns=round(seconds * 1e9),
    )


def test_nonnegative_least_squares_finds_what_made_the_sums() -> None:
    """Without noise and with every coefficient above zero, the coefficients come back."""
    rows = np.random.default_rng(1).uniform(1, 10, (50, 4))
    truth = np.array([180.0, 2.0, 0.5, 3.0])

    solved = nonnegative_least_squares(rows.T @ rows, rows.T @ (rows @ truth))

    assert solved == pytest.approx(truth, rel=1e-6)


def test_no_coefficient_is_negative() -> None:
    """What would be best below zero is zero, and the others make the best of it."""
    rows = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    totals = np.array([3.0, 2.0, 1.0])

    solved = nonnegative_least_squares(rows.T @ rows, rows.T @ totals)

    assert solved == pytest.approx([2.0, 0.0])


@given(st.integers(1, 5))
def test_unseen_terms_have_no_coefficient(seed: int) -> None:
    """A term that was always zero costs nothing, whatever the prior says."""
    fit = RidgeFit(3, 0.005)
    for x in np.random.default_rng(seed).uniform(1, 2, 40):
        fit.observe(np.array([x, 0.0, 2 * x]), 10 * x)

    solved = fit.solve(np.array([0.5, 0.5, 0.0]))

    assert solved[1] == 0
    assert solved @ np.array([1.0, 0.0, 2.0]) == pytest.approx(10.0, rel=0.01)


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=8), st.permutations(range(8)))
def test_equal_members_pay_equally_and_order_does_not_matter(
    pairs: list[tuple[float, float]], order: list[int]
) -> None:
    """Shapley's symmetry: two members with equal work have equal shares, wherever they stand."""
    members = [*pairs, pairs[0]]
    model = CostModel(StepTime(1e-9, 1e-9))
    shares, _, _ = model.shares(work_of([f for f, _ in members], [b for _, b in members]))

    assert shares[0] == pytest.approx(shares[-1])
    places = [place for place in order if place < len(members)]
    moved, _, _ = model.shares(work_of([members[p][0] for p in places], [members[p][1] for p in places]))
    if len(places) == len(members):
        assert moved == pytest.approx([shares[p] for p in places])


def test_more_of_its_own_work_never_makes_a_member_cheaper() -> None:
    """A member's share does not fall when it alone does more (at equal step time)."""
    model = CostModel(StepTime(1e-9, 1e-9))
    for _ in range(64):
        model.learn_energy(work_of([1e6, 1e6], [1e6, 1e6]), 100e6)

    before = model.shares(work_of([1e6, 1e6], [1e6, 1e6]))[0]
    after = model.shares(work_of([2e6, 1e6], [1e6, 1e6]))[0]

    assert after[0] >= before[0]


def test_a_lone_member_bounds_nothing() -> None:
    """With one member both extremes give it everything."""
    _, shared, own = CostModel(StepTime(1e-9, 0.0)).shares(work_of([5.0], [1.0]))

    assert shared / shared.sum() == pytest.approx(own / own.sum())
