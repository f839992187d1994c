"""What is told by OTLP, through a real collector (rotel) by HTTP and by gRPC, and to another receiver (oteltap)."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from inferwatt.export.exporter import About, Batch, Exporter, ExportRetry
from inferwatt.export.otlp import open_exporter
from inferwatt.export.settings import ExportConfig, OtlpConfig
from tests.export.figures import row, snapshot
from tests.real.conftest import free_port, missing

from .collector import Collector, collecting, listens
from .otlp_receiver import told
from .victoria import wait_until

pytest.importorskip("opentelemetry.sdk", reason="it comes with make test-observability")
PROTOCOLS = ["http", "grpc"]
START_NS = 1_800_000_000 * 10**9
SECOND_NS = 10**9
BILLION_UJ = 14_500_000_000_000_000


def opened(endpoint: str, **settings: object) -> Exporter:
    """Return the exporter to an endpoint."""
    config = OtlpConfig(endpoint=endpoint, **settings)  # type: ignore[arg-type]
    exporter = open_exporter(ExportConfig(otlp=config), About("node-1", "0.1.0", START_NS))
    assert exporter is not None
    return exporter


def told_at(exporter: Exporter, second: int, uj: int, requests: int = 1, *names: str) -> None:
    """Export what the counters are at a second after the start."""
    page = snapshot(BILLION_UJ + uj, requests=requests)
    exporter.export(Batch(START_NS + second * SECOND_NS, page, [row(name) for name in names]))


def measured(collector: Collector) -> list[tuple[float, float, float]]:
    """Return from when to when how many joules of a model were told, in seconds after the start."""
    return [
        ((each.start_time_unix_nano - START_NS) / 1e9, (each.time_unix_nano - START_NS) / 1e9, each.as_double)
        for each in collector.came.points("inferwatt.energy")
        if told(each)["inferwatt.provenance"] == "measured"
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cumulative_is_what_was_used_since_the_start(protocol: str, tmp_path: Path) -> None:
    """A counter of 14.5 GJ from the ledger begins at zero here, steps by microjoules, and never falls."""
    with collecting(tmp_path) as collector:
        exporter = opened(collector.endpoint(protocol), protocol=protocol)
        for second, uj in ((1, 0), (11, 2_500_000), (21, 2_500_001)):
            told_at(exporter, second, uj)
        exporter.close()
        wait_until(lambda: len(measured(collector)) == 3)
        (power, *_) = [metric for metric in collector.came.metrics if metric.name == "hw.power"]
        energy = next(metric for metric in collector.came.metrics if metric.name == "inferwatt.energy")

    assert measured(collector) == [(0, 1, 0.0), (0, 11, 2.5), (0, 21, 2.500001)]
    assert (energy.unit, energy.sum.is_monotonic, energy.sum.aggregation_temporality) == ("J", True, 2)
    assert (power.unit, power.gauge.data_points[0].as_double) == ("W", 99.5)
    assert told(power.gauge.data_points[0]) == {
        "hw.id": "gpu-0",
        "hw.type": "gpu",
        "inferwatt.domain": "gpu",
        "inferwatt.provenance": "measured",
    }
    assert collector.came.resources[0]["service.name"] == "inferwatt"
    assert collector.came.resources[0]["host.name"] == "node-1"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_delta_is_what_was_gained_since_the_last(protocol: str, tmp_path: Path) -> None:
    """Windows follow each other without gap or overlap; what did not move is not told."""
    with collecting(tmp_path) as collector:
        exporter = opened(collector.endpoint(protocol), protocol=protocol, temporality="delta")
        for second, uj in ((1, 0), (11, 2_500_000), (21, 2_500_000), (31, 6_000_000)):
            told_at(exporter, second, uj)
        exporter.close()
        wait_until(lambda: len(measured(collector)) == 2)
        energy = next(metric for metric in collector.came.metrics if metric.name == "inferwatt.energy")

    assert measured(collector) == [(1, 11, 2.5), (21, 31, 3.5)]
    assert energy.sum.aggregation_temporality == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_deltas_of_an_outage_come_when_it_is_over(protocol: str, tmp_path: Path) -> None:
    """The collector is killed and comes back: what was gained meanwhile is told as one window, once."""
    with collecting(tmp_path) as collector:
        exporter = opened(collector.endpoint(protocol), protocol=protocol, temporality="delta", timeout_seconds=2)
        told_at(exporter, 1, 0)
        told_at(exporter, 11, 1_000_000)
        wait_until(lambda: len(measured(collector)) == 1)
        collector.kill()
        for second, uj in ((21, 3_000_000), (31, 6_000_000)):
            with pytest.raises(ExportRetry, match="cannot be reached") as refusal:
                told_at(exporter, second, uj, 1, "a")
            assert refusal.value.reason == "connection"
        collector.start()
        wait_until(lambda: told_again(exporter, 41, 10_000_000))
        exporter.close()
        wait_until(lambda: len(measured(collector)) == 2 and collector.came.spans)

    assert measured(collector) == [(1, 11, 1.0), (11, 41, 9.0)]
    assert len(collector.came.spans) == 1


def told_again(exporter: Exporter, second: int, uj: int) -> bool:
    """Export, and say whether it was taken: gRPC waits a second before it connects again."""
    try:
        told_at(exporter, second, uj, 1, "a")
    except ExportRetry:
        return False
    return True


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_buckets_are_those_of_the_page(protocol: str, tmp_path: Path) -> None:
    """A histogram arrives with the catalogue's bounds, its counts and its sum, less what was before the start."""
    with collecting(tmp_path) as collector:
        exporter = opened(collector.endpoint(protocol), protocol=protocol)
        told_at(exporter, 1, 0, 1_000)
        told_at(exporter, 11, 0, 1_004)
        exporter.close()
        wait_until(lambda: len(collector.came.points("inferwatt.request.energy")) == 2)
        first, last = collector.came.points("inferwatt.request.energy")

    assert (first.count, last.count, last.sum) == (0, 4, 12.0)
    assert list(last.explicit_bounds[:6]) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert last.bucket_counts[5] == 4
    assert not last.HasField("min")


def test_an_exemplar_points_at_its_requests_span(tmp_path: Path) -> None:
    """A new one comes once, with the ids of the span that came beside it, and the request's own."""
    with collecting(tmp_path) as collector:
        exporter = opened(collector.endpoint("http"))
        for second in (1, 11):
            told_at(exporter, second, 0, 1_000, *(["r1"] if second == 1 else []))
        exporter.close()
        wait_until(lambda: len(collector.came.points("inferwatt.request.energy")) == 2 and collector.came.spans)
        first, last = collector.came.points("inferwatt.request.energy")
        (span,) = collector.came.spans
    (exemplar,) = first.exemplars

    assert list(last.exemplars) == []
    assert (exemplar.trace_id, exemplar.span_id) == (span.trace_id, span.span_id)
    assert (exemplar.as_double, exemplar.time_unix_nano) == (3.0, 1_800_000_000 * SECOND_NS)
    assert [each.value.string_value for each in exemplar.filtered_attributes] == ["r1"]


def test_a_correction_is_a_span_of_its_own(tmp_path: Path) -> None:
    """Below its request's, at its end, with the joules that stand now."""
    with collecting(tmp_path) as collector:
        exporter = opened(collector.endpoint("grpc"), protocol="grpc")
        first = row("r1")
        second = replace(first, energy=row("r1", 5_000_000).energy, corrects=1)
        exporter.export(Batch(START_NS, snapshot(), [first, second]))
        exporter.close()
        wait_until(lambda: len(collector.came.spans) == 2)
        request, correction = collector.came.spans

    assert (correction.trace_id, correction.parent_span_id) == (request.trace_id, request.span_id)
    assert (correction.name, told(correction)["inferwatt.corrected.energy_joules"]) == ("energy correction m/8B", 5.0)
    assert correction.start_time_unix_nano == correction.end_time_unix_nano == request.end_time_unix_nano


@pytest.mark.parametrize("awaited", [["--await-metric", "^hw.power$"], ["--await-span", "^inference m/8B$"]])
def test_another_receiver_understands_it(awaited: list[str]) -> None:
    """oteltap, which reads no gzip, ends well once it has seen the metric or the span that it waits for."""
    if find_spec("oteltap") is None:
        missing("oteltap is not installed: make test-observability")
    port = free_port()
    tap = subprocess.Popen([sys.executable, "-m", "oteltap", "--port", str(port), *awaited], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port))
        exporter = opened(f"http://127.0.0.1:{port}", compression="none", spans="--await-span" in awaited)
        told_at(exporter, 1, 0, 1, "a")
        assert tap.wait(30) == 0
    finally:
        tap.kill()
        tap.wait(10)


def test_a_clock_that_is_put_back_makes_no_window_that_ends_before_it_begins(tmp_path: Path) -> None:
    """Receivers refuse such points."""
    with collecting(tmp_path) as collector:
        exporter = opened(collector.endpoint("http"), temporality="delta")
        for second, uj in ((1, 0), (3_600, 1_000_000), (11, 3_000_000)):
            told_at(exporter, second, uj)
        wait_until(lambda: len(measured(collector)) == 2)

    assert measured(collector) == [(1, 3_600, 1.0), (11, 11, 2.0)]
