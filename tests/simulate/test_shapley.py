"""What a member of a step truly caused."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatt.simulate.costs import SHAPE, Costs, StepCosts, member_work
from inferwatt.simulate.shapley import Steps, shapley

SOFT = Costs(roofline_power=3.0, flop_exponent=1.1)
members = st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 8000)), min_size=1, max_size=9)


def one_step(rows: list[tuple[int, int]]) -> Steps:
    """Return a table of one step whose members have these new and context tokens."""
    new, context = np.array(rows, dtype=np.float64).T
    return Steps(np.array([0, len(rows)]), member_work(SHAPE, new, context), np.ones(1), np.ones(1))


def by_definition(cost: StepCosts, steps: Steps) -> list[float]:
    """Return Shapley's values as the mean over every order of arrival, member by member."""
    count = len(steps.work)
    values = [0.0] * count
    orders = list(permutations(range(count)))
    for order in orders:
        sums, before = np.zeros(4), 0.0
        for member in order:
            sums = sums + steps.work[member]
            joules = float(cost.joules(sums))
            values[member] += (joules - before) / len(orders)
            before = joules
    return values


@settings(max_examples=60, deadline=None)
@given(members, st.sampled_from([Costs(), SOFT]))
def test_values_sum_to_the_cost_of_the_step(rows: list[tuple[int, int]], costs: Costs) -> None:
    """The members' values are the step's joules, whatever its form and however orders were drawn."""
    cost, steps = StepCosts(costs, SHAPE), one_step(rows)

    assert shapley(cost, steps, 1).joules.sum() == pytest.approx(float(cost.joules(steps.work.sum(axis=0))), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(members.filter(lambda rows: len(rows) <= 4), st.sampled_from([Costs(), SOFT]))
def test_few_members_are_exact(rows: list[tuple[int, int]], costs: Costs) -> None:
    """Up to four members, the values are those of the definition."""
    cost, steps = StepCosts(costs, SHAPE), one_step(rows)

    assert shapley(cost, steps, 1).joules == pytest.approx(by_definition(cost, steps), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4000), min_size=5, max_size=12))
def test_orders_come_to_the_closed_form_of_a_sum(contexts: list[int]) -> None:
    """Where the cost is a constant and a sum, averaging over orders gives what the closed form gives."""
    steps = one_step([(1, context) for context in contexts])
    closed, averaged = StepCosts(Costs(), SHAPE), StepCosts(replace(Costs(), roofline_power=400.0), SHAPE)

    assert closed.is_affine(steps.work[None], np.ones(1)).all()
    assert not averaged.is_affine(steps.work[None], np.ones(1)).any()
    assert shapley(averaged, steps, 1).joules == pytest.approx(shapley(closed, steps, 1).joules, rel=1e-6)


def test_the_error_of_sampling_is_told() -> None:
    """The distance from the definition is within a few of the standard errors that are told, and these are small."""
    rows = [(1900, 0), (40, 3000), (1, 700), (1, 60), (1, 5000), (300, 900), (1, 1)]
    cost, steps = StepCosts(SOFT, SHAPE), one_step(rows)

    values = shapley(cost, steps, 7)
    true = np.array(by_definition(cost, steps))
    sigma = np.sqrt(values.variance)

    assert (np.abs(values.joules - true) <= 4 * sigma + 1e-9).all()
    assert (sigma / true < 0.01).all()


def test_equal_members_get_equal_joules() -> None:
    """Symmetry, to within what sampling leaves."""
    values = shapley(StepCosts(SOFT, SHAPE), one_step([(900, 0), (1, 400), (1, 400), (1, 400), (1, 400), (1, 400)]), 3)

    assert values.joules[1:] == pytest.approx([values.joules[1:].mean()] * 5, rel=0.01)
