"""A whole agent tells a real collector what its ledger has: every counter, and each request with its joules."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import inferwatt
from inferwatt import endpoint, sdk
from inferwatt.engines.servers import EnginesConfig
from inferwatt.export.settings import ExportConfig, OtlpConfig
from inferwatt.ledger.queries import LedgerReader
from inferwatt.ledger.rows import RequestRow
from inferwatt.records import Component, Device, Provenance
from inferwatt.service import Agent
from inferwatt.settings import AgentConfig, AgentSection
from inferwatt.snapshot import Labels
from inferwatt.sources import Found
from inferwatt.testing import ScriptedSource

from .collector import Collector, collecting
from .otlp_receiver import receiving, told
from .victoria import wait_until

pytest.importorskip("opentelemetry.sdk", reason="it comes with make test-observability")
CPU = Device("cpu-0", domain="rail", component=Component.CPU, provenance=Provenance.SAMPLED, source="hwmon")


@contextmanager
def metering(folder: Path, otlp: OtlpConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """Run an agent on a CPU whose counter moves."""
    socket = str(folder / "agent.sock")
    monkeypatch.setenv(endpoint.VARIABLE, socket)
    settings = AgentConfig(
        agent=AgentSection(state_dir=str(folder), socket=socket),
        engines=EnginesConfig(discover=False),
        export=ExportConfig(otlp=otlp),
    )
    source = ScriptedSource(CPU, range(0, 1_000_000_000, 1_234_567))
    agent = Agent(settings, find_sources=lambda _settings: Found((source,)), serve_http=False)
    sdk.flush()
    agent.start()
    try:
        yield agent
        sdk.flush()
    finally:
        agent.stop()


def work(seconds: float) -> None:
    """Use the CPU within a request."""
    with inferwatt.request(model="m", tenant="acme") as request:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass
        request.usage(prompt=12, output=34)


def kept(folder: Path) -> tuple[dict[str, dict[Labels, float]], list[RequestRow]]:
    """Return what the ledger has."""
    ledger = LedgerReader.open(folder / "ledger.sqlite")
    try:
        return ledger.counters(), ledger.requests(limit=100)
    finally:
        ledger.close()


def last(collector: Collector, name: str) -> dict[frozenset[tuple[str, object]], float]:
    """Return what a counter came to, by its attributes: the last point of each start, or the sum of all deltas."""
    metric = next(metric for metric in collector.came.metrics if metric.name == name)
    is_delta = metric.sum.aggregation_temporality == 1
    ends: dict[frozenset[tuple[str, object]], dict[int, float]] = {}
    for point in collector.came.points(name):
        key = frozenset(told(point).items())
        value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
        ends.setdefault(key, {})[point.time_unix_nano if is_delta else point.start_time_unix_nano] = value
    return {key: sum(values.values()) for key, values in ends.items()}


def settled(collector: Collector, name: str, total: float) -> None:
    """Wait until what was sent has come through the collector."""
    wait_until(lambda: collector.came.points(name) and abs(sum(last(collector, name).values()) - total) < 1e-5)


@pytest.mark.parametrize(("protocol", "temporality"), [("http", "cumulative"), ("grpc", "delta")])
def test_sums_in_the_collector_are_those_of_the_ledger(
    protocol: str, temporality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joules by device, by phase and by tenant, and tokens: to the microjoule, the end included."""
    with collecting(tmp_path) as collector:
        otlp = OtlpConfig(collector.endpoint(protocol), protocol, temporality=temporality, period_seconds=0.3)  # type: ignore[arg-type]
        with metering(tmp_path, otlp, monkeypatch):
            work(0.5)
            work(0.5)
        counters, _ = kept(tmp_path)
        for family, name in (
            ("inferwatt_device_energy_joules_total", "hw.energy"),
            ("inferwatt_energy_joules_total", "inferwatt.energy"),
            ("inferwatt_tenant_energy_joules_total", "inferwatt.tenant.energy"),
        ):
            joules = [uj / 1e6 for uj in counters[family].values() if uj]
            settled(collector, name, sum(joules))
            assert sorted(value for value in last(collector, name).values() if value) == pytest.approx(sorted(joules))
        tokens = counters["inferwatt_output_tokens_total"]

    assert sum(last(collector, "inferwatt.output_tokens").values()) == sum(tokens.values()) == 68


def test_each_request_is_a_span_with_its_joules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start, end, tokens, tenant and energy are those of the ledger's row, and no request comes twice."""
    with collecting(tmp_path) as collector:
        with metering(tmp_path, OtlpConfig(collector.endpoint("http"), period_seconds=0.3), monkeypatch):
            for _ in range(3):
                work(0.4)
        _, rows = kept(tmp_path)
        wait_until(lambda: len(collector.came.spans) >= 3)
    by_name = {row.request.request: row for row in rows}
    spans = {told(span)["inferwatt.request_id"]: span for span in collector.came.spans}

    assert len(collector.came.spans) == len(spans) == 3
    assert set(spans) == set(by_name)
    for name, span in spans.items():
        row, found = by_name[name], told(span)
        assert (span.start_time_unix_nano, span.end_time_unix_nano) == (row.arrival_unix_ns, row.end_unix_ns)
        assert (found["gen_ai.request.model"], found["inferwatt.tenant"]) == ("m", "acme")
        assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (12, 34)
        energy = row.energy and row.energy.energy_uj / 1e6
        assert found.get("inferwatt.energy_joules") == energy
    assert any("inferwatt.energy_joules" in told(span) for span in spans.values())


def test_a_restart_begins_at_zero_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger's counters go on, the stream begins anew with its process: both runs together are the ledger's."""
    with collecting(tmp_path) as collector:
        otlp = OtlpConfig(collector.endpoint("http"), period_seconds=0.3)
        for _ in range(2):
            with metering(tmp_path, otlp, monkeypatch) as agent:
                agent.wait(2.0)
        counters, _ = kept(tmp_path)
        (kept_uj,) = counters["inferwatt_device_energy_joules_total"].values()
        settled(collector, "hw.energy", kept_uj / 1e6)
        starts = {point.start_time_unix_nano for point in collector.came.points("hw.energy")}

    assert len(starts) == 2
    assert kept_uj > 0


def test_a_span_is_below_its_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's current span is the parent, in its trace; a trace that is not kept has no span of ours."""
    trace = pytest.importorskip("opentelemetry.trace")
    tracer = pytest.importorskip("opentelemetry.sdk.trace").TracerProvider().get_tracer("test")
    unsampled = trace.NonRecordingSpan(trace.SpanContext(0xA, 0xB, is_remote=True, trace_flags=trace.TraceFlags(0)))
    with collecting(tmp_path) as collector:
        with metering(tmp_path, OtlpConfig(collector.endpoint("grpc"), "grpc", period_seconds=0.3), monkeypatch):
            with trace.use_span(unsampled):
                work(0.1)
            with tracer.start_as_current_span("outer") as outer:
                work(0.1)
        wait_until(lambda: collector.came.spans)
        (span,) = collector.came.spans
    above = outer.get_span_context()

    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (f"{above.trace_id:032x}", f"{above.span_id:016x}")
    assert span.span_id != span.parent_span_id
    assert len(kept(tmp_path)[1]) == 2


@pytest.mark.parametrize(("protocol", "temporality"), [("http", "delta"), ("grpc", "cumulative")])
def test_a_collector_that_ends_and_comes_back_misses_nothing(
    protocol: str, temporality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joules and requests of the time between come when it is there again."""
    with collecting(tmp_path) as collector:
        otlp = OtlpConfig(collector.endpoint(protocol), protocol, temporality=temporality, period_seconds=0.2)  # type: ignore[arg-type]
        with metering(tmp_path, otlp, monkeypatch) as agent:
            work(0.3)
            wait_until(lambda: collector.came.points("hw.energy"))
            collector.end()
            work(0.3)
            wait_until(lambda: any("otlp" in labels for labels in failures(agent)))
            collector.start()
            told_before = len(collector.came.metrics)
            wait_until(lambda: len(collector.came.metrics) > told_before)
        counters, rows = kept(tmp_path)
        (kept_uj,) = counters["inferwatt_device_energy_joules_total"].values()
        settled(collector, "hw.energy", kept_uj / 1e6)
        wait_until(lambda: len(collector.came.spans) >= len(rows))

    assert len({span.span_id for span in collector.came.spans}) == len(rows) == 2


def failures(agent: Agent) -> set[Labels]:
    """Return which exporters failed, and why."""
    return set(agent.keeper.snapshot.values.get("inferwatt_export_failures_total", {}))


def test_requests_of_an_outage_outlive_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector is away until the agent has ended: the next one sends the span, below its caller's."""
    trace = pytest.importorskip("opentelemetry.trace")
    tracer = pytest.importorskip("opentelemetry.sdk.trace").TracerProvider().get_tracer("test")
    with receiving() as came:
        collector = Collector(tmp_path, came)
        otlp = OtlpConfig(collector.endpoint("http"), period_seconds=0.3, timeout_seconds=1)
        with metering(tmp_path, otlp, monkeypatch), tracer.start_as_current_span("call"):
            above = trace.get_current_span().get_span_context()
            work(0.3)
        assert (tmp_path / "unsent-otlp.json").exists()
        collector.start()
        try:
            with metering(tmp_path, otlp, monkeypatch):
                wait_until(lambda: came.spans)
        finally:
            collector.kill()
        (span,) = came.spans

    assert (int(span.trace_id.hex(), 16), int(span.parent_span_id.hex(), 16)) == (above.trace_id, above.span_id)
    assert told(span)["inferwatt.tenant"] == "acme"
    assert not (tmp_path / "unsent-otlp.json").exists()
