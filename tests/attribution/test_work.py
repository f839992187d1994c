import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.work import BREAK_NS, Shape, StepRows, StepStore, busy_time, from_steps
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
    unit_ns = BREAK_NS + 1

    busy_ns = busy_time(np.array([s * unit_ns for s, _ in spans]), np.array([e * unit_ns for _, e in spans]))

    assert busy_ns == len(covered) * unit_ns


def test_a_short_break_between_steps_is_work() -> None:
    """The engine prepares its next step: that is no idle time; a long one is."""
    step_ns = 8_000_000
    close, far = ([0, step_ns + gap_ns] for gap_ns in (BREAK_NS, BREAK_NS + 1))

    assert busy_time(np.array(close), np.array(close) + step_ns) == 2 * step_ns + BREAK_NS
    assert busy_time(np.array(far), np.array(far) + step_ns) == 2 * step_ns


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


def test_no_steps_are_no_work() -> None:
    """A tick without steps holds none."""
    assert from_steps([], 0, 1, UNIT) is None
