"""What a real agent pushes by remote write is in a real Prometheus and a real VictoriaMetrics, as its ledger has it."""

import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inferwatt.engines.servers import EnginesConfig
from inferwatt.export.remote_write_wire import field
from inferwatt.export.settings import ExportConfig, RemoteWriteConfig
from inferwatt.ledger.queries import LedgerReader
from inferwatt.records import Component, Device, Provenance
from inferwatt.service import Agent
from inferwatt.settings import AgentConfig, AgentSection
from inferwatt.sources import Found
from inferwatt.testing import ScriptedSource
from tests.real.conftest import free_port
from tests.real.prometheus import Prometheus, program

from .victoria import get, victoria_metrics, wait_until

cramjam = pytest.importorskip("cramjam", reason="it comes with make test-observability")
CPU = Device("cpu-0", domain="rail", component=Component.CPU, provenance=Provenance.SAMPLED, source="hwmon")
ENERGY = "inferwatt_device_energy_joules_total"


@contextmanager
def prometheus(folder: Path, port: int, *, ended: int = signal.SIGTERM) -> Iterator[str]:
    """Run a Prometheus that takes remote writes and scrapes nothing, until that signal; return where."""
    (folder / "none.yml").write_text("scrape_configs: []\n")
    flags = ["--web.enable-remote-write-receiver", f"--web.listen-address=127.0.0.1:{port}"]
    place = [f"--storage.tsdb.path={folder / 'data'}", f"--config.file={folder / 'none.yml'}"]
    process = subprocess.Popen(
        [program("prometheus"), *flags, *place], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_there(f"{url}/-/ready"))
        yield url
    finally:
        process.send_signal(ended)
        process.wait(20)


def is_there(url: str) -> bool:
    """Return whether an address answers."""
    try:
        return bool(get(url))
    except OSError:
        return False


@contextmanager
def victoria(folder: Path, _port: int) -> Iterator[str]:
    """Run a VictoriaMetrics; return where."""
    with victoria_metrics(folder / "victoria") as url:
        yield url


def agent(folder: Path, url: str) -> Agent:
    """Return an agent of one device that pushes five times a second."""
    write = RemoteWriteConfig(
        url=f"{url}/api/v1/write", queue_dir=str(folder / "queue"), instance="here", period_seconds=0.2
    )
    settings = AgentConfig(
        agent=AgentSection(state_dir=str(folder), socket=str(folder / "agent.sock")),
        engines=EnginesConfig(discover=False),
        export=ExportConfig(remote_write=write),
    )
    source = ScriptedSource(CPU, range(0, 1_000_000_000, 1_234_567))
    return Agent(settings, find_sources=lambda _settings: Found((source,)), serve_http=False)


def kept_joules(folder: Path) -> float:
    """Return the device's counter as the ledger has it."""
    ledger = LedgerReader.open(folder / "ledger.sqlite")
    (kept_uj,) = ledger.counters()[ENERGY].values()
    ledger.close()
    return kept_uj / 1e6


@pytest.mark.parametrize("receiver", [prometheus, victoria])
def test_sums_are_those_of_the_ledger_and_end_with_the_agent(
    receiver: Callable[[Path, int], Iterator[str]], tmp_path: Path
) -> None:
    """The last value is the ledger's counter; the series ends with the agent, at once."""
    with receiver(tmp_path, free_port()) as url:  # type: ignore[attr-defined]
        pushed = agent(tmp_path, url)
        pushed.start()
        pushed.wait(3.0)
        there = Prometheus(url)
        assert [sample.labels["instance"] for sample in there.wait(ENERGY)] == ["here"]
        pushed.stop()
        wait_until(lambda: not there.query(ENERGY))
        told = there.value(f"last_over_time({ENERGY}[1m])")

    assert told == pytest.approx(kept_joules(tmp_path), rel=1e-9)
    assert told > 0


def test_what_a_receiver_missed_it_has_when_it_comes_back(tmp_path: Path) -> None:
    """While nobody listens samples wait on disk, over the agent's end too, and come in order; none is lost."""
    port = free_port()
    away = agent(tmp_path, f"http://127.0.0.1:{port}")
    away.start()
    away.wait(2.0)
    away.stop()
    waiting = len(list((tmp_path / "queue").iterdir()))
    assert waiting > 3

    with prometheus(tmp_path, port) as url:
        back = agent(tmp_path, url)
        back.start()
        there = Prometheus(url)
        wait_until(lambda: there.query(f"count_over_time({ENERGY}[1m]) > {waiting - 2}"))
        back.stop()
        assert there.value(f"resets({ENERGY}[1m])") == 0
        assert not list((tmp_path / "queue").iterdir())


@pytest.mark.parametrize("receiver", [prometheus, victoria])
def test_a_write_of_2_0_is_taken_and_lost(receiver: Callable[[Path, int], Iterator[str]], tmp_path: Path) -> None:
    """Why ours is 1.0: an older receiver answers a request of 2.0 with 204, without a word of what it wrote."""
    symbols = b"".join(field(0x22, text) for text in (b"", b"__name__", b"lost"))
    body = symbols + field(0x2A, field(0x0A, b"\x01\x02") + field(0x12, b"\x09" + bytes(8) + b"\x10\x01"))
    with receiver(tmp_path, free_port()) as url:  # type: ignore[attr-defined]
        request = urllib.request.Request(f"{url}/api/v1/write", bytes(cramjam.snappy.compress_raw(body)), method="POST")
        request.add_header("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
        request.add_header("Content-Encoding", "snappy")
        request.add_header("X-Prometheus-Remote-Write-Version", "2.0.0")
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 204
            assert not any(name.lower().endswith("-written") for name in answer.headers)
        assert Prometheus(url).query('last_over_time({__name__="lost"}[1m])') == []
