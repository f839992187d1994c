"""A real node_exporter over a made sysfs tree, read by the source `reported`."""

import contextlib
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from inferwatt.errors import SourceRetry
from inferwatt.records import Reading
from inferwatt.sources import Source, SourcesConfig, discover_all, reading_in
from inferwatt.sources.reported import discover
from inferwatt.sources.settings import ReportedConfig
from tests.real.prometheus import PATIENCE_SECONDS, free_port, program
from tests.sources.trees import RANGE_UJ, Hwmon, Powercap

pytestmark = pytest.mark.real

ODD_UJ = 240_422_366_267
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Node:
    """A running node_exporter, the tree that it reads, and how the agent is told of it."""

    url: str
    root: Path

    @property
    def settings(self) -> SourcesConfig:
        """Return a configuration with this exporter, on the same tree."""
        page = ReportedConfig(self.url, poll_seconds=POLL_SECONDS, timeout_seconds=PATIENCE_SECONDS)
        return SourcesConfig(sysfs_root=str(self.root), proc_root=str(self.root), reported=(page,))

    def counter(self, zone: str) -> Path:
        """Return the counter of a RAPL zone."""
        return self.root / "class" / "powercap" / zone / "energy_uj"


@contextlib.contextmanager
def node_exporter(root: Path) -> Iterator[Node]:
    """Run node_exporter with its RAPL and hwmon collectors alone; stop it at the end."""
    path = shutil.which("node_exporter") or program("prometheus-node-exporter")
    address = f"127.0.0.1:{free_port()}"
    flags = ("--collector.disable-defaults", "--collector.rapl", "--collector.hwmon", "--log.level=error")
    command = [path, *flags, f"--path.sysfs={root}", f"--web.listen-address={address}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_listens(process, f"http://{address}/metrics")
        yield Node(f"http://{address}/metrics", root)
    finally:
        process.kill()
        process.wait(10)


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=PATIENCE_SECONDS):
            return
        time.sleep(0.02)
    raise AssertionError(f"node_exporter did not start (exit status {process.poll()})")


def two_sockets(root: Path) -> None:
    """Lay out two packages with their DRAM, the parts and repetitions that a real machine has, and a server's meter."""
    powercap = Powercap(root)
    powercap.zone("0", "package-0", ODD_UJ)
    powercap.zone("0:0", "core", 118_821_284_256)
    powercap.zone("0:1", "dram", 12_345_678)
    powercap.zone("1", "package-1", 1)
    powercap.zone("1:0", "dram", 2_345_678)
    powercap.zone("2", "psys", 999_999_999_999)
    powercap.zone("0", "package-0", ODD_UJ, control="intel-rapl-mmio")
    meter = Hwmon(root).chip(0, "power_meter", "LNXSYSTM:00/LNXSYBUS:00/ACPI000D:00", with_device=True)
    (meter / "power1_average").write_text("250500000\n")
    (meter / "power1_average_interval").write_text("1000\n")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Run a real node_exporter over two sockets."""
    two_sockets(tmp_path)
    with node_exporter(tmp_path) as running:
        yield running


def wait(source: Source, *, until_uj: int | None = None) -> Reading:
    """Return the next reading of a source that its thread brings, or the next with that counter."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(SourceRetry):
            reading = reading_in(source.read(time.monotonic_ns()))
            if reading is not None and until_uj in (None, reading.counter_uj):
                return reading
        time.sleep(0.01)
    raise AssertionError(f"{source.device.device} had no reading in {PATIENCE_SECONDS} s")


@contextlib.contextmanager
def found(node: Node) -> Iterator[dict[str, Source]]:
    """Find the devices of a node_exporter, and close them at the end."""
    sources = discover(node.settings).sources
    try:
        yield {source.device.device: source for source in sources}
    finally:
        for source in sources:
            source.close()


def test_every_microjoule_arrives(node: Node) -> None:
    """Packages, DRAM and the server's meter, each once and exactly; core is in the package, mmio repeats it."""
    with found(node) as devices:
        readings = {name: wait(source) for name, source in devices.items()}

    assert {name: reading.counter_uj or reading.power_mw for name, reading in readings.items()} == {
        "cpu-0": ODD_UJ,
        "cpu-1": 1,
        "dram-0": 12_345_678,
        "dram-1": 2_345_678,
        "psys-2": 999_999_999_999,
        "server": 250_500,
    }
    assert readings["cpu-0"].wraps_at_uj == RANGE_UJ + 1


def test_a_counter_moves_with_the_hardware(node: Node) -> None:
    """node_exporter reads when it is asked: the next poll has what the kernel shows now, a wrap included."""
    with found(node) as devices:
        first = wait(devices["cpu-0"])
        node.counter("intel-rapl:0").write_text("17\n")
        second = wait(devices["cpu-0"], until_uj=17)

    assert first.counter_uj == ODD_UJ
    assert second.t_ns > first.t_ns


def test_a_zone_that_cannot_be_read_is_no_zero(node: Node) -> None:
    """What node_exporter leaves out is a failed read of that device; its joules go on when it is back."""
    with found(node) as devices:
        wait(devices["dram-1"])
        node.counter("intel-rapl:1:0").unlink()
        failure = None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while failure is None and time.monotonic() < deadline:
            try:
                devices["dram-1"].read(time.monotonic_ns())
            except SourceRetry as exc:
                failure = exc.what
            time.sleep(0.01)
        node.counter("intel-rapl:1:0").write_text("2345679\n")
        back = wait(devices["dram-1"], until_uj=2_345_679)

    assert failure is not None
    assert failure.startswith("dram-1: node_exporter says nothing of it")
    assert back.counter_uj == 2_345_679


def test_what_rapl_reads_itself_is_not_read_twice(node: Node) -> None:
    """Where the agent may read the counters, they are measured; the exporter's copies are passed over."""
    choice = discover_all(node.settings)
    for source in choice.sources:
        source.close()

    by_rapl = {source.device.device for source in choice.sources if source.name == "rapl"}
    reported = {source.device.device for source in choice.sources if source.name == "reported"}
    assert by_rapl == {"cpu-0", "cpu-1", "dram-0", "dram-1"}
    assert reported == {"server"}
    assert {"cpu-0", "dram-0", "psys-2"} <= {
        each.device.device for each in choice.passed_over if each.source == "reported"
    }
