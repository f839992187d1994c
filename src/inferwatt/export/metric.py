"""What a metric is: a family's name, kind, help, labels, unit and buckets, as data. Pure."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MICRO = 6
NANO = 9


class Kind(StrEnum):
    """What a family is, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Metric:
    """One family.

    `decimals` says how far the decimal point of a snapshot's value moves left on the wire: 6 where the snapshot
    holds microjoules and the wire joules. Histograms hold the wire's unit already (their bounds do).
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    decimals: int = 0
    buckets: tuple[float, ...] = ()

    @property
    def family(self) -> str:
        """The name of the family in OpenMetrics: without the suffix that its samples carry."""
        if self.kind is Kind.COUNTER:
            return self.name.removesuffix("_total")
        return self.name.removesuffix("_info") if self.kind is Kind.INFO else self.name


def bucket_index(metric: Metric, value: float) -> int:
    """Return the place of `value` (in the metric's unit) in `HistogramValue.counts`; bounds are inclusive."""
    return bisect_left(metric.buckets, value)


def doubling(first: float, count: int) -> tuple[float, ...]:
    """Return `count` bounds, each twice the one before: equal relative error over the whole range."""
    return tuple(first * 2**power for power in range(count))


def counter(name: str, text: str, labels: tuple[str, ...] = (), unit: str = "", decimals: int = 0) -> Metric:
    """Return a counter."""
    return Metric(name, Kind.COUNTER, text, labels, unit, decimals)


def gauge(name: str, text: str, labels: tuple[str, ...] = (), unit: str = "", decimals: int = 0) -> Metric:
    """Return a gauge."""
    return Metric(name, Kind.GAUGE, text, labels, unit, decimals)


def histogram(name: str, text: str, labels: tuple[str, ...], unit: str, buckets: tuple[float, ...]) -> Metric:
    """Return a histogram with these upper bounds."""
    return Metric(name, Kind.HISTOGRAM, text, labels, unit, buckets=buckets)


def info(name: str, text: str, labels: tuple[str, ...]) -> Metric:
    """Return a family whose labels are what it says."""
    return Metric(name, Kind.INFO, text, labels)


def catalogue(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """Return the metrics by name, in their order.

    Raises:
        ValueError: two metrics have one name, here or in OpenMetrics.
    """
    by_name: dict[str, Metric] = {}
    families: set[str] = set()
    for metric in metrics:
        if metric.family in families:
            raise ValueError(f"two metrics are named {metric.family}")
        families.add(metric.family)
        by_name[metric.name] = metric
    return by_name
