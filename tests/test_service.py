"""The rooms together: what discovery says reaches the metrics, and a child's use of a GPU reaches its parent."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatt.engines.servers import EnginesConfig
from inferwatt.records import Component, Device, Provenance
from inferwatt.service import Agent
from inferwatt.settings import AgentConfig, AgentSection
from inferwatt.snapshot import Lack
from inferwatt.sources import Found
from inferwatt.testing import ScriptedSource

from .sources.devices import HeldGpu

CPU = Device("cpu-0", domain="rail", component=Component.CPU, provenance=Provenance.SAMPLED, source="hwmon")
LACKS = (
    Lack("no RAPL", "/sys", "bare metal", "rapl", "cpu"),
    Lack("no exporter", "/sys", "start it", "reported", "cpu"),
)
PATIENCE_SECONDS = 20


@pytest.fixture(scope="module")
def child() -> Iterator[int]:
    """A child process of this one."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")


@pytest.fixture(scope="module")
def agent(child: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent without a page and without servers; its devices are a CPU, and a GPU that our child holds."""
    tmp_path = tmp_path_factory.mktemp("agent")
    settings = AgentConfig(
        agent=AgentSection(state_dir=str(tmp_path), socket=str(tmp_path / "agent.sock")),
        engines=EnginesConfig(discover=False),
    )
    cpu = ScriptedSource(CPU, range(0, 1_000_000_000, 1_000_000))
    found = Found((HeldGpu(child), cpu), LACKS, asked=("nvml", "scripted"))
    agent = Agent(settings, find_sources=lambda _settings: found, serve_http=False)
    agent.start()
    yield agent
    agent.stop()


def value(agent: Agent, family: str, *labels: str) -> float:
    """Return one value of the newest snapshot, as soon as it is there."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        found = agent.keeper.snapshot.values.get(family, {})
        if labels in found:
            return found[labels]
        time.sleep(0.02)
    raise AssertionError(f"{family} of {labels} did not come")


def test_a_childs_use_of_a_gpu_is_its_parents(agent: Agent) -> None:
    """The agent itself is watched, so what its child holds of a GPU is the agent's energy and nobody else's."""
    assert value(agent, "inferwatt_agent_energy_joules_total", "measured") > 0


def test_who_was_asked_and_found_nothing_is_down(agent: Agent) -> None:
    """Every source that discovery asked has a series, one that was not asked has none."""
    assert value(agent, "inferwatt_source_up", "nvml") == 0
    assert value(agent, "inferwatt_source_up", "scripted") == 1
    assert len(agent.keeper.snapshot.values["inferwatt_source_up"]) == 2


def test_only_lacks_that_would_change_something_are_told(agent: Agent) -> None:
    """The opening names the devices, and of what is lacking only what is better than what is read."""
    lines = agent.opening_lines()

    assert "devices: gpu-0 (measured ±5%, scripted), cpu-0 (sampled ±5%, scripted)" in lines
    assert [line for line in lines if line.startswith("lacks: no ")] == ["lacks: no RAPL -> bare metal"]
