"""Spans of a real GenAI instrumentation, by OpenTelemetry's real exporter, at a real agent."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import inferwatt
from inferwatt import sdk
from inferwatt.clients import telling
from tests.instrument import ways
from tests.instrument.answers import CACHED, OUTPUT, PROMPT
from tests.instrument.apis import Apis
from tests.real.children import AgentProcess
from tests.real.conftest import free_port
from tests.real.pages import get_json, samples, total, wait_for

pytestmark = pytest.mark.real

REQUESTS = "inferwatt_estimated_requests_total"


CARBON = {"INFERWATT_ESTIMATES__CARBON_GRAMS_PER_KWH": "360", "INFERWATT_ESTIMATES__CARBON_SOURCE": "a test"}


class Taking(AgentProcess):
    """An agent that takes spans and knows what a kWh emits; the stand-ins of this machine count as managed APIs."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        listen = f"127.0.0.1:{self.port}"
        super().__init__(
            home,
            environment={"INFERWATT_SPANS__LISTEN": listen, "INFERWATT_SPANS__MANAGED": '["127.0.0.1"]', **CARBON},
        )

    def exporter(self, **more: Any) -> OTLPSpanExporter:
        """Return OpenTelemetry's own exporter to it."""
        return OTLPSpanExporter(f"http://127.0.0.1:{self.port}/v1/traces", **more)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Taking]:
    """An agent of its own for each test."""
    with Taking(tmp_path) as running:
        monkeypatch.setattr(telling, "agent", telling.Agent())
        monkeypatch.setenv("INFERWATT_SOCKET", str(tmp_path / "agent.sock"))
        yield running
        sdk.flush()


@pytest.fixture
def spans() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    """OpenTelemetry's instrumentation of OpenAI's client, and what it made."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"inferwatt.tenant": "acme"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield provider, kept
    instrumentor.uninstrument()


def test_spans_become_estimates_once(
    agent: Taking, apis: Apis, spans: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """Model, tokens and tenant are the span's; protobuf, gzip and a second sending of the same make one record each."""
    inferwatt.uninstrument()
    ways.openai_chat(apis.url, "gpt-4o")
    ways.openai_chat_stream(apis.url, "gpt-4o")
    made = spans[1].get_finished_spans()
    plain, zipped = agent.exporter(), agent.exporter(compression=Compression.Gzip)

    assert [each.export(made) for each in (plain, zipped)] == [SpanExportResult.SUCCESS] * 2
    wait_for("two calls", lambda: total(samples(agent.url), REQUESTS) >= 2)
    wait_for("both turns", lambda: total(samples(agent.url), "inferwatt_spans_total", result="taken") == 4)
    page = samples(agent.url)
    assert total(page, REQUESTS, model_name="gpt-4o", provider="openai", outcome="finished") == 2
    assert total(page, "inferwatt_estimated_tokens_total", kind="prompt") == 2 * PROMPT  # it tells no cached ones
    assert total(page, "inferwatt_estimated_tokens_total", kind="output") == 2 * OUTPUT
    assert total(page, "inferwatt_estimated_tenant_energy_joules_total", tenant="acme") > 0
    assert total(page, "inferwatt_records_dropped_total", reason="duplicate") == 2
    for which in ("", "low_", "high_"):
        joules = total(page, f"inferwatt_estimated_energy_{which}joules_total", provider="openai")
        grams = total(page, f"inferwatt_estimated_emissions_{which}co2e_grams_total", provenance="estimated")
        assert grams == pytest.approx(joules / 10_000, rel=1e-4)
    assert total(page, "inferwatt_estimated_carbon_intensity_grams_per_joule", source="a test") == pytest.approx(1e-4)
    rows = get_json(f"{agent.url}/v1/requests")["requests"]
    assert {row["response_id"] for row in rows} == {span.attributes["gen_ai.response.id"] for span in made}
    assert {row["provenance"] for row in rows} == {"estimated"}


def test_openllmetrys_spans_are_read_too(agent: Taking, apis: Apis) -> None:
    """It tells cached tokens, and the address by its own name; our figures are found in its streams."""
    traces = f"http://127.0.0.1:{agent.port}/v1/traces"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.instrument.openllmetry", apis.url, traces],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "INFERWATT_SOCKET": f"{agent.home}/nobody.sock"},
        capture_output=True,
        text=True,
        check=True,
    )
    wait_for("two calls", lambda: total(samples(agent.url), REQUESTS) == 2)
    page = samples(agent.url)

    assert run.stdout.split() == ["estimated", "estimated"]
    assert total(page, "inferwatt_estimated_tokens_total", kind="cached") == 2 * CACHED
    assert total(page, "inferwatt_estimated_tokens_total", kind="output") == 2 * OUTPUT


def test_a_call_that_two_tell_of_is_one(
    agent: Taking, apis: Apis, spans: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """Our instrumentation and OpenTelemetry's of the same client: their span has our joules, the agent one record."""
    with inferwatt.calls() as calls:
        ways.openai_chat(apis.url, "gpt-4o")
        ways.openai_chat_stream(apis.url, "gpt-4o")
    made = spans[1].get_finished_spans()
    agent.exporter().export(made)
    wait_for("all witnesses", lambda: total(samples(agent.url), "inferwatt_records_total") == 4)
    wait_for("both calls", lambda: total(samples(agent.url), REQUESTS) >= 2)

    assert total(samples(agent.url), REQUESTS) == 2
    assert [span.attributes["inferwatt.energy_joules"] for span in made] == [call.energy_joules for call in calls]


def test_a_measured_figure_is_not_estimated(
    agent: Taking, apis: Apis, spans: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """A server that said its own joules: the span carries them, and no estimate is made."""
    ways.openai_chat(apis.url, "metered")
    (made,) = spans[1].get_finished_spans()
    agent.exporter().export([made])
    wait_for("the span", lambda: total(samples(agent.url), "inferwatt_spans_total", result="measured") == 1)

    assert made.attributes is not None
    assert (made.attributes["inferwatt.energy_joules"], made.attributes["inferwatt.provenance"]) == (2.5, "measured")
    assert total(samples(agent.url), REQUESTS) == 0


def test_a_truncated_batch_commits_nothing(
    agent: Taking, apis: Apis, spans: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """Protobuf that was cut anywhere is answered 400, and none of its spans is taken; whole it is."""
    inferwatt.uninstrument()
    ways.openai_chat(apis.url, "gpt-4o")
    ways.openai_chat(apis.url, "gpt-4o-mini")
    whole = encode_spans(spans[1].get_finished_spans()).SerializeToString()
    for cut in (1, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        assert posted(agent, whole[:cut]) == 400
    assert total(samples(agent.url), "inferwatt_spans_total", result="taken") == 0
    assert posted(agent, whole) == 200
    wait_for("both", lambda: total(samples(agent.url), REQUESTS) == 2)


def posted(agent: Taking, body: bytes) -> int:
    """Hand in a body of protobuf; return the status."""
    headers = {"content-type": "application/x-protobuf"}
    try:
        asked = urllib.request.Request(f"http://127.0.0.1:{agent.port}/v1/traces", body, headers)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def test_what_is_no_trace_is_refused(agent: Taking) -> None:
    """Junk is answered 400, as protobuf and as JSON, and the next trace is taken."""
    for kind in ("application/x-protobuf", "application/json"):
        request = urllib.request.Request(f"http://127.0.0.1:{agent.port}/v1/traces", b"\xff\xfe junk")
        request.add_header("content-type", kind)
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            urllib.request.urlopen(request, timeout=10)
        refused.value.close()

    assert agent.exporter().export([]) is SpanExportResult.SUCCESS
