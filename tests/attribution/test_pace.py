"""How fast an engine works, from the times of its requests alone."""

import numpy as np
import pytest

from inferwatt.attribution.pace import PaceFit, Prompt
from inferwatt.attribution.work import Shape, StepRows, from_steps

MS = 1_000_000
STEP, FLOP = 0.008, 2e-15


def taught() -> PaceFit:
    """Return what is learnt of an engine with steps of 8 ms, whose prompts of 2048 tokens take 66 ms in their step."""
    fit, random, now_ns = PaceFit(), np.random.default_rng(1), 0
    flops = 2048 * 16e9
    for number in range(60):
        decoded, prompts = int(random.integers(50, 300)), int(random.integers(0, 10))
        first_ns = now_ns
        end_ns = first_ns + round(((decoded - prompts) * STEP + prompts * flops * FLOP) * 1e9)
        for each in range(prompts):
            start_ns = first_ns + each * 70 * MS
            done_ns = start_ns + round(flops * FLOP * 1e9)
            fit.prefilled(100 * number + each, Prompt(start_ns, start_ns, done_ns, flops, 1.0))
        fit.learn(first_ns, end_ns, decoded)
        now_ns = end_ns + 100 * MS
    return fit


def test_steps_and_prompts_are_told_apart() -> None:
    """The time between first and last token is steps and the prompts of others: both come back."""
    pace = taught().pace()

    assert pace.step_seconds == pytest.approx(STEP, rel=0.03)
    assert pace.seconds_per_flop == pytest.approx(FLOP, rel=0.05)


def test_few_requests_tell_nothing() -> None:
    """Before eight have ended nothing is said, and one of a few tokens never counts."""
    fit = PaceFit()
    for _ in range(20):
        fit.learn(0, 100 * MS, 3)
    assert fit.pace().step_seconds == 0


def test_the_first_come_is_the_first_served() -> None:
    """A prompt is not begun before the one that came earlier is done; what ended with it was computed beside it."""
    fit = PaceFit()
    fit.prefilled(0, Prompt(0, 0, 50 * MS, 1.0, 1.0))
    fit.prefilled(1, Prompt(10 * MS, 10 * MS, 120 * MS, 1.0, 1.0))

    assert fit.free_since(20 * MS, 200 * MS) == 120 * MS
    assert fit.free_since(20 * MS, 120 * MS) == 50 * MS
    assert fit.free_since(60 * MS, 100 * MS) == 60 * MS
    assert fit.free_since(5 * MS, 200 * MS) == 50 * MS  # who came later was not served before


def test_a_server_that_tells_its_passes_tells_its_pace() -> None:
    """Sums over a tenth of a second are enough, and what requests' own times say counts no more then."""
    fit, random = PaceFit(), np.random.default_rng(2)
    for _ in range(100):
        steps, chunks = int(random.integers(4, 12)), int(random.integers(0, 3))
        flops = chunks * 2048 * 16e9
        fit.passes(steps, flops, chunks, (steps - chunks) * STEP + flops * FLOP)
    for _ in range(50):
        fit.learn(0, 10_000 * MS, 100)

    pace = fit.pace()

    assert pace.step_seconds == pytest.approx(STEP, rel=0.02)
    assert pace.seconds_per_flop == pytest.approx(FLOP, rel=0.02)


def test_prompts_alone_tell_the_pace_where_nothing_is_decoded() -> None:
    """Embeddings: a short prompt takes a step, a long one its FLOPs; those of one step count together."""
    fit, now_ns = PaceFit(), 0
    for slot in range(40):
        flops = [1e12, 1e13, 4e13][slot % 3]
        done_ns = now_ns + round(max(STEP, flops * FLOP) * 1e9)
        fit.prefilled(2 * slot, Prompt(now_ns, now_ns, done_ns, 0.4 * flops, 1.0))
        fit.prefilled(2 * slot + 1, Prompt(now_ns, now_ns, done_ns, 0.6 * flops, 1.0))
        fit.learn_prompt(2 * slot)
        now_ns = done_ns + 10 * MS

    pace = fit.pace()

    assert pace.step_seconds == pytest.approx(STEP, rel=0.02)
    assert pace.seconds_per_flop == pytest.approx(FLOP, rel=0.02)


def test_what_a_step_reads_is_a_part_of_its_time() -> None:
    """By the datasheet's bandwidth, steps with more of a KV cache than the mean are longer; an unlikely one is none."""
    fit = taught()
    one, tokens = np.zeros(1, dtype=np.int64), np.ones(1)
    work = from_steps([StepRows(0, 10 * MS, one, tokens, 10 * tokens, one > 0)], 0, 10 * MS, Shape())
    assert work is not None
    fit.note_reading(work)
    fit.seconds_per_byte = 0.001 / float(work.kv_bytes.sum())
    here = fit.pace()

    assert here.steps_seconds(work.kv_bytes) == pytest.approx(STEP, rel=0.03)
    assert here.steps_seconds(2 * work.kv_bytes) - here.steps_seconds(work.kv_bytes) == pytest.approx(0.001)
    fit.seconds_per_byte *= 100
    assert fit.pace().seconds_per_byte == 0
