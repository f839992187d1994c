"""Replayed readings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.records import Device
from inferwatt.sources.replay import ReplaySource

GPU = Device("gpu-0")


def test_the_last_point_that_is_not_later_is_shown_and_the_counter_goes_on_after_the_end() -> None:
    """Time begins with the first read; at the end the recording begins again on top of what it counted."""
    source = ReplaySource(GPU, [(100, 5), (110, 7), (120, 10)])

    counters = [source.read(now_ns).counter_uj for now_ns in (1000, 1009, 1010, 1019, 1020, 1030, 1040, 1065)]

    assert counters == [5, 5, 7, 7, 10, 12, 15, 20]
    source.close()


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=2), st.lists(st.integers(0, 500)))
def test_a_replayed_counter_never_falls(deltas: list[tuple[int, int]], waits: list[int]) -> None:
    """However it is read."""
    points, t_ns, counter_uj = [], 0, 0
    for dt_ns, more_uj in deltas:
        t_ns, counter_uj = t_ns + dt_ns, counter_uj + more_uj
        points.append((t_ns, counter_uj))
    source = ReplaySource(GPU, points)
    now_ns, last_uj = 0, source.read(0).counter_uj
    for wait_ns in waits:
        now_ns += wait_ns
        counter = source.read(now_ns).counter_uj
        assert last_uj is not None
        assert counter is not None
        assert counter >= last_uj
        last_uj = counter


@pytest.mark.parametrize("points", [[], [(1, 1)], [(1, 1), (1, 2)]])
def test_a_replay_needs_time(points: list[tuple[int, int]]) -> None:
    """Points without time between them cannot be played."""
    with pytest.raises(ValueError, match="two points"):
        ReplaySource(GPU, points)
