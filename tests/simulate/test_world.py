"""Whole simulated runs: their truth, their books, and that equal seeds are equal runs."""

from collections import Counter
from itertools import pairwise

import pytest

from inferwatt.records import Phase, Reading, Request, Step, Sums
from inferwatt.simulate.loads import LOADS, shortened
from inferwatt.simulate.witness import Witness
from inferwatt.simulate.world import Run, World, simulate


def small(name: str, seed: int = 1) -> Run:
    """Return a short run of a load."""
    return simulate(World(shortened(LOADS[name], 40), seed=seed))


@pytest.mark.parametrize("name", LOADS)
def test_truth_sums_to_the_active_energy(name: str) -> None:
    """What the requests truly used is what the steps used, and idle is what is left of the device's energy."""
    run = small(name)

    assert sum(true.energy_joules for true in run.truth.values()) == pytest.approx(run.active_joules, rel=1e-9)
    assert run.total_joules > run.active_joules + 75.0 * 5.9


@pytest.mark.parametrize("name", LOADS)
def test_the_truth_itself_is_sure(name: str) -> None:
    """What sampling orders left uncertain is far below what is to be measured."""
    run = small(name)

    assert max(true.sampling_joules / true.energy_joules for true in run.truth.values()) < 0.002


@pytest.mark.parametrize("name", LOADS)
def test_each_token_is_computed_once(name: str) -> None:
    """Computed tokens of a request are its prompt less what was cached, and its output but for the last."""
    run = small(name)
    computed: Counter[str] = Counter()
    for record in run.records:
        if isinstance(record, Step):
            computed.update({request: new for request, new, _, _ in record.members})
    for record in run.records:
        if isinstance(record, Request):
            cached = record.cached_tokens or 0
            wanted = (record.prompt_tokens or 0) - cached + (record.output_tokens or 0) - 1
            assert computed[record.request] == wanted


def test_steps_keep_the_limits_of_the_scheduler() -> None:
    """No step has more tokens than its budget or more members than sequences may run, and none overlaps another."""
    steps = [record for record in small("long").records if isinstance(record, Step)]

    assert all(sum(new for _, new, _, _ in step.members) <= 2048 for step in steps)
    assert max(len(step.members) for step in steps) <= 32
    assert all(a.t1_ns <= b.t0_ns for a, b in pairwise(steps))
    assert any({phase for *_, phase in step.members} == {Phase.PREFILL, Phase.DECODE} for step in steps)


def test_what_is_hidden_of_a_step_is_not_in_its_told_time() -> None:
    """A server that does something between steps tells later beginnings, and the truth is the same."""
    plain, hidden = small("chat"), simulate(World(shortened(LOADS["chat"], 40), witness=Witness(hidden_seconds=0.0005)))
    steps = [[r for r in run.records if isinstance(r, Step)] for run in (plain, hidden)]

    assert {b.t0_ns - a.t0_ns for a, b in zip(*steps, strict=True)} == {500_000}
    assert [step.t1_ns for step in steps[0]] == [step.t1_ns for step in steps[1]]
    assert plain.truth == hidden.truth


def test_uneven_power_is_the_same_energy() -> None:
    """Static power alone in a step's overhead, and the more afterwards: the whole is what it was."""
    even, uneven = small("mixed"), simulate(World(shortened(LOADS["mixed"], 40), uneven=True))

    assert uneven.total_joules == pytest.approx(even.total_joules, rel=1e-9)
    assert [r for r in even.records if isinstance(r, Reading)] != [r for r in uneven.records if isinstance(r, Reading)]


def test_equal_seeds_are_equal_runs() -> None:
    """A world is decided by its fields alone; another seed is another run."""
    assert small("mixed", 3) == small("mixed", 3)
    assert small("mixed", 3) != small("mixed", 4)


def test_requests_end_where_their_last_step_ends() -> None:
    """A first token is seen when the step that made it has ended, and so is the last."""
    run = small("chat")
    ends: dict[str, int] = {}
    for record in run.records:
        if isinstance(record, Step):
            ends.update({request: record.t1_ns for request, *_ in record.members})
    requests = [record for record in run.records if isinstance(record, Request)]

    assert all(0 <= (row.end_ns or 0) - ends[row.request] < 10_000_000 for row in requests)
    assert all(row.arrival_ns < (row.first_token_ns or 0) <= (row.end_ns or 0) for row in requests)
    assert any(isinstance(record, Reading) for record in run.records)


def test_passes_are_the_steps_in_sums() -> None:
    """What a server tells of its passes adds up to its steps: how many, their tokens, their time."""
    run = simulate(World(shortened(LOADS["mixed"], 40), witness=Witness(sums="passes")))
    steps = [record for record in run.records if isinstance(record, Step)]
    told = [record for record in run.records if isinstance(record, Sums)]
    members = [member for step in steps for member in step.members]

    assert sum(each.steps or 0 for each in told) == len(steps)
    assert sum(each.passes_ns or 0 for each in told) == sum(step.t1_ns - step.t0_ns for step in steps)
    prefilled = sum(new for _, new, _, phase in members if phase is Phase.PREFILL)
    assert sum(each.prefill_tokens or 0 for each in told) == prefilled
    assert sum(each.decode_requests or 0 for each in told) == sum(phase is Phase.DECODE for *_, phase in members)
