"""Continuous batching: caches that are full, drafts, clients that leave, clocks and caps."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from inferwatt.records import Event, EventKind, Outcome, Phase, Request, Step, Sums
from inferwatt.simulate.climate import Climate
from inferwatt.simulate.costs import EXPERTS, SHAPE, Costs, StepCosts, member_work
from inferwatt.simulate.engine import Engine, Scheduler
from inferwatt.simulate.loads import LOADS, shortened
from inferwatt.simulate.sequence import SECOND_NS, Trace, Wish
from inferwatt.simulate.witness import Witness
from inferwatt.simulate.world import Run, World, simulate


def served(wishes: list[Wish], scheduler: Scheduler | None = None, climate: Climate | None = None) -> Trace:
    """Return what an engine does with these requests."""
    engine = Engine(Costs(), SHAPE, scheduler or Scheduler(), climate or Climate(), seed=1, start_ns=0)
    engine.add(wishes)
    engine.work()
    return engine.trace


def requests(run: Run) -> list[Request]:
    """Return the requests of a run."""
    return [record for record in run.records if isinstance(record, Request)]


def computed(run: Run) -> Counter[str]:
    """Return how many tokens the steps computed of each request."""
    tokens: Counter[str] = Counter()
    for record in run.records:
        if isinstance(record, Step):
            tokens.update({request: new for request, new, _, _ in record.members})
    return tokens


def test_a_long_prompt_is_computed_in_chunks_beside_decodes() -> None:
    """A running decode takes its token first, and the prompt what is left of the budget."""
    trace = served([Wish(0, 10, 100), Wish(SECOND_NS // 50, 5000, 2)])
    prompt = [[row for row in rows if row[0] == 1] for rows in trace.members]
    chunks = [(new, context) for rows in prompt for _, new, context, prefill in rows if prefill]

    assert chunks == [(2047, 0), (2047, 2047), (906, 4094)]


def test_the_first_to_come_is_the_first_to_be_let_in() -> None:
    """With room for two, the third waits until one of them has ended."""
    trace = served([Wish(0, 10, 5), Wish(1, 10, 9), Wish(2, 10, 5)], Scheduler(max_sequences=2))
    ends = [seq.token_ns[-1] for seq in trace.sequences]

    assert trace.sequences[2].token_ns[0] > ends[0]
    assert all(len(rows) <= 2 for rows in trace.members)


def test_a_full_cache_sends_the_newest_back_and_books_it() -> None:
    """What is computed again is told by the request, and the steps hold exactly that much more."""
    world = World(shortened(LOADS["mixed"], 80), scheduler=Scheduler(kv_tokens=9000))
    run = simulate(world)
    steps = computed(run)
    again = [row for row in requests(run) if row.recomputed_tokens]

    assert again
    for row in requests(run):
        once = (row.prompt_tokens or 0) + (row.output_tokens or 0) - 1
        assert steps[row.request] == once + (row.recomputed_tokens or 0)


def test_rejected_drafts_are_computed_and_belong_to_their_request() -> None:
    """A decode step computes its token and the drafts; those that were not kept are told as rejected."""
    run = simulate(World(shortened(LOADS["chat"], 30), scheduler=Scheduler(drafts=3)))
    steps = computed(run)
    decodes = [
        new for record in run.records if isinstance(record, Step) for _, new, _, p in record.members if p == "decode"
    ]

    assert set(decodes) == {4}
    for row in requests(run):
        once = (row.prompt_tokens or 0) + (row.output_tokens or 0) - 1
        assert steps[row.request] == once + (row.rejected_tokens or 0)


def test_a_client_that_leaves_ends_its_request() -> None:
    """It is aborted with what it had; one that left in the queue used nothing."""
    run = simulate(World(shortened(LOADS["leavers"], 100), seed=2))
    left = [row for row in requests(run) if row.outcome is Outcome.ABORTED]

    assert 20 < len(left) < 50
    assert sum(true.energy_joules for true in run.truth.values()) == pytest.approx(run.active_joules, rel=1e-9)
    assert all(run.truth[row.request].energy_joules == 0 for row in requests(run) if row.request not in computed(run))


def test_a_cap_holds_power_down_once_it_has_begun() -> None:
    """Power keeps to the cap on average from then on, steps take longer, and an event says so."""
    climate = Climate(cap_watts=420.0, cap_after_seconds=2.0)
    run = simulate(World(shortened(LOADS["long"], 40), climate=climate))
    free = simulate(World(shortened(LOADS["long"], 40)))
    trace = served([Wish(0, 8000, 2) for _ in range(60)], climate=climate)
    watts = np.array(trace.joules) / (np.diff([trace.t0_ns, trace.t1_ns], axis=0)[0] / SECOND_NS)
    late = np.array(trace.t0_ns) > 3 * SECOND_NS

    assert watts[~late][:20].mean() > 500
    assert watts[late].mean() == pytest.approx(420.0, rel=0.05)
    assert [record.kind for record in run.records if isinstance(record, Event)] == [EventKind.REGIME]
    assert not [record for record in free.records if isinstance(record, Event)]


def test_a_request_that_was_sent_back_goes_first() -> None:
    """It is let in again before those that have never run."""
    wishes = [Wish(0, 100, 400), Wish(1, 100, 400), Wish(SECOND_NS, 150, 5)]
    first, second, third = served(wishes, Scheduler(kv_tokens=500)).sequences

    assert (first.recomputed, third.recomputed) == (0, 0)
    assert second.recomputed > 0
    assert third.token_ns[0] > first.token_ns[-1]


def test_truth_holds_while_the_world_changes() -> None:
    """With heat, swinging clocks and wandering power, what requests used is still what the steps used."""
    climate = Climate(heat_ratio=0.3, heat_seconds=2.0, clock_swing=0.3, swing_seconds=3.0, wander_ratio=0.3)
    run = simulate(World(shortened(LOADS["mixed"], 40), climate=climate))

    assert sum(true.energy_joules for true in run.truth.values()) == pytest.approx(run.active_joules, rel=1e-9)


def test_a_slow_clock_computes_longer_and_cheaper() -> None:
    """At half the clock FLOPs take twice as long, and each takes a quarter of its joules."""
    cost = StepCosts(replace(Costs(), static_watts=0.0, joules_per_byte=0.0), SHAPE)
    work = member_work(SHAPE, np.array([2048.0]), np.array([0.0]))[0]
    overhead = Costs().overhead_seconds

    assert cost.seconds(work, 0.5) - overhead == pytest.approx(2 * (cost.seconds(work, 1.0) - overhead))
    assert cost.joules(work, 0.5) == pytest.approx(cost.joules(work, 1.0) / 4)


def test_power_wanders_whatever_runs() -> None:
    """Equal steps draw unlike power, close ones more alike than distant ones."""
    trace = served([Wish(0, 100, 3000)], climate=Climate(wander_ratio=0.3, wander_seconds=2.0))
    power = np.log([condition.power_ratio for condition in trace.conditions])

    assert 0.1 < power.std() < 0.6
    assert np.abs(np.diff(power)).mean() < 0.2 * power.std()


def test_a_prefix_is_read_from_the_cache_after_its_first_use() -> None:
    """As many requests compute their prefix as there are prefixes."""
    rows = requests(simulate(World(shortened(LOADS["prefixes"], 60))))
    computing = [row for row in rows if not row.cached_tokens]

    assert len(computing) == 6
    assert rows[0] in computing


def test_heat_draws_more_power() -> None:
    """A warm device uses more for the same work."""
    wishes = [Wish(0, 100, 2000)]
    cold, warm = served(wishes), served(wishes, climate=Climate(heat_ratio=0.2, heat_seconds=0.5))

    assert sum(warm.joules) / sum(cold.joules) == pytest.approx(1.2, abs=0.02)


def test_experts_are_read_as_tokens_touch_them() -> None:
    """One token reads its own experts, many read nearly all; a step of nothing reads what all share."""
    costs = replace(Costs(), static_watts=0.0, joules_per_flop=0.0, joules_per_byte=1.0)
    cost = StepCosts(costs, EXPERTS)
    one, many = (
        float(cost.joules(member_work(EXPERTS, np.array([tokens]), np.array([0.0])))[0]) for tokens in (1.0, 500.0)
    )
    shared = 61e9 - 58e9

    assert float(cost.joules(np.zeros(4))) == pytest.approx(shared)
    assert one == pytest.approx(shared + 58e9 * 8 / 128 + 98304)
    assert many == pytest.approx(61e9 + 500 * 98304)


def test_two_devices_share_the_energy() -> None:
    """Each counts its part, and the truth of a request is that of both."""
    run = simulate(World(shortened(LOADS["chat"], 30), device_shares=(0.6, 0.4)))

    assert run.engines[0].devices == ("gpu-0", "gpu-1")
    assert sum(true.energy_joules for true in run.truth.values()) == pytest.approx(run.active_joules, rel=1e-9)


def test_sums_and_chunks_are_told_where_the_witness_sees_them() -> None:
    """The sums of steps add up to all tokens, and a chunk is told for each step that made a token."""
    run = simulate(World(shortened(LOADS["mixed"], 30), witness=Witness(chunks=True, sums="step", steps=False)))
    sums = [record for record in run.records if isinstance(record, Sums)]
    rows = requests(run)

    assert sum(row.output_tokens or 0 for row in sums) == sum(row.output_tokens or 0 for row in rows)
    assert sum(row.prompt_tokens or 0 for row in sums) == sum(row.prompt_tokens or 0 for row in rows)
    assert all(len(row.chunk_ns) == row.output_tokens for row in rows)
    assert not [record for record in run.records if isinstance(record, Step)]


def test_phases_are_told_by_what_was_computed() -> None:
    """A prompt of one token is prefill all the same, and what follows is decode."""
    trace = served([Wish(0, 1, 3)])
    run = simulate(World(shortened(LOADS["chat"], 3)))
    phases = [phase for record in run.records if isinstance(record, Step) for *_, phase in record.members]

    assert [[prefill for *_, prefill in rows] for rows in trace.members] == [[True], [False], [False]]
    assert phases.count(Phase.PREFILL) == 3
