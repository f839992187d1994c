"""The names and tags that we send are those that the check of Datadog's own Agent makes of our page."""

from pathlib import Path
from typing import Any

import pytest

from inferwatt.export.catalog import CATALOG, Kind
from inferwatt.export.datadog_owed import Owed, Series, gauges, told_names
from inferwatt.export.metric import Metric
from inferwatt.snapshot import HistogramValue, Labels, Snapshot
from tests.export.figures import LIVE
from tests.web.running import BEARER, STRANGER, Meter, running

pytest.importorskip("datadog_checks.base", reason="it comes with make test-observability")
yaml = pytest.importorskip("yaml")
CONF = Path(__file__).parents[2] / "deploy" / "datadog" / "openmetrics.d" / "conf.yaml"


def everything(amount: int) -> Snapshot:
    """Return a series of every family that we have."""
    values: dict[str, dict[Labels, float]] = {}
    histograms: dict[str, dict[Labels, HistogramValue]] = {}
    for metric in CATALOG.values():
        if not metric.name.startswith("inferwatt_"):
            continue
        labels = labels_of(metric)
        if metric.kind is Kind.HISTOGRAM:
            counts = (amount,) * (len(metric.buckets) + 1)
            histograms[metric.name] = {labels: HistogramValue(counts, float(sum(counts)), {})}
        else:
            values[metric.name] = {labels: amount * 10**metric.decimals if metric.kind is not Kind.INFO else 1}
    return Snapshot(values, histograms, LIVE)


def labels_of(metric: Metric) -> Labels:
    """Return a value for each label."""
    return tuple(f"some-{name}" for name in metric.labels)


def checked(url: str) -> tuple[Any, dict[str, list[Any]]]:
    """Run the real check twice with our configuration; return what it submitted by name."""
    from datadog_checks.base import OpenMetricsBaseCheckV2
    from datadog_checks.base.stubs import aggregator

    class Check(OpenMetricsBaseCheckV2):  # type: ignore[misc]
        """The Agent's own."""

        __NAMESPACE__ = ""

    (instance,) = yaml.safe_load(CONF.read_text(encoding="utf-8"))["instances"]
    instance |= {"openmetrics_endpoint": f"{url}metrics", "headers": BEARER}
    aggregator.reset()
    check = Check("openmetrics", {}, [instance])
    assert check.run() == ""
    return aggregator, {name: list(aggregator.metrics(name)) for name in aggregator.metric_names}


def test_names_types_and_tags_are_those_of_the_agents_check() -> None:
    """Every family, by the configuration that we ship: one dashboard serves the scrape, DogStatsD and the API."""
    owed = Owed(10**6)
    owed.gather(everything(0), 0)
    owed.gather(everything(7), 10)
    ours = {each.name: each for _, each in owed.waiting[0].series()} | {
        each.name: each for each in gauges(everything(7))
    }
    meter = Meter(snapshot=everything(7))
    with running(meter, STRANGER) as serving:
        aggregator, theirs = checked(serving.url)
        buckets = set(aggregator._histogram_buckets)
    theirs = {name: found for name, found in theirs.items() if not name.startswith("inferwatt.process_")}

    assert set(theirs) == set(ours)
    assert buckets | set(ours) >= told_names() >= set(ours)
    for name, series in ours.items():
        (metric, *_) = theirs[name]
        assert tags_of(metric) == set(series.tags), name
        assert metric.type == (aggregator.MONOTONIC_COUNT if is_count(series) else aggregator.GAUGE), name
        assert metric.value == pytest.approx(series.value), name


def tags_of(metric: Any) -> set[str]:
    """Return the labels' tags of what the check submitted, without its own."""
    return {tag for tag in metric.tags if not tag.startswith("endpoint:")}


def is_count(series: Series) -> bool:
    """Say whether a series is told as a count."""
    return series.name.endswith((".count", ".sum"))
