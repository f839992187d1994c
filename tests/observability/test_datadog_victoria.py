"""The series API against a receiver that is not ours: the Datadog endpoint of a real VictoriaMetrics."""

import time
from pathlib import Path

import pytest

from inferwatt.export.datadog import open_exporter
from inferwatt.export.exporter import About, Batch, Exporter, ExportRetry
from inferwatt.export.settings import DatadogConfig, ExportConfig
from tests.export.figures import snapshot

from .victoria import exported, get, victoria_metrics, wait_until

SELECTOR = '{__name__="inferwatt.energy_joules.count",provenance="measured"}'


def opened(url: str) -> Exporter:
    """Return the exporter to the endpoint, which knows version 1 of the API."""
    config = DatadogConfig(api_url=f"{url}/datadog/api/v1/series", tags=("env:test",))
    exporter = open_exporter(ExportConfig(datadog=config), About("node-1", "0.1.0", 0))
    assert exporter is not None
    return exporter


def test_a_real_receiver_stores_what_was_gained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points, host and tags arrive; an outage between them fills in with its own times, and sums are the counter's."""
    monkeypatch.setenv("DD_API_KEY", "0123456789abcdef0123456789abcdef")
    start = int(time.time()) - 300
    with victoria_metrics(tmp_path / "one") as url:
        exporter = opened(url)
        for second in (0, 10, 20):
            exporter.export(Batch((start + second) * 10**9, snapshot(10**15 + second * 1_234_567)))
        get(f"{url}/internal/force_flush")
        wait_until(lambda: exported(url, SELECTOR) and len(exported(url, SELECTOR)[0]["values"]) == 2)
        (stored,) = exported(url, SELECTOR)
    with pytest.raises(ExportRetry):
        exporter.export(Batch((start + 30) * 10**9, snapshot(10**15 + 30 * 1_234_567)))

    assert stored["timestamps"] == [(start + 10) * 1000, (start + 20) * 1000]
    assert sum(stored["values"]) == pytest.approx(24.69134, rel=1e-7)
    assert {key: stored["metric"][key] for key in ("host", "env", "model_name", "phase")} == {
        "host": "node-1",
        "env": "test",
        "model_name": "m/8B",
        "phase": "decode",
    }
