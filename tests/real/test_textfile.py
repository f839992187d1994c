"""The page that a real node_exporter takes from a file."""

import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatt.export.catalog import CATALOG
from inferwatt.export.exporter import Batch
from inferwatt.export.textfile import Textfile
from tests.real.prometheus import free_port, program
from tests.real.test_prometheus import whole_catalogue

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 30.0


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """The page of a node_exporter that serves its textfile collector alone, over a page of ours with every family."""
    Textfile(tmp_path / "inferwatt.prom", 1.0).export(Batch(0, whole_catalogue()))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus-node-exporter"),
        *("--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={tmp_path}"),
        f"--web.listen-address={address}",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield _page(f"http://{address}/metrics")
        finally:
            process.terminate()


def _page(url: str) -> str:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def test_node_exporter_serves_every_family_of_ours(page: str) -> None:
    """Nothing of the page is refused, and no family collides with node_exporter's own."""
    missing = [name for name in CATALOG if f"# TYPE {name} " not in page and not name.startswith("process_")]

    assert "node_textfile_scrape_error 0\n" in page
    assert missing == []
    assert "inferwatt_energy_joules_total{" in page
    assert page.count("# TYPE process_cpu_seconds_total ") <= 1
