"""An endpoint that is away, or that says nothing: the meter goes on, other exporters too, and the agent ends."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inferwatt.engines.servers import EnginesConfig
from inferwatt.export.settings import ExportConfig, OtlpConfig, TextfileConfig
from inferwatt.ledger.queries import LedgerReader
from inferwatt.service import Agent
from inferwatt.settings import AgentConfig, AgentSection
from inferwatt.sources import Found
from inferwatt.testing import ScriptedSource
from tests.real.conftest import free_port

from .test_otlp_agent import CPU
from .victoria import wait_until

pytest.importorskip("opentelemetry.sdk", reason="it comes with make test-observability")
PATIENCE_SECONDS = 30.0


@contextmanager
def silent() -> Iterator[socket.socket]:
    """Listen where connections are taken and nothing is ever said."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(PATIENCE_SECONDS)
        yield listener


def port_of(listener: socket.socket) -> int:
    """Return where it listens."""
    return int(listener.getsockname()[1])


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_an_outage_touches_nothing_else(kind: str, protocol: str, tmp_path: Path) -> None:
    """The ledger has every joule, the page of another exporter too; what failed is counted, and the agent ends."""
    page = tmp_path / "page.prom"
    with silent() as listener:
        otlp = OtlpConfig(
            f"http://127.0.0.1:{free_port() if kind == 'closed' else port_of(listener)}",
            "grpc" if protocol == "grpc" else "http",
            period_seconds=0.2,
            timeout_seconds=0.5,
        )
        settings = AgentConfig(
            agent=AgentSection(state_dir=str(tmp_path), socket=str(tmp_path / "agent.sock")),
            engines=EnginesConfig(discover=False),
            export=ExportConfig(textfile=TextfileConfig(str(page), 0.2), otlp=otlp),
        )
        source = ScriptedSource(CPU, range(0, 1_000_000_000, 1_234_567))
        agent = Agent(settings, find_sources=lambda _settings: Found((source,)), serve_http=False)
        agent.start()
        reason = "timeout" if kind == "silent" else "connection"
        told = f'inferwatt_export_failures_total{{exporter="otlp",reason="{reason}"}}'
        wait_until(lambda: page.exists() and told in page.read_text())
        agent.stop()
    ledger = LedgerReader.open(tmp_path / "ledger.sqlite")
    (kept_uj,) = ledger.counters()["inferwatt_device_energy_joules_total"].values()
    ledger.close()
    line = next(
        line for line in page.read_text().splitlines() if line.startswith("inferwatt_device_energy_joules_total")
    )

    assert round(float(line.split()[-1]) * 1e6) == kept_uj > 0


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_real_agent_ends_before_a_receiver_that_says_nothing(protocol: str, tmp_path: Path) -> None:
    """With an answer awaited for an hour it still ends by SIGTERM, with status 0 and without a traceback."""
    with silent() as listener:
        config = tmp_path / "inferwatt.toml"
        config.write_text(
            f"""
            [export.otlp]
            endpoint = "http://127.0.0.1:{port_of(listener)}"
            protocol = "{protocol}"
            period_seconds = 0.1
            timeout_seconds = 3600
            """
        )
        command = [sys.executable, "-m", "inferwatt", "agent", "--config", str(config), "--listen", "127.0.0.1:0"]
        command += ["--state-dir", str(tmp_path), "--socket", str(tmp_path / "agent.sock")]
        agent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            connection, _ = listener.accept()
            agent.send_signal(signal.SIGTERM)
            _, said = agent.communicate(timeout=PATIENCE_SECONDS)
        finally:
            agent.kill()
            agent.wait()
        connection.close()

    assert agent.returncode == 0
    assert "Traceback" not in said
