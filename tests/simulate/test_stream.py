"""A world without end, looked at now and then."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from inferwatt.records import Step
from inferwatt.simulate.costs import SHAPE, Costs, StepCosts, member_work
from inferwatt.simulate.loads import LOADS
from inferwatt.simulate.sequence import SECOND_NS
from inferwatt.simulate.stream import Stream
from inferwatt.simulate.world import World

MS = SECOND_NS // 1000


def looked(every_ms: int, seconds: int = 20, name: str = "chat") -> tuple[Stream, list[Step], set[str], set[str]]:
    """Return a stream after so many seconds of looks, with the steps and the requests that it told."""
    stream, steps, begun, ended = Stream(World(LOADS[name]), 0), [], set(), set()
    for now_ns in range(0, seconds * SECOND_NS, every_ms * MS):
        happened = stream.look(now_ns)
        steps += happened.steps
        begun |= {str(seq.number) for seq in happened.begun}
        ended |= {str(seq.number) for seq in happened.ended}
        stream.forget(now_ns)
    return stream, steps, begun, ended


def test_how_often_one_looks_changes_nothing() -> None:
    """The same steps are told, whether by ten looks a second or by two."""
    often, seldom = looked(100)[1], looked(500)[1]

    assert seldom == often[: len(seldom)]
    assert len(often) - len(seldom) < 100


def test_what_is_told_is_over_and_in_order() -> None:
    """Steps follow one another, requests begin before they end, and most of them have."""
    _, steps, begun, ended = looked(100)

    assert all(a.t1_ns <= b.t0_ns for a, b in pairwise(steps))
    assert ended < begun
    assert len(begun) > 120
    assert len(begun) - len(ended) < 40


def test_energy_is_that_of_the_steps_and_of_idle_time() -> None:
    """What was used is the steps' joules and idle power between them, also after old steps were settled."""
    stream, steps, _, _ = looked(100, name="light")
    until_ns = steps[-1].t1_ns
    cost = StepCosts(Costs(), SHAPE)
    busy_ns = sum(step.t1_ns - step.t0_ns for step in steps)

    used = stream.joules(until_ns)

    assert used > Costs().idle_watts * until_ns / SECOND_NS
    assert used < Costs().idle_watts * (until_ns - busy_ns) / SECOND_NS + 530.0 * busy_ns / SECOND_NS
    assert used == pytest.approx(_by_hand(cost, steps, until_ns), rel=1e-6)


def _by_hand(cost: StepCosts, steps: list[Step], until_ns: int) -> float:
    """Return what the steps cost by the cost function, and idle power for the rest."""
    total = 0.0
    for step in steps:
        new, context = (np.array([row[i] for row in step.members], dtype=np.float64) for i in (1, 2))
        total += float(cost.joules(member_work(SHAPE, new, context).sum(axis=0)))
    busy_ns = sum(step.t1_ns - step.t0_ns for step in steps)
    return total + cost.costs.idle_watts * (until_ns - busy_ns) / SECOND_NS


def test_a_load_that_is_too_much_does_not_grow_without_bound() -> None:
    """Where the engine cannot keep up, no more is drawn than it can hold open."""
    stream = Stream(World(replace(LOADS["long"], rate_per_second=60.0)), 0)
    begun = ended = 0
    for now_ns in range(0, 30 * SECOND_NS, 200 * MS):
        happened = stream.look(now_ns)
        begun += len(happened.begun)
        ended += len(happened.ended)
        stream.forget(now_ns)

    assert 150 < begun - ended < 260
    assert stream.busy_ratio(27 * SECOND_NS, 29 * SECOND_NS) == pytest.approx(1.0)
