"""The real vLLM 0.32 on two tensor-parallel ranks, with LoRA adapters; asleep, killed and started anew: one story."""

import signal
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from inferwatt.records import Outcome, Request, Tier
from tests.real.children import AgentProcess
from tests.real.ledgers import assert_conserved
from tests.real.pages import Samples, samples, total, wait_for
from tests.vllm.books import Kept, assert_endings, assert_found, assert_law, assert_told, kept
from tests.vllm.load import Load, Told
from tests.vllm.server import MODEL, PYTHON, VllmProcess

pytestmark = pytest.mark.real

ADAPTERS = ("red", "blue")
WAITING = 3
ASLEEP_SECONDS = 2.0
ENVIRONMENT = {"VLLM_SERVER_DEV_MODE": "1"}
"""Without it vLLM 0.32 has no /sleep where its platform cannot give memory back; its scheduler sleeps all the same."""


@dataclass(frozen=True, slots=True)
class Story:
    """What was told and kept, and when the engine slept."""

    agent: AgentProcess
    found: Kept
    told: list[Told]
    waited: list[Told]
    killed: list[Told]
    anew: list[Told]
    asleep: tuple[int, int]
    page: Samples

    def rows(self, told: list[Told]) -> list[Request]:
        """Return what was kept of some requests."""
        return [row for one in told for row in self.found.rows[one.request_id]]


@pytest.fixture(scope="module")
def story(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """An engine that serves three models, sleeps while some wait, is killed under load, and starts anew."""
    folder = tmp_path_factory.mktemp("modes")
    flags = (*adapters(folder), "--tensor-parallel-size", "2")
    with AgentProcess(folder, "--record", str(folder / "recording")) as agent:
        with VllmProcess(tiny_model, agent, *flags, environment=ENVIRONMENT) as server:
            told = Load(server.url, 48, models=(MODEL, *ADAPTERS)).run()
            assert_found(agent, told)
            wait_for("an end of all", lambda: open_requests(agent) == 0)
            asleep, waited = sleep(server, agent)
            page = samples(agent.url)
            load = Load(server.url, 100_000, seed=3, at_once=4, kinds=("long",))
            load.start()
            wait_for("open requests", lambda: open_requests(agent) > 0)
            server.signal(signal.SIGKILL)
            killed = load.stop()
        wait_for("their end", lambda: open_requests(agent) == 0)
        with VllmProcess(tiny_model, agent, *flags, port=server.port) as server:
            anew = Load(server.url, 24, seed=4, models=(MODEL, *ADAPTERS)).run()
            assert_found(agent, anew)
        assert agent.end() == 0, agent.err.read_text()
    return Story(agent, kept(agent, folder / "recording"), told, waited, killed, anew, asleep, page)


def adapters(folder: Path) -> tuple[str, ...]:
    """Write two adapters of random weights, and return the flags that load them."""
    script = str(Path(__file__).with_name("tiny_adapter.py"))
    subprocess.run([PYTHON, script, *(str(folder / name) for name in ADAPTERS)], check=True)
    modules = [f"{name}={folder / name}" for name in ADAPTERS]
    return ("--enable-lora", "--max-loras", "2", "--max-lora-rank", "8", "--lora-modules", *modules)


def sleep(server: VllmProcess, agent: AgentProcess) -> tuple[tuple[int, int], list[Told]]:
    """Let the engine sleep while some wait for it; return from when to when it slept, and what they were told."""
    post(server, "/sleep?level=1")
    begin_ns = time.monotonic_ns()
    load = Load(server.url, WAITING, seed=2, kinds=("plain",))
    load.start()
    wait_for("who waits", lambda: open_requests(agent) == WAITING)
    time.sleep(ASLEEP_SECONDS)
    end_ns = time.monotonic_ns()
    post(server, "/wake_up")
    told = load.wait()
    assert_found(agent, told)
    return (begin_ns, end_ns), told


def open_requests(agent: AgentProcess) -> int:
    """Return how many requests an agent knows that have not ended."""
    return round(total(samples(agent.url), "inferwatt_open_requests"))


def post(server: VllmProcess, path: str) -> None:
    """Tell the server something."""
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}{path}", method="POST"), timeout=60) as answer:
        assert answer.status == 200


def test_two_ranks_are_one_engine_whose_steps_are_exact(story: Story) -> None:
    """Each step is told once, by the one scheduler: tokens equal the clients' own, joules the counter."""
    ended = [*story.told, *story.waited, *story.anew]

    assert_told(story.found, ended)
    assert_law(story.found, ended)
    assert_endings(story.found, ended)
    assert_conserved(story.agent.ledger)
    assert len(story.found.steps) == 1
    assert set(story.found.tiers) <= {Tier.STEP_EXACT, None}


def test_an_adapter_is_a_model(story: Story) -> None:
    """It has its own requests, tokens and joules by its own name, beside those of the model below it."""
    for model in (MODEL, *ADAPTERS):
        asked = [one for one in story.told if one.model == model and not one.has_left]

        assert asked
        assert {row.model for row in story.rows(asked)} == {model}
        output = total(story.page, "inferwatt_output_tokens_total", model_name=model)
        assert output >= sum(one.output or 0 for one in asked)
        assert total(story.page, "inferwatt_energy_joules_total", model_name=model, phase="decode") > 0


def test_an_engine_that_sleeps_makes_no_step(story: Story) -> None:
    """Who waits for it meanwhile is computed when it wakes."""
    begin_ns, end_ns = story.asleep
    [steps] = story.found.steps.values()
    rows = story.rows(story.waited)

    assert not [step for step in steps if step[1] > begin_ns and step[0] < end_ns]
    assert len(rows) == WAITING
    for row in rows:
        assert row.outcome is Outcome.FINISHED
        assert begin_ns < row.arrival_ns < end_ns < (row.first_token_ns or 0)


def test_a_killed_engine_leaves_no_request_open(story: Story) -> None:
    """After kill -9 in mid-load the open requests end as aborted; no joule is lost."""
    heard = {one.request_id for one in (*story.told, *story.waited, *story.anew)}
    rows = [row for name, rows in story.found.rows.items() if name not in heard for row in rows]

    assert Outcome.ABORTED in {row.outcome for row in rows}
    assert_conserved(story.agent.ledger)


def test_an_engine_that_starts_anew_is_metered_again(story: Story) -> None:
    """On the same port, by the same name: each request is there once, by exact steps."""
    rows = story.rows(story.anew)

    assert {row.engine for row in rows} == {row.engine for row in story.rows(story.told)}
    assert len(rows) >= len([one for one in story.anew if not one.may_be_unheard])
