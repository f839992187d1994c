"""What a histogram of ours becomes by one observation, or by what a server's own page observed. Pure.

A server's buckets are not ours. A count goes into the first of ours that holds the whole of the server's bucket, so a
quantile read off ours is never lower than the server's own; what lies above the server's last bound lies above ours.
"""

from collections.abc import Iterator

from inferwatt.export.catalog import Metric, bucket_index
from inferwatt.records import Observed, Sums
from inferwatt.snapshot import Exemplar, HistogramValue

_NAMES = {
    "first_token_seconds": "inferwatt_time_to_first_token_seconds",
    "inter_token_seconds": "inferwatt_inter_token_latency_seconds",
    "queue_seconds": "inferwatt_queue_seconds",
}
"""What is passed on of a server's page, and as which of our metrics."""
_RECORDS_TELL = frozenset({"first_token_seconds", "inter_token_seconds"})
"""What the records of requests tell better: where there are any, the page's is left out, or it would count twice."""


def passed_on(sums: Sums, *, is_recorded: bool) -> Iterator[tuple[str, Observed]]:
    """Yield what a page observed, by our metric's name.

    Args:
        sums: what the server counted.
        is_recorded: whether there are records of its requests.
    """
    for which, observed in sums.latencies.items():
        if which in _NAMES and not (is_recorded and which in _RECORDS_TELL):
            yield _NAMES[which], observed


def with_one(before: HistogramValue | None, metric: Metric, value: float, exemplar: Exemplar | None) -> HistogramValue:
    """Return a histogram with one observation more, in the metric's unit."""
    before = before or _empty(metric)
    place = bucket_index(metric, value)
    counts = (*before.counts[:place], before.counts[place] + 1, *before.counts[place + 1 :])
    exemplars = before.exemplars if exemplar is None else {**before.exemplars, place: exemplar}
    return HistogramValue(counts, before.sum + value, exemplars)


def with_observed(before: HistogramValue | None, metric: Metric, observed: Observed) -> HistogramValue:
    """Return a histogram with what a server's own observed, whose sum is exact."""
    before = before or _empty(metric)
    counts = list(before.counts)
    for place, count in enumerate(observed.counts):
        is_bounded = place < len(observed.bounds)
        counts[bucket_index(metric, observed.bounds[place]) if is_bounded else -1] += count
    return HistogramValue(tuple(counts), before.sum + observed.seconds, before.exemplars)


def _empty(metric: Metric) -> HistogramValue:
    return HistogramValue((0,) * (len(metric.buckets) + 1), 0.0, {})
