"""The real agent, the real llama.cpp server and the real nvidia-ml-py, over a stand-in for NVIDIA's library.

There is no GPU: tests/doubles/nvml.c answers in its place. The server computes on the CPU, and the stand-in says that
it holds GPU 0. What is shown here is that joules find their way, and that one bad GPU harms no other.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.nvml import StandIn
from tests.real.children import AgentProcess, Client
from tests.real.conftest import LlamaCpp
from tests.real.ledgers import assert_conserved
from tests.real.pages import Samples, fallen, get_json, samples, total, wait_for
from tests.sources.gpus import nvml_library

pytestmark = pytest.mark.real

__all__ = ["nvml_library"]

GPUS = 8
WATTS = 300.0
TICK_NS = 100_000_000
DEVICE = "inferwatt_device_energy_joules_total"
ENERGY = "inferwatt_energy_joules_total"
EVENTS = "inferwatt_device_events_total"
SECONDS_30_NS = 30 * 10**9


class Machine:
    """Eight GPUs of the stand-in, each at 300 W with a counter that moves every 100 ms, and their agent."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.stand_in = StandIn(folder, GPUS)
        for gpu in self.stand_in.gpus[:GPUS]:
            gpu.run(WATTS, tick_ns=TICK_NS)
        card = folder / "sys" / "bus" / "pci" / "devices" / "0000:01:00.0"
        card.mkdir(parents=True)
        (card / "vendor").write_text("0x10de\n")
        (card / "class").write_text("0x030200\n")
        config = folder / "inferwatt.toml"
        config.write_text(f'[sources]\nsysfs_root = "{folder / "sys"}"\ncloud_metadata = false\n')
        environment = {"LD_LIBRARY_PATH": str(library.parent), **self.stand_in.environment}
        self.agent = AgentProcess(folder, "--config", str(config), environment=environment)

    def joules(self, device: str) -> float:
        """Return the joules of a device so far."""
        return total(samples(self.agent.url), DEVICE, device=device)

    def events(self, device: str) -> dict[str, float]:
        """Return what happened to a device's counter, by kind."""
        page = samples(self.agent.url)
        return {dict(labels)["kind"]: value for (name, labels), value in page.items() if _is(name, labels, device)}


def _is(name: str, labels: frozenset[tuple[str, str]], device: str) -> bool:
    return name == EVENTS and ("device", device) in labels


@pytest.fixture
def machine(tmp_path: Path, nvml_library: Path) -> Iterator[Machine]:
    """The machine, its agent up and all its GPUs read."""
    machine = Machine(tmp_path, nvml_library)
    with machine.agent:
        wait_for("all eight GPUs", lambda: all(machine.joules(f"gpu-{n}") > 0 for n in range(GPUS)))
        yield machine


def test_a_servers_requests_get_the_joules_of_its_gpu_and_of_no_other(
    machine: Machine, llamacpp_server: LlamaCpp
) -> None:
    """The GPU that the server's process holds is its model's; the seven that nobody holds are nobody's idle."""
    machine.stand_in.gpus[0].hold(llamacpp_server.pid)
    machine.agent.wait_for_server(llamacpp_server.url)
    with Client(machine.agent, llamacpp_server.url, count=4) as client:
        client.finish()
        finals = client.finals()
    page = samples(machine.agent.url)
    name = next(iter(finals))
    request = get_json(f"{machine.agent.url}/v1/requests/{name}")

    assert len(finals) == 4
    assert all(joules for joules in finals.values())
    assert total(page, ENERGY, component="accelerator", phase="decode", provenance="measured") > 0
    assert total(page, ENERGY, component="accelerator", phase="idle_resident") > 0
    assert total(page, ENERGY, component="cpu", phase="decode", provenance="modelled") > 0
    assert request["energy_joules"] == pytest.approx((finals[name] or 0) / 1e6)
    empty, held = total(page, ENERGY, component="accelerator", phase="idle_empty"), machine.joules("gpu-0")
    others = sum(machine.joules(f"gpu-{n}") for n in range(1, GPUS))
    assert others - GPUS * WATTS < empty < others + held
    assert total(page, "inferwatt_device_temperature_celsius", device="gpu-0") == 51
    assert total(page, "inferwatt_device_power_limit_watts", device="gpu-0") == 650


def test_a_gpu_that_hangs_or_is_lost_harms_no_other_and_no_end(machine: Machine) -> None:
    """The other six go on, the health page answers and names both, the lost one comes back, and the end is quick."""
    hung, lost = machine.stand_in.gpus[3], machine.stand_in.gpus[5]
    hung.page.delay_ns = SECONDS_30_NS
    lost.lose()
    wait_for("both told", lambda: {"gpu-3", "gpu-5"} <= _silent(machine.agent.health()))
    page, healthy = samples(machine.agent.url), set(range(GPUS)) - {3, 5}
    wait_for("six that go on", lambda: _gained(machine, page) >= healthy)
    assert "device_gone" in machine.events("gpu-5")
    assert "read_failure" in machine.events("gpu-3")

    # what was read before is shown by now
    settled = samples(machine.agent.url)
    lost.come_back()
    wait_for("the lost one", lambda: _gained(machine, settled) >= {5, *healthy}, 40)
    assert 3 not in _gained(machine, settled, 0.0)

    assert fallen(page, samples(machine.agent.url)) == {}
    assert machine.agent.end() == 0
    assert_conserved(machine.agent.ledger)


def _silent(health: dict[str, list[str]]) -> set[str]:
    return {trouble.split()[1] for trouble in health["trouble"] if trouble.startswith("device ")}


def _gained(machine: Machine, before: Samples, joules: float = 3 * WATTS) -> set[int]:
    """Return the GPUs that used more than so many joules since that page: 3 s of it, if nothing else is said."""
    return {n for n in range(GPUS) if machine.joules(f"gpu-{n}") - total(before, DEVICE, device=f"gpu-{n}") > joules}
