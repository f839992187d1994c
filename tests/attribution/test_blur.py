"""What a tick of a counter that averages tells of when energy was used."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.blur import told_ns, used_until
from inferwatt.attribution.work import Shape, StepRows, from_steps

TIMES = st.integers(-2000, 2000)


@given(st.lists(TIMES, min_size=2, max_size=10), TIMES, st.integers(1, 1000), st.integers(0, 1000))
def test_what_a_tick_tells_grows_to_its_length(moments: list[int], t0: int, elapsed: int, window: int) -> None:
    """It begins with nothing a window before the tick, never falls, and ends with the whole of it."""
    told = told_ns(np.array(sorted(moments)), t0, t0 + elapsed, window)
    ends = told_ns(np.array([t0 - window, t0 + elapsed]), t0, t0 + elapsed, window)

    assert (np.diff(told) >= -1e-6).all()
    assert ends == pytest.approx([0, elapsed])


@given(TIMES, st.integers(1, 1000), st.integers(1, 50))
def test_a_window_is_the_mean_of_ticks_moved_back(moment: int, elapsed: int, window: int) -> None:
    """By the definition: each part of the window moves the tick back by as much."""
    fine = 8
    moved = [
        told_ns(np.array([moment * fine]), -step, elapsed * fine - step, 0)[0] for step in range(window * fine + 1)
    ]
    told = told_ns(np.array([moment * fine]), 0, elapsed * fine, window * fine)

    assert told[0] == pytest.approx(np.mean(moved), abs=2)


@given(st.integers(0, 300), st.integers(1, 400), st.integers(0, 300))
def test_ticks_side_by_side_tell_all_of_a_step_once(start: int, lasting: int, window: int) -> None:
    """Averaged or not, the parts of a step in all ticks sum to the step."""
    step = StepRows(start, start + lasting, np.array([0]), np.array([8.0]), np.array([2.0]), np.array([True]))
    works = [from_steps([step], t, t + 100, Shape(), window) for t in range(0, 1100, 100)]

    assert sum(work.steps.sum() for work in works if work) == pytest.approx(1.0)
    assert sum(work.busy_ns for work in works if work) == pytest.approx(lasting, abs=len(works))


SPANS = st.lists(st.tuples(TIMES, st.integers(1, 400)), min_size=1, max_size=6)


@given(SPANS, TIMES, st.integers(1, 1000), st.integers(1, 1000))
def test_what_was_used_until_two_moments_tells_a_tick(
    spans: list[tuple[int, int]], t0: int, elapsed: int, window: int
) -> None:
    """Steps side by side too: its difference is what the tick shows, and with a window the integral's."""
    starts, lasting = np.array(spans).T
    each = np.array([np.ones(len(spans)), lasting])
    moments = np.array([[t0, t0 - window], [t0 + elapsed, t0 + elapsed - window]])

    used, area = (until[:, 1] - until[:, 0] for until in used_until(moments, starts, starts + lasting, each))
    for found, over in ((used[:, 0], 0), (area @ [1, -1] / window, window)):
        told = told_ns(starts + lasting, t0, t0 + elapsed, over) - told_ns(starts, t0, t0 + elapsed, over)
        assert found == pytest.approx(each @ (told / lasting), rel=1e-9, abs=1e-6)
