"""How long steps take: learnt by the branch that explains each, and shared by Shapley's rule."""

import numpy as np
import pytest

from inferwatt.attribution.steptime import StepTime

FLOOR, PER_BYTE, OTHER, PER_FLOP = 7e-3, 4e-13, 1e-3, 2e-15


def taught(count: int = 400) -> StepTime:
    """Return what is learnt of an engine whose steps follow a roofline: decode steps, every fourth with a prompt."""
    time, random = StepTime(), np.random.default_rng(1)
    for number in range(count):
        prompt = random.integers(100, 2048) if number % 4 == 0 else 0
        read_bytes = random.uniform(1e9, 6e9)
        flops = 16e9 * (prompt + 20)
        seconds = max(FLOOR + PER_BYTE * read_bytes, OTHER + PER_FLOP * flops)
        time.learn(flops, read_bytes, 20 + bool(prompt), seconds, has_prefill=bool(prompt))
    return time


def test_both_branches_are_learnt() -> None:
    """Steps that read teach what a byte takes, steps that compute what a FLOP takes."""
    line = taught().roofline()

    assert (line.floor, line.per_byte) == pytest.approx((FLOOR, PER_BYTE), rel=0.02)
    assert (line.other, line.per_flop) == pytest.approx((OTHER, PER_FLOP), rel=0.05, abs=1e-4)


def own(time: StepTime, flops: list[float], read_bytes: list[float], seconds: float) -> list[float]:
    """Return the own times in a group of one step."""
    count = np.zeros(len(flops), dtype=np.int64)
    result = time.own_seconds(np.array(flops), np.array(read_bytes), count, np.ones(1), np.array([seconds]))
    return [float(x) for x in result]


def test_a_reading_step_is_shared_by_bytes() -> None:
    """Where reading decides, one's own time is its bytes', and FLOPs take none."""
    seconds = FLOOR + PER_BYTE * 4e9

    mine = own(taught(), [16e9, 32e9], [1e9, 3e9], seconds)

    assert mine == pytest.approx([PER_BYTE * 1e9, PER_BYTE * 3e9], rel=0.05)


def test_beside_a_long_prompt_others_pay_as_shapley_says() -> None:
    """The exact value by all orders of arrival: half the time before the prompt, reading; half after it, computing."""
    flops, read_bytes = [16e9 * 2048] + [16e9] * 3, [1e8] + [1e9] * 3
    seconds = OTHER + PER_FLOP * sum(flops)

    mine = own(taught(), flops, read_bytes, seconds)

    other = 0.5 * PER_BYTE * 1e9 + 0.5 * PER_FLOP * 16e9
    assert mine[1:] == pytest.approx([other] * 3, rel=0.1)
    assert sum(mine) == pytest.approx(seconds - FLOOR, rel=0.02)


def test_own_time_never_exceeds_the_group() -> None:
    """A step that took less than its work should have is shared to its end, and no further."""
    assert sum(own(taught(), [1e15], [1e9], 1e-3)) <= 1e-3 * (1 + 1e-9)
    assert sum(own(StepTime(1e-9, 1e-9), [1e15], [1e9], 1e-3)) <= 1e-3 * (1 + 1e-9)


def test_nothing_known_makes_nothing_own() -> None:
    """Without steps and without a datasheet all time is shared."""
    assert own(StepTime(), [1.0, 2.0], [1.0, 2.0], 1.0) == [0.0, 0.0]
