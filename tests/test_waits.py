import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt import recording
from inferwatt.books import Books
from inferwatt.export.catalog import CATALOG
from inferwatt.records import Engine, Observed, Request, Sums
from inferwatt.waits import with_observed, with_one

FIRST, QUEUE = "inferwatt_time_to_first_token_seconds", "inferwatt_queue_seconds"
METRIC = CATALOG[FIRST]
LABELS = ("m", "s")
BOUNDS = st.lists(st.floats(0.0001, 500.0), max_size=12, unique=True).map(sorted)


def sums(**latencies: Observed) -> Sums:
    """What a page told between two looks."""
    return Sums(0, 1, "e", latencies=latencies)


def open_books() -> Books:
    """Books that know one engine."""
    books = Books()
    books.add_engine(Engine("e", "m", server="s", kind="vllm"))
    return books


def test_a_count_goes_to_the_first_of_our_buckets_that_holds_the_server_s() -> None:
    """Up to 20 ms is up to our 32 ms, never up to 16 ms; above the server's last bound is above all of ours."""
    value = with_observed(None, METRIC, Observed((0.001, 0.02, 500.0), (1, 2, 3, 4), 1.5))
    counts = dict(zip((*METRIC.buckets, None), value.counts, strict=True))

    assert {bound: count for bound, count in counts.items() if count} == {0.001: 1, 0.032: 2, None: 7}
    assert value.sum == 1.5


@given(BOUNDS, st.data())
def test_no_quantile_is_lower_than_the_server_s(bounds: list[float], data: st.DataObject) -> None:
    """At each of our bounds we count no more as being below it than the server does; the total is the same."""
    counts = data.draw(st.lists(st.integers(0, 9), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    value = with_observed(None, METRIC, Observed(tuple(bounds), tuple(counts), 0.0))

    below = itertools.accumulate(value.counts)
    for bound, ours in zip(METRIC.buckets, below, strict=False):
        assert ours <= sum(count for upper, count in zip(bounds, counts, strict=False) if upper <= bound)
    assert sum(value.counts) == sum(counts)


def test_a_server_s_latencies_are_shown_until_its_requests_tell_them() -> None:
    """What a page observed is passed on; once records of its requests come they tell the first token, not the queue."""
    books = open_books()
    seen = Observed((1.0,), (2, 0), 0.5)
    books.sums(sums(first_token_seconds=seen, queue_seconds=seen, something_else=seen))
    assert {name: sum(series[LABELS].counts) for name, series in books.histograms.items()} == {FIRST: 2, QUEUE: 2}

    books.expect(Request("r", "e"))
    books.sums(sums(first_token_seconds=seen, queue_seconds=seen))
    assert {name: sum(series[LABELS].counts) for name, series in books.histograms.items()} == {FIRST: 2, QUEUE: 4}
    assert books.take_changes()[1].keys() == {FIRST, QUEUE}


def test_an_unknown_engine_s_latencies_are_nobody_s() -> None:
    """What is told of an engine that was never introduced is left out."""
    books = Books()
    books.sums(sums(first_token_seconds=Observed((1.0,), (2, 0), 0.5)))

    assert books.histograms == {}


def test_one_observation_and_a_server_s_add_up() -> None:
    """Both go into one histogram."""
    value = with_observed(with_one(None, METRIC, 0.5, None), METRIC, Observed((0.5,), (1, 0), 0.25))

    assert sum(value.counts) == 2
    assert value.sum == pytest.approx(0.75)


def test_what_a_server_observed_comes_back_from_a_recording(tmp_path: Path) -> None:
    """Units and latencies of a page are kept as they were; counts below zero are refused with their line."""
    observed = Observed((0.1, 0.4), (1, 2, 3), 1.25)
    whole = Sums(0, 1, "e0", units={"inferences": 3}, latencies={"queue_seconds": observed})
    broken = Sums(1, 2, "e0", latencies={"queue_seconds": Observed((0.1,), (-1, 0), 0.0)})
    recording.write(tmp_path, recording.Meta(), [whole, broken])

    read = recording.read(tmp_path)
    assert read.records == [whole]
    assert len(read.rejected) == 1
