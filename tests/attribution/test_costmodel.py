import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.accounts import DIRECTIONS, UNEXPLAINED
from inferwatt.attribution.costmodel import CostModel
from inferwatt.attribution.ridge import BayesFit, RidgeFit, nonnegative_least_squares
from inferwatt.attribution.steptime import StepTime
from inferwatt.attribution.work import Shape, Work

AMOUNTS = st.floats(min_value=0, max_value=1e6)


def work_of(flops: list[float], read_bytes: list[float], seconds: float = 1.0, steps: float = 10.0) -> Work:
    """Return the work of one group with these members."""
    count = len(flops)
    return Work(
        slot=np.arange(count),
        prefill=np.zeros(count, dtype=np.bool_),
        flops=np.array(flops),
        new_tokens=np.ones(count),
        kv_bytes=np.array(read_bytes),
        expert_bytes=np.zeros(count),
        group=np.zeros(count, dtype=np.int64),
        seconds=np.array([seconds]),
        steps=np.array([steps]),
        busy_ns=round(seconds * 1e9),
        shape=Shape(),
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


def test_doubts_hold_the_truth_as_often_as_they_say() -> None:
    """Over many runs, the true coefficients are one standard deviation away in each term, root mean square."""
    truth = np.array([5.0, 2.0])
    off = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        fit = BayesFit(2, 10.0, 1.0)
        for _ in range(60):
            terms = random.uniform(1, 3, 2)
            fit.observe(terms, float(terms @ truth) + random.normal(0, 0.5))
        missed = fit.solve(np.array([1.0, 0.0])) - truth
        off.append(missed / np.sqrt((fit.doubts**2).sum(axis=0)))

    assert np.sqrt((np.array(off) ** 2).mean(axis=0)) == pytest.approx([1.0, 1.0], abs=0.2)


def test_noise_gives_the_prior_its_say() -> None:
    """Where ticks follow nothing, the prior decides; where they are clean, it does not."""
    random = np.random.default_rng(3)
    wild, clean = BayesFit(2, 0.3, 1.0), BayesFit(2, 0.3, 1.0)
    for _ in range(60):
        terms = random.uniform(1, 3, 2)
        wild.observe(terms, random.uniform(0, 40))
        clean.observe(terms, 8.0 * terms[1])

    prior = np.array([1.0, 0.0])
    assert wild.solve(prior)[0] > 2.0
    assert clean.solve(prior) == pytest.approx([0.0, 8.0], abs=0.01)


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=8), st.permutations(range(8)))
def test_equal_members_pay_equally_and_order_does_not_matter(
    pairs: list[tuple[float, float]], order: list[int]
) -> None:
    """Shapley's symmetry: two members with equal work have equal shares, wherever they stand."""
    members = [*pairs, pairs[0]]
    model = CostModel(StepTime(1e-9, 1e-9))
    shares = model.price(work_of([f for f, _ in members], [b for _, b in members])).expected

    assert shares[0] == pytest.approx(shares[-1])
    places = [place for place in order if place < len(members)]
    moved = model.price(work_of([members[p][0] for p in places], [members[p][1] for p in places])).expected
    if len(places) == len(members):
        assert moved == pytest.approx([shares[p] for p in places])


def test_more_of_its_own_work_never_makes_a_member_cheaper() -> None:
    """A member's share does not fall when it alone does more (at equal step time)."""
    model = CostModel(StepTime(1e-9, 1e-9))
    for _ in range(64):
        model.learn_energy(work_of([1e6, 1e6], [1e6, 1e6]), 100e6)

    before = model.price(work_of([1e6, 1e6], [1e6, 1e6])).expected
    after = model.price(work_of([2e6, 1e6], [1e6, 1e6])).expected

    assert after[0] >= before[0]


def noisy(noise_ratio: float, count: int = 200) -> CostModel:
    """Return a model that learnt from ticks whose energy is known but for noise."""
    random = np.random.default_rng(2)
    model = CostModel()
    for _ in range(count):
        flops, read = random.uniform(1, 10, 2), random.uniform(1, 10, 2)
        energy_uj = 20.0 + 3.0 * flops.sum() + 2.0 * read.sum()
        work = work_of(flops.tolist(), read.tolist())
        model.learn_energy(work, energy_uj * (1 + noise_ratio * random.normal()))
    return model


def test_a_lone_member_is_in_no_doubt_by_the_coefficients() -> None:
    """Whatever they are, all of the tick is its own."""
    fair, doubts = noisy(0.1).price(work_of([5.0], [1.0])).shares(50.0)

    assert fair == pytest.approx([50.0])
    assert doubts[:DIRECTIONS] == pytest.approx(np.zeros((DIRECTIONS, 1)), abs=1e-9)


def test_doubts_of_the_coefficients_cancel_within_a_tick() -> None:
    """What one member has too much another has too little: the counter decides the sum."""
    fair, doubts = noisy(0.1).price(work_of([5.0, 1.0], [1.0, 7.0])).shares(50.0)

    assert fair.sum() == pytest.approx(50.0)
    assert doubts[:DIRECTIONS].sum(axis=1) == pytest.approx(np.zeros(DIRECTIONS), abs=1e-9)


def test_noisier_ticks_leave_more_doubt() -> None:
    """The same work, told with ten times the noise, is split with about ten times the doubt."""
    calm, loud = (
        float(np.abs(noisy(noise).price(work_of([5.0, 1.0], [1.0, 7.0])).shares(50.0)[1][:DIRECTIONS]).sum())
        for noise in (0.005, 0.05)
    )

    assert 4 * calm < loud < 25 * calm


def test_before_anything_is_learnt_nothing_is_sure() -> None:
    """A fixed part of the energy is unexplained then."""
    fair, doubts = CostModel().price(work_of([5.0, 1.0], [1.0, 7.0])).shares(50.0)

    assert doubts[UNEXPLAINED] == pytest.approx(0.15 * fair)


def test_old_ticks_count_little_after_a_change() -> None:
    """What cost twice as much from some moment on is believed after a few ticks, where it was said that it changed."""
    told, untold = noisy(0.01), noisy(0.01)
    told.doubt_ticks()
    for model in (told, untold):
        for _ in range(40):
            model.learn_energy(work_of([4.0, 6.0], [5.0, 5.0]), 140.0)

    expected = [model.price(work_of([4.0, 6.0], [5.0, 5.0])).expected.sum() for model in (told, untold)]

    assert expected[0] > expected[1]
    assert expected[0] == pytest.approx(140.0, rel=0.1)
