"""Work rebuilt from the times of requests: tokens where they were made, steps by the engine's pace."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.rebuild import Pace, Span, from_spans
from inferwatt.attribution.work import Shape

SECOND = 1_000_000_000
UNIT = Shape()
PACED = Pace(step_seconds=0.01, seconds_per_flop=0.001)
"""Steps of 10 ms; a prompt token takes 1 ms."""


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
    assert work.steps.sum() == 20.0


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


def test_by_the_pace_all_that_decode_advance_together() -> None:
    """Where the pace is known a second has a hundred steps, and each decoding request a token in each."""
    work = from_spans([span(0, 0, 0, 1, rate=20.0), span(1, 0, 0, 1, rate=10.0)], 0, SECOND, UNIT, PACED)

    assert work is not None
    assert work.steps.sum() == pytest.approx(100)
    assert np.bincount(work.slot, work.flops) == pytest.approx([100, 100])


def test_while_a_prompt_is_computed_others_wait() -> None:
    """A prompt of 500 tokens takes half a second: the one that decodes gets one token in it, and 50 in the rest."""
    work = from_spans([span(0, 0, 0, 1), span(1, 0, 0.5, 0.5, prompt=500.0)], 0, SECOND, UNIT, PACED)

    assert work is not None
    decoded = float(work.flops[(work.slot == 0) & ~work.prefill].sum())
    assert decoded == pytest.approx(51, abs=1.5)
    prompts = work.group[work.prefill]
    assert work.seconds[prompts].sum() == pytest.approx(0.5)


def test_a_short_prompt_fits_into_one_step() -> None:
    """A prompt that takes less than a step makes none longer: it is in one of them."""
    work = from_spans([span(0, 0, 0, 1), span(1, 0, 0.1, 0.1, prompt=5.0)], 0, SECOND, UNIT, PACED)

    assert work is not None
    assert work.steps.sum() == pytest.approx(100, abs=1)
    assert work.steps[work.group[work.prefill]] == pytest.approx([1.0])


def test_seen_chunks_outweigh_the_pace() -> None:
    """Where each chunk's time was seen the steps are theirs."""
    life = span(0, 0, 0, 1)
    life.chunk_ns = tuple(n * SECOND // 20 for n in range(1, 21))

    work = from_spans([life], 0, SECOND, UNIT, PACED)

    assert work is not None
    assert work.steps.sum() == pytest.approx(20)
    assert work.flops.sum() == pytest.approx(20)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20), st.integers(0, 50)), min_size=1, max_size=8))
def test_by_the_pace_no_time_is_lost_either(lives: list[tuple[int, int, int]]) -> None:
    """The parts of a tick's stretches sum to the time in which anyone was at work, and prompts keep their tokens."""
    spans = [span(i, a / 10, (a + w) / 10, (a + w + d) / 10) for i, (a, w, d) in enumerate(lives)]

    found = [from_spans(spans, t * SECOND // 3, (t + 1) * SECOND // 3, UNIT, PACED) for t in range(60)]

    for work in found:
        if work is not None:
            members = np.bincount(work.group, minlength=len(work.seconds)) > 0
            assert work.seconds[members].sum() * SECOND == pytest.approx(work.busy_ns, rel=1e-6)
            assert (work.steps >= 0).all()
            assert (work.seconds >= -1e-12).all()
    computed = sum(float(work.flops[work.prefill].sum()) for work in found if work is not None)
    assert computed == pytest.approx(sum(100.0 for _, wait, _ in lives if wait > 0))


def test_a_tick_of_very_many_requests_is_bounded() -> None:
    """Of 20,000 that all come and turn to decode at their own times inside a tick, work is rebuilt in few stretches."""
    number = 20_000
    spans = [span(i, i / number, (i + 3000) / number, 2.0 + i / number) for i in range(number)]

    work = from_spans(spans, 0, 2 * SECOND, UNIT, PACED)

    assert work is not None
    assert len(work.seconds) <= 2 * 4_000_000 / number + 2
    assert len(np.unique(work.slot)) == number
    assert work.new_tokens[work.prefill].sum() == pytest.approx(100.0 * number, rel=0.01)
    assert work.busy_ns == 2 * SECOND
