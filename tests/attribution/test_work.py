import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.work import Shape, Span, StepRows, StepStore, busy_time, from_spans, from_steps
from inferwatt.records import Model

SECOND = 1_000_000_000
UNIT = Shape()


def step(t0_ns: int, t1_ns: int, *members: tuple[int, float, float, bool]) -> StepRows:
    """Return a step with these members: slot, new tokens, context, prefill."""
    slot, new, context, prefill = zip(*members, strict=True)
    return StepRows(t0_ns, t1_ns, np.array(slot), np.array(new), np.array(context), np.array(prefill))


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=30))
def test_busy_time_is_the_length_of_the_union(intervals: list[tuple[int, int]]) -> None:
    """Overlapping steps are not counted twice."""
    spans = sorted((start, start + length) for start, length in intervals)
    covered = {t for start, end in spans for t in range(start, end)}

    busy_ns = busy_time(np.array([s for s, _ in spans]), np.array([e for _, e in spans]))

    assert busy_ns == len(covered)


def test_a_step_is_spread_evenly_over_the_ticks_that_it_overlaps() -> None:
    """A step of which a quarter lies in the tick brings a quarter of its work."""
    work = from_steps([step(0, 100, (7, 8.0, 2.0, True))], 75, 200, UNIT)

    assert work is not None
    assert work.flops.tolist() == [2.0]
    assert work.read_bytes.tolist() == [2.5]
    assert work.steps.tolist() == [0.25]
    assert work.busy_ns == 25


def test_the_shape_of_the_model_prices_tokens() -> None:
    """FLOPs and KV bytes follow the formula of the recording format."""
    shape = Shape.of(Model("m", 1e9, 2e9, 100.0, 50.0))

    flops = shape.flops(np.array([10.0]), np.array([1000.0]))

    assert flops.tolist() == [10 * (2e9 + 100.0 * 1005)]
    assert shape.kv_bytes(np.array([10.0]), np.array([1000.0])).tolist() == [50.0 * 1010]


def test_a_model_of_unknown_shape_counts_tokens() -> None:
    """Without a shape a token is the unit."""
    assert Shape.of(Model("m", weight_bytes=1e9)) == Shape(1.0, 0.0, 1.0)


def test_late_steps_are_put_where_they_belong() -> None:
    """A step that comes late is found by the ticks that it overlaps, and forgotten with them."""
    store = StepStore()
    for t0_ns in (0, 200, 100):
        store.add(step(t0_ns, t0_ns + 100, (1, 1.0, 0.0, False)))

    assert [found.t0_ns for found in store.overlapping(50, 150)] == [0, 100]

    store.forget(200)
    assert [found.t0_ns for found in store.overlapping(0, 1000)] == [200]


def span(slot: int, start: float, first: float, end: float, prompt: float = 100.0, rate: float = 10.0) -> Span:
    """Return the span of a request, times in seconds."""
    return Span(slot, round(start * SECOND), round(first * SECOND), round(end * SECOND), prompt, 0.0, rate)


def test_a_span_is_prefill_then_decode() -> None:
    """Tokens of the prompt fall before the first token, those of the answer after it."""
    work = from_spans([span(3, 0, 1, 3)], 0, 4 * SECOND, UNIT)

    assert work is not None
    assert work.prefill.tolist() == [True, False]
    assert work.flops == pytest.approx([100.0, 20.0])
    assert work.busy_ns == 3 * SECOND


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20), st.integers(0, 50)), min_size=1, max_size=8))
def test_ticks_lose_no_token(lives: list[tuple[int, int, int]]) -> None:
    """However the ticks fall, the tokens of all ticks sum to the tokens of the requests."""
    spans = [
        span(i, start / 10, (start + wait) / 10, (start + wait + decode) / 10)
        for i, (start, wait, decode) in enumerate(lives)
    ]
    found = [from_spans(spans, t * SECOND // 3, (t + 1) * SECOND // 3, UNIT) for t in range(60)]

    computed = sum(float(work.flops.sum()) for work in found if work is not None)

    expected = sum(100.0 * (wait > 0) + decode for _, wait, decode in lives)
    assert computed == pytest.approx(expected)


def test_two_that_decode_together_share_each_step() -> None:
    """Steps are counted by the fastest member, not added over members."""
    work = from_spans([span(0, 0, 0, 1, rate=20.0), span(1, 0, 0, 1, rate=10.0)], 0, SECOND, UNIT)

    assert work is not None
    assert work.steps.tolist() == [20.0]


def test_seen_chunks_say_when_tokens_came() -> None:
    """Where each chunk's time was seen, a tick has the tokens that came in it."""
    life = span(0, 0, 0, 1)
    life.chunk_ns = (SECOND // 10, SECOND // 5, SECOND)

    work = from_spans([life], 0, SECOND // 2, UNIT)

    assert work is not None
    assert work.flops.sum() == 2.0


def test_nobody_at_work_is_no_work() -> None:
    """A tick between requests holds none."""
    assert from_spans([span(0, 0, 1, 2)], 2 * SECOND, 3 * SECOND, UNIT) is None
    assert from_steps([], 0, 1, UNIT) is None
