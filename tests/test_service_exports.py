"""Exporters within an agent: what they send, how they are, and that the last figures go out."""

import re
from pathlib import Path

from inferwatt.books import Books
from inferwatt.engines.servers import EnginesConfig
from inferwatt.export.exporter import OutletHealth
from inferwatt.export.settings import ExportConfig, TextfileConfig
from inferwatt.ledger.queries import LedgerReader
from inferwatt.records import Component, Device, Provenance
from inferwatt.service import Agent
from inferwatt.settings import AgentConfig, AgentSection
from inferwatt.sources import Found
from inferwatt.testing import ScriptedSource
from inferwatt.vitals import bring_in_exports

CPU = Device("cpu-0", domain="rail", component=Component.CPU, provenance=Provenance.SAMPLED, source="hwmon")


def test_the_last_figures_go_out_when_the_agent_ends(tmp_path: Path) -> None:
    """With a period of an hour the page is still that of the end: its joules are the ledger's, to the microjoule."""
    page = tmp_path / "inferwatt.prom"
    settings = AgentConfig(
        agent=AgentSection(state_dir=str(tmp_path), socket=str(tmp_path / "agent.sock")),
        engines=EnginesConfig(discover=False),
        export=ExportConfig(textfile=TextfileConfig(str(page), 3600.0), families_off=("inferwatt_samples_total",)),
    )
    source = ScriptedSource(CPU, range(0, 1_000_000_000, 1_000_000))
    agent = Agent(settings, find_sources=lambda _settings: Found((source,)), serve_http=False)
    agent.start()
    agent.wait(2.0)
    agent.stop()
    text = page.read_text()
    found = re.search(r"^inferwatt_device_energy_joules_total\{.*\} (\S+)$", text, re.MULTILINE)
    ledger = LedgerReader.open(tmp_path / "ledger.sqlite")
    (kept_uj,) = ledger.counters()["inferwatt_device_energy_joules_total"].values()
    ledger.close()

    assert found is not None
    assert round(float(found.group(1)) * 1e6) == kept_uj > 0
    assert "inferwatt_source_up" in text
    assert "inferwatt_samples_total" not in text


def test_how_an_exporter_goes_is_a_metric() -> None:
    """Counts follow the outlet's own; what may be lost begins at 0, so that the first loss is an increase."""
    books = Books()
    bring_in_exports([OutletHealth("otlp", 3, {"timeout": 2}, {"overflow": 5}, 7, 12.5)], books)
    bring_in_exports([OutletHealth("otlp", 4, {"timeout": 2}, {"overflow": 6}, 0, None)], books)

    assert {name: series for name, series in books.values.items() if "export" in name} == {
        "inferwatt_exports_total": {("otlp",): 4},
        "inferwatt_export_failures_total": {("otlp", "timeout"): 2},
        "inferwatt_export_dropped_total": {("otlp", "overflow"): 6, ("otlp", "refused"): 0},
        "inferwatt_export_queued_requests": {("otlp",): 0},
        "inferwatt_export_last_success_timestamp_seconds": {("otlp",): 12.5},
    }
