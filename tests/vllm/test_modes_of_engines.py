"""The real vLLM 0.32 with data-parallel engines: run by `make test-vllm-modes`, not in .ci/run."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatt import recording
from inferwatt.attribution.accounts import TickEnergy
from inferwatt.attribution.attributor import Attributor, moved_to
from inferwatt.export.catalog import IDLE_RESIDENT
from inferwatt.records import Tier
from inferwatt.tallies import accounts_of
from tests.real.children import AgentProcess
from tests.real.ledgers import assert_conserved
from tests.real.pages import wait_for
from tests.vllm.books import assert_endings, assert_found, assert_law, assert_told, kept
from tests.vllm.load import Load
from tests.vllm.server import PYTHON, VllmProcess

pytestmark = pytest.mark.real

TWO = ("--data-parallel-size", "2")
GATHERING = Path(__file__).with_name("gathering.py")
DUMMY = "a dummy step of engine 1"
REQUESTS = "requests"


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny mixture of experts of random weights."""
    folder = tmp_path_factory.mktemp("experts")
    script = str(Path(__file__).with_name("tiny_model.py"))
    subprocess.run([PYTHON, script, str(folder), "experts"], check=True)
    return folder


def test_each_of_two_engines_tells_its_own_steps(tiny_model: Path, tmp_path: Path) -> None:
    """Two engines and two API servers of one address are one server: every token once, by its engine's own steps."""
    with AgentProcess(tmp_path, "--record", str(tmp_path / "recording")) as agent:
        with VllmProcess(tiny_model, agent, *TWO) as server:
            told = Load(server.url, 80).run()
            assert_found(agent, told)
        assert agent.end() == 0, agent.err.read_text()
    found = kept(agent, tmp_path / "recording")

    assert found.steps.keys() == {f"vllm:{server.port}", f"vllm:{server.port}/1"}
    assert_told(found, told)
    assert_law(found, told)
    assert_endings(found, told)
    assert_conserved(agent.ledger)
    assert set(found.tiers) <= {Tier.STEP_EXACT, None}


def test_dummy_steps_are_idle_and_nobodys_work(experts: Path, tmp_path: Path) -> None:
    """An engine that steps along for the experts' sake, without a request, has no step here and charges nobody."""
    flags = (*TWO, "--api-server-count", "1")
    with AgentProcess(tmp_path, "--record", str(tmp_path / "recording")) as agent:
        with VllmProcess(experts, agent, *flags, plugin=GATHERING.read_text()) as server:
            told = Load(server.url, 40, headers={"X-data-parallel-rank": "0"}).run()
            assert_found(agent, told)
            wait_for("dummy steps", lambda: server.log.read_text().count(DUMMY) > 100)
            log = server.log.read_text()
        assert agent.end() == 0, agent.err.read_text()
    found = kept(agent, tmp_path / "recording")
    first, second = f"vllm:{server.port}", f"vllm:{server.port}/1"
    used = used_by_engine(tmp_path / "recording")

    assert log.count(DUMMY) > 100
    assert found.steps.keys() == {first}
    assert_told(found, told)
    assert_law(found, told)
    assert_conserved(agent.ledger)
    assert used[first, REQUESTS] > 0
    assert {account for engine, account in used if engine == second} == {IDLE_RESIDENT}


def used_by_engine(folder: Path) -> Counter[tuple[str, str]]:
    """Return the energy of a recording by engine and account, µJ: its requests', and what nobody asked for."""
    used: Counter[tuple[str, str]] = Counter()
    for tick in ticks(folder):
        for (engine, *_), parts in tick.requests.items():
            used[engine, REQUESTS] += sum(parts)
        for account, engine, uj in accounts_of(tick):
            used[engine, account] += uj
    return +used


def ticks(folder: Path) -> Iterator[TickEnergy]:
    """Attribute a recording as the agent that wrote it did."""
    source = recording.read(folder)
    meta = source.meta
    attributor = Attributor(hold_ns=meta.hold_ns)
    for device in meta.devices:
        attributor.add_device(device)
    for model in meta.models:
        attributor.add_model(model)
    for engine in meta.engines:
        attributor.add_engine(engine, loaded=engine.engine not in source.loaded_later)
    for record in source.records:
        attributor.feed(record)
        if (now_ns := moved_to(record)) is not None:
            yield from attributor.advance(now_ns).ticks
