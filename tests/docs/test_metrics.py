"""The page of the metrics."""

from docs import make_metrics
from inferwatt.export.catalog import CATALOG


def test_the_page_of_the_metrics_is_up_to_date() -> None:
    """docs/metrics.md is what `python docs/make_metrics.py` would write now."""
    assert make_metrics.PAGE.read_text(encoding="utf-8") == make_metrics.page()


def test_every_metric_is_documented() -> None:
    """Each family of the catalogue has one row, with its labels."""
    rows = [line for line in make_metrics.page().splitlines() if line.startswith("| `")]

    assert sorted(row.split("`")[1] for row in rows) == sorted(CATALOG)
