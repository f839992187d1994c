import re
from itertools import pairwise

import pytest

from inferwatt.export.catalog import CATALOG, PHASES, Kind, Metric, bucket_index
from inferwatt.export.metric import catalogue

FORBIDDEN_LABELS = {
    *("region", "zone", "cluster", "datacenter", "owner", "customer", "stage", "service", "environment", "env", "type"),
    *("instance", "job", "engine", "le", "quantile", "host", "source_ip"),
}
BASE_UNITS = {
    *("joules", "watts", "seconds", "bytes", "ratio", "hertz", "celsius", "tokens", "square_joules"),
    *("grams", "grams_per_joule"),
}
METRICS = list(CATALOG.values())


def by_name(metric: Metric) -> str:
    """Name a test case after its metric."""
    return metric.name


@pytest.mark.parametrize("metric", METRICS, ids=by_name)
def test_a_name_ends_with_its_base_unit_and_total_only_on_counters(metric: Metric) -> None:
    """Every name reads prefix, thing, unit, and `_total` if it is a counter."""
    assert re.fullmatch(r"(inferwatt|process)_[a-z0-9]+(_[a-z0-9]+)*", metric.name)
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    assert (metric.kind is Kind.INFO) == metric.name.endswith("_info")
    assert metric.unit in BASE_UNITS | {""}
    assert metric.family.endswith(f"_{metric.unit}" if metric.unit else "")
    assert not re.search(
        r"_(counter|gauge|histogram|count|sum|bucket|created|kwh|ms|percent|mj|grams_per_kwh)(_|$)", metric.name
    )


@pytest.mark.parametrize("metric", METRICS, ids=by_name)
def test_labels_are_few_and_none_that_a_scraper_adds(metric: Metric) -> None:
    """No label clashes with those of targets, and only an info may say more than five things."""
    assert not set(metric.labels) & FORBIDDEN_LABELS
    assert len(set(metric.labels)) == len(metric.labels)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", label) for label in metric.labels)
    assert metric.kind is Kind.INFO or len(metric.labels) <= 5


@pytest.mark.parametrize("metric", METRICS, ids=by_name)
def test_help_is_sentences(metric: Metric) -> None:
    """HELP begins with a capital or a number, ends with a period, and is one line."""
    assert re.fullmatch(r"[A-Z0-9].*\.", metric.help)
    assert "  " not in metric.help


@pytest.mark.parametrize("metric", METRICS, ids=by_name)
def test_every_joule_says_where_it_comes_from(metric: Metric) -> None:
    """A family of energy carries provenance, so that modelled joules are never added silently to measured ones."""
    assert metric.unit != "joules" or "provenance" in metric.labels


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric.kind is Kind.HISTOGRAM], ids=by_name)
def test_histograms_double_from_bound_to_bound_and_name_no_tenant(metric: Metric) -> None:
    """Bounds are a factor of 2 apart, and no tenant multiplies the buckets."""
    assert all(upper == 2 * lower for lower, upper in pairwise(metric.buckets))
    assert "tenant" not in metric.labels


def test_request_energy_spans_a_tenth_of_a_joule_to_100_kilojoules() -> None:
    """The buckets hold the shortest answer of a small model and the longest of a large one."""
    per_request = CATALOG["inferwatt_request_energy_joules"].buckets
    per_token = CATALOG["inferwatt_request_energy_per_output_token_joules"].buckets

    assert (per_request[0], per_token[0]) == (0.1, 0.0001)
    assert per_request[-1] >= 100_000
    assert per_token[-1] >= 100


def test_a_bound_belongs_to_its_own_bucket() -> None:
    """Bounds are inclusive (`le`), and what is above all of them has the last place."""
    metric = CATALOG["inferwatt_request_energy_joules"]

    assert [bucket_index(metric, joules) for joules in (0.0, 0.1, 0.10001, 0.2, 1e9)] == [0, 0, 1, 1, 21]


def test_two_metrics_of_one_name_are_refused() -> None:
    """A duplicate is an error where it is written, not a broken page at a scrape."""
    with pytest.raises(ValueError, match="inferwatt_a"):
        catalogue([Metric("inferwatt_a_total", Kind.COUNTER, "A."), Metric("inferwatt_a", Kind.GAUGE, "A.")])


def test_phases_are_disjoint() -> None:
    """No phase is named twice."""
    assert len(set(PHASES)) == len(PHASES)
