"""How long steps take: learnt by the branch that explains each, and shared by Shapley's rule."""

import numpy as np
import pytest

from inferwatt.attribution.steptime import StepTime
from inferwatt.attribution.work import Shape, StepRows, Work, from_steps

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
    time.fit()
    return time


def test_both_branches_are_learnt() -> None:
    """Steps that read teach what a byte takes, steps that compute what a FLOP takes."""
    line = taught().roofline()

    assert (line.floor, line.per_byte) == pytest.approx((FLOOR, PER_BYTE), rel=0.02)
    assert (line.other, line.per_flop) == pytest.approx((OTHER, PER_FLOP), rel=0.05, abs=1e-4)


def own(time: StepTime, flops: list[float], read_bytes: list[float], seconds: float) -> list[float]:
    """Return the own times in a group of one step."""
    count = len(flops)
    zeros = np.zeros(count, dtype=np.int64)
    work = Work(
        slot=np.arange(count),
        prefill=zeros.astype(np.bool_),
        flops=np.array(flops),
        new_tokens=np.ones(count),
        kv_bytes=np.array(read_bytes),
        expert_bytes=np.zeros(count),
        group=zeros,
        seconds=np.array([seconds]),
        steps=np.ones(1),
        busy_ns=round(seconds * 1e9),
        shape=Shape(),
    )
    return [float(x) for x in time.times(work).own]


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


def experts(time: StepTime, shape: Shape, tokens: list[float]) -> list[float]:
    """Return the own times in one step of a mixture of experts, members with so many new tokens."""
    count = len(tokens)
    step = StepRows(0, 40_000_000, np.arange(count), np.array(tokens), np.zeros(count), np.array(tokens) > 1)
    work = from_steps([step], 0, step.t1_ns, shape)
    assert work is not None
    return [float(x) for x in time.times(work).own]


def test_a_prompt_that_touches_all_experts_is_no_shorter_for_the_others_reading_them() -> None:
    """The exact value of two members, by both orders: alone each reads what its own tokens touch."""
    shape = Shape(flops_per_token=6e9, kv_bytes_per_token=1e-3, expert_bytes=58e9, touched_ratio=1 / 16)
    time = StepTime()
    random = np.random.default_rng(4)
    for number in range(400):
        members = int(random.integers(1, 40))
        prompt = int(random.integers(500, 4000)) if number % 3 == 0 else 0
        touched = float(shape.touched_bytes(np.array([members + prompt]))[0])
        flops = 6e9 * (members + prompt)
        seconds = max(1e-3 + touched / 2.7e12, 1e-3 + flops / 500e12)
        time.learn(flops, touched, members, seconds, has_prefill=bool(prompt))

    time.fit()

    def value(tokens: float) -> float:
        touched = float(shape.touched_bytes(np.array([tokens]))[0])
        return max(touched / 2.7e12, 6e9 * tokens / 500e12)

    mine = experts(time, shape, [3000.0, 1.0])

    small = 0.5 * value(1) + 0.5 * (value(3001) - value(3000))
    scale = 40e-3 / (1e-3 + value(3001))
    assert mine[1] == pytest.approx(small * scale, rel=0.1)
    assert sum(mine) == pytest.approx(value(3001) * scale, rel=0.05)


def test_steps_with_prompts_that_only_read_teach_reading() -> None:
    """Of a mixture of experts a prompt may be read longer than computed: it is parted by what is longer."""
    time, random = StepTime(), np.random.default_rng(5)
    for number in range(300):
        prompt = number % 2 == 0
        read_bytes = random.uniform(40e9, 58e9) if prompt else random.uniform(8e9, 20e9)
        flops = random.uniform(1e12, 20e12) if prompt else 1e11
        seconds = max(1e-3 + read_bytes / 2.7e12, 1e-3 + flops / 600e12)
        time.learn(flops, read_bytes, 8, seconds, has_prefill=prompt)

    time.fit()
    line = time.roofline()

    assert line.per_byte == pytest.approx(1 / 2.7e12, rel=0.03)
    assert line.per_flop == pytest.approx(1 / 600e12, rel=0.1)


def test_after_a_change_of_clocks_the_new_steps_decide() -> None:
    """Old steps count for little once they are doubted."""
    time = taught()
    time.doubt_steps()
    for _ in range(60):
        time.learn(16e9 * 20, 2e9, 20, 2 * (FLOOR + PER_BYTE * 2e9), has_prefill=False)

    time.fit()
    line = time.roofline()

    assert line.floor + line.per_byte * 2e9 == pytest.approx(2 * (FLOOR + PER_BYTE * 2e9), rel=0.25)
