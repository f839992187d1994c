"""The books of an engine, over a stand-in for vLLM's scheduler that knows what it really did."""

import random
from collections import Counter
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from inferwatt import wire
from inferwatt.engines.vllm_books import GIVEN_UP_NS, VllmBooks
from inferwatt.engines.vllm_courier import encode
from inferwatt.engines.vllm_recorder import FINISHED, SCHEDULED, UPDATED
from inferwatt.records import Ending, Outcome, Phase, Request, Step
from inferwatt.wire_steps import Same, StepRow, steps_from_wire, steps_message
from tests.engines.vllm_engine import ScriptedEngine

DEEDS = st.lists(
    st.sampled_from(["add", "add", "turn", "turn", "turn", "turn", "abort", "preempt", "take"]), max_size=80
)


def played(
    deeds: list[str], seed: int, *, is_async: bool, drafts: int
) -> tuple[ScriptedEngine, list[Step], dict[str, Request]]:
    """Let a stand-in live, keep its books, and return it with what an agent would make of what is said.

    Nothing is said of a request once it has ended: its end is told when no step of its is on the way any more.
    """
    engine = ScriptedEngine(random.Random(seed), is_async=is_async, drafts=drafts)
    books = VllmBooks("m", arrival_ns=lambda _unix: None)
    steps: list[Step] = []
    requests: dict[str, Request] = {}

    def say() -> None:
        for event in engine.events:
            books.feed(event)
        engine.events.clear()
        rows, changed = books.take()
        assert not [one for one in changed if one.request in requests and requests[one.request].end_ns is not None]
        requests.update({one.request: one for one in changed})
        if rows:
            [message] = wire.Decoder().feed(encode(steps_message(1, rows)))
            assert isinstance(message, dict)
            steps.extend(steps_from_wire(message, "p"))

    for number, deed in enumerate(deeds):
        if deed == "add":
            engine.add(number)
        elif deed == "take":
            say()
        else:
            getattr(engine, deed)()
    engine.finish()
    say()
    return engine, steps, requests


@given(DEEDS, st.integers(0, 2**32), st.booleans(), st.integers(0, 3))
def test_every_token_is_in_the_books(deeds: list[str], seed: int, is_async: bool, drafts: int) -> None:
    """Whatever an engine does, steps sum to what was computed, and each sequence's book explains it exactly."""
    engine, steps, requests = played(deeds, seed, is_async=is_async, drafts=drafts)
    computed: Counter[str] = Counter()
    for step in steps:
        for name, new_tokens, _, _ in step.members:
            computed[name.removeprefix("p:")] += new_tokens

    assert requests.keys() == engine.lives.keys()
    for name, life in engine.lives.items():
        row = requests[name]
        assert computed[name] == life.computed
        assert (row.end_ns is not None, row.output_tokens) == (True, life.given)
        beyond = (row.recomputed_tokens or 0) + (row.rejected_tokens or 0) + (row.wasted_tokens or 0)
        cached = row.cached_tokens or 0
        whole = life.prompt - cached + max(life.given - 1, 0) + beyond
        assert computed[name] == whole or (not life.given and computed[name] < whole)
        assert row.outcome is (Outcome.ABORTED if life.aborted else Outcome.FINISHED)
        own = Ending.LENGTH if life.given >= life.most else Ending.EOS
        assert row.ending is (Ending.DISCONNECT if life.aborted else own)
        assert sum(row.thrown_away.values()) == (row.rejected_tokens or 0) + (row.wasted_tokens or 0)
        begun_ns = next((step.t0_ns for step in steps for member, *_ in step.members if member == f"p:{name}"), None)
        assert (row.queued_ns is None) == (begun_ns is None)
        assert begun_ns is None or row.begun_ns == max(min(begun_ns, row.end_ns or 0), row.arrival_ns)


def test_an_end_is_told_when_no_step_is_on_the_way() -> None:
    """A client that leaves with its first token, and a step in flight: the request is open until that has come."""
    for seed in range(50):
        played(["add", "turn", "turn", "abort", "take", "turn"], seed, is_async=True, drafts=0)


@given(DEEDS, st.integers(0, 2**32), st.booleans())
def test_steps_do_not_overlap_and_contexts_go_on(deeds: list[str], seed: int, is_async: bool) -> None:
    """Steps follow each other in time, also where the next one is scheduled while one runs; no member skips a token."""
    _, steps, _ = played(deeds, seed, is_async=is_async, drafts=0)
    reach: dict[str, int] = {}
    last_ns = 0

    for step in steps:
        assert last_ns <= step.t0_ns <= step.t1_ns
        last_ns = step.t1_ns
        for name, new_tokens, context_tokens, _ in step.members:
            assert context_tokens <= reach.get(name, context_tokens)
            reach[name] = max(reach.get(name, 0), context_tokens + new_tokens)


def test_a_preempted_request_says_what_was_done_again() -> None:
    """What is computed a second time, prompt and given tokens, is `recomputed`, and prefill again."""
    engine = ScriptedEngine(random.Random(3), is_async=False, drafts=0, budget=1000)
    engine.add(1)
    [life] = engine.lives.values()
    life.most, life.cached = 4, 0
    engine.turn()
    engine.turn()
    again = life.position
    engine.preempt()
    engine.finish()
    books = VllmBooks("m", arrival_ns=lambda _unix: None)
    for event in engine.events:
        books.feed(event)
    rows, [request] = books.take()

    assert request.recomputed_tokens == again
    assert isinstance(rows[2], StepRow)
    assert (list(rows[2].new_tokens), list(rows[2].context_tokens), list(rows[2].prefill)) == ([again + 1], [0], [0])


def test_steady_decode_is_said_in_few_bytes() -> None:
    """A step with the same members and one token each takes some 30 bytes, whatever the batch."""
    names = [f"chatcmpl-{number:032x}-{number:08x}" for number in range(256)]
    books = VllmBooks("m", arrival_ns=lambda _unix: None)
    for context in range(100, 110):
        output = SimpleNamespace(
            num_scheduled_tokens=dict.fromkeys(names, 1),
            total_num_scheduled_tokens=256,
            scheduled_new_reqs=[],
            scheduled_cached_reqs=SimpleNamespace(req_ids=names, num_computed_tokens=[context] * 256),
            scheduled_spec_decode_tokens={},
        )
        outs = [SimpleNamespace(request_id=name, new_token_ids=[1], finish_reason=None) for name in names]
        books.feed((SCHEDULED, context * 1_000_000_000_000, output))
        books.feed((UPDATED, context * 1_000_000_000_000 + 9, output, {0: SimpleNamespace(outputs=outs)}))
    rows, _ = books.take()
    frame, first = encode(steps_message(1, rows)), encode(steps_message(1, rows[:1]))
    steps = steps_from_wire({"names": names, **steps_message(1, rows)}, "p")

    assert [type(row) for row in rows] == [StepRow] + [Same] * 9
    assert len(frame) - len(first) < 9 * 30
    assert {member[1:] for member in steps[9].members} == {(1, 109, Phase.DECODE)}


def test_an_arrival_is_a_time_of_the_wall_clock() -> None:
    """When a request came to the front end is what counts, if it can be right."""
    books = VllmBooks("m", arrival_ns=lambda unix: round(unix * 1e9) - 5)
    books.feed((0, 2_000, "chatcmpl-a-00000001", 0.000001, 3, "adapter"))
    books.feed((0, 2_000, "chatcmpl-b-00000002", 1.0, 3, ""))
    _, requests = books.take()

    assert [(one.arrival_ns, one.model, one.response_id, one.trace_id) for one in requests] == [
        (995, "adapter", "chatcmpl-a", "a"),
        (2_000, "m", "chatcmpl-b", "b"),
    ]


def test_an_engine_that_failed_leaves_no_request_open() -> None:
    """It ends all requests and drops its steps in flight: after 30 s these are given up, though no other came."""
    engine = ScriptedEngine(random.Random(1), is_async=True, drafts=0)
    books = VllmBooks("m", arrival_ns=lambda _unix: None)
    engine.add(0)
    engine.add(1)
    engine.turn()
    for event in engine.events:
        books.feed(event)
    [failed_ns] = [event[1] for event in engine.events if event[0] == SCHEDULED]
    books.take(failed_ns)
    books.feed(
        (FINISHED, failed_ns + 1, None, "FINISHED_ABORTED")
    )  # as v1/fault_tolerance/engine_core_sentinel.py does
    waiting = books.take(failed_ns + GIVEN_UP_NS)
    rows, requests = books.take(failed_ns + GIVEN_UP_NS + 1)

    assert waiting == ([], [])
    assert (books.lost_steps, rows) == (1, [])
    assert [(one.outcome, one.ending, one.output_tokens) for one in requests] == [
        (Outcome.ABORTED, Ending.DISCONNECT, 0)
    ] * 2
    books.take(failed_ns + 2 * GIVEN_UP_NS)
    assert (books._pending, books._sequences, books.lost_steps) == ({}, {}, 1)


def test_a_step_that_takes_long_is_waited_for() -> None:
    """As long as one of its members is open, it may still come."""
    engine = ScriptedEngine(random.Random(1), is_async=False, drafts=0)
    books = VllmBooks("m", arrival_ns=lambda _unix: None)
    engine.add(0)
    engine.add(1)
    engine.turn()
    scheduled = [event for event in engine.events if event[0] != UPDATED]
    for event in scheduled:
        books.feed(event)
    books.feed((FINISHED, scheduled[-1][1] + 1, next(iter(engine.lives)), "FINISHED_ABORTED"))
    books.take(100 * GIVEN_UP_NS)
    books.feed(engine.events[-1])
    rows, _ = books.take(100 * GIVEN_UP_NS)

    assert (books.lost_steps, len(rows)) == (0, 1)


def test_a_step_that_the_engine_dropped_is_not_waited_for() -> None:
    """A step without an output is given up with the next output, and who ended meanwhile has ended."""
    engine = ScriptedEngine(random.Random(1), is_async=False, drafts=0)
    books = VllmBooks("m", arrival_ns=lambda _unix: None)
    engine.add(0)
    engine.turn()
    engine.add(1)
    engine.finish()
    place = next(place for place, event in enumerate(engine.events) if event[0] == UPDATED)
    del engine.events[place]
    for event in engine.events:
        books.feed(event)
    _, requests = books.take()

    assert books.lost_steps == 1
    assert [one.end_ns is not None for one in requests] == [True, True]
