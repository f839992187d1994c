"""A whole agent tells Datadog's Agent what its ledger has, to the last joule, the end included."""

from pathlib import Path

import pytest

from inferwatt.engines.servers import EnginesConfig
from inferwatt.export.settings import DatadogConfig, ExportConfig
from inferwatt.ledger.queries import LedgerReader
from inferwatt.records import Component, Device, Provenance
from inferwatt.service import Agent
from inferwatt.settings import AgentConfig, AgentSection
from inferwatt.sources import Found
from inferwatt.testing import ScriptedSource

from .dogstatsd import receiving

pytest.importorskip("datadog", reason="it comes with make test-observability")
CPU = Device("cpu-0", domain="rail", component=Component.CPU, provenance=Provenance.SAMPLED, source="hwmon")
JOULES = "inferwatt.device_energy_joules.count"


def test_sums_in_datadog_are_those_of_the_ledger(tmp_path: Path) -> None:
    """What was told in intervals sums to the ledger's counter, and the last interval goes out when the agent ends."""
    with receiving("udp", tmp_path) as datadog:
        settings = AgentConfig(
            agent=AgentSection(state_dir=str(tmp_path), socket=str(tmp_path / "agent.sock")),
            engines=EnginesConfig(discover=False),
            export=ExportConfig(datadog=DatadogConfig(dogstatsd=datadog.url, period_seconds=0.3)),
        )
        source = ScriptedSource(CPU, range(0, 1_000_000_000, 1_234_567))
        agent = Agent(settings, find_sources=lambda _settings: Found((source,)), serve_http=False)
        agent.start()
        agent.wait(3.0)
        agent.stop()
        told = [each.value for each in datadog.rest() if each.name == JOULES]
    ledger = LedgerReader.open(tmp_path / "ledger.sqlite")
    (kept_uj,) = ledger.counters()["inferwatt_device_energy_joules_total"].values()
    ledger.close()

    assert len(told) > 1
    assert sum(told) == pytest.approx(kept_uj / 1e6, rel=1e-7)
    assert kept_uj > 0
