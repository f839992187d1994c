"""The real vLLM 0.32 on the CPU beside the real agent: every token and every joule, whatever the clients do."""

import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from inferwatt.records import Outcome, Tier
from tests.real.children import AgentProcess
from tests.real.ledgers import assert_conserved
from tests.real.pages import samples, total, wait_for
from tests.vllm.books import (
    LEFT_IN_DECODE,
    LEFT_IN_PREFILL,
    RECOMPUTED,
    Kept,
    assert_endings,
    assert_found,
    assert_law,
    assert_told,
    happened,
    kept,
    seen,
)
from tests.vllm.load import KINDS, Load, Told
from tests.vllm.server import VllmProcess

pytestmark = pytest.mark.real

SPECULATION = '{"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1}'
USUAL = frozenset({LEFT_IN_PREFILL, LEFT_IN_DECODE, "disconnect", "stop_string"})
"""What happens in each mode."""
MOST_LOADS = 12
"""What a run must have seen comes by chance, and more rarely on a busy machine: then more is asked."""


@dataclass(frozen=True, slots=True)
class Mode:
    """A way in which vLLM works: its flags, what clients ask, and what must have happened."""

    flags: tuple[str, ...] = ()
    is_async: bool = False
    kinds: tuple[str, ...] = KINDS
    wanted: frozenset[str] = USUAL


MODES = {
    "sync": Mode(),
    "async": Mode(is_async=True, wanted=USUAL | {"eos"}),
    "preemption": Mode(("--num-gpu-blocks-override", "10"), wanted=USUAL | {RECOMPUTED}),
    "speculation": Mode(
        ("--speculative-config", SPECULATION),
        kinds=(*KINDS, "several"),
        # with drafts a request may be done before its client leaves
        wanted=frozenset({"rejected_draft", "stop_string"}),
    ),
    "two_api_servers": Mode(("--api-server-count", "2")),
}


def play(folder: Path, model: Path, mode: Mode, count: int = 56) -> tuple[list[Told], Kept, AgentProcess]:
    """Serve in a mode, ask, and return what clients were told and the agent kept."""
    recording = folder / "recording"
    with AgentProcess(folder, "--record", str(recording)) as agent:
        with VllmProcess(model, agent, *mode.flags, is_async=mode.is_async) as server:
            told = Load(server.url, count, kinds=mode.kinds).run()
            assert_found(agent, told)
            for seed in range(2, MOST_LOADS):
                if seen(agent) >= mode.wanted:
                    break
                more = Load(server.url, count // 2, seed=seed, leaves_seconds=0.03 * seed).run()
                assert_found(agent, more)
                told += more
            wait_for("joules of exact steps", lambda: _exact_joules(agent) > 0)
            page = samples(agent.url)
        assert agent.end() == 0, agent.err.read_text()
    assert not {labels for (name, labels), lost in page.items() if lost and name == "inferwatt_records_dropped_total"}
    return told, kept(agent, recording), agent


def _exact_joules(agent: AgentProcess) -> float:
    return total(samples(agent.url), "inferwatt_tier_energy_joules_total", tier=Tier.STEP_EXACT.value)


@pytest.mark.parametrize("mode", MODES)
def test_tokens_are_the_clients_own_and_joules_the_counters(mode: str, tiny_model: Path, tmp_path: Path) -> None:
    """In each way in which vLLM works, tokens equal the clients' own count, steps the law, joules the counter."""
    told, found, agent = play(tmp_path, tiny_model, MODES[mode])

    assert_told(found, told)
    assert_law(found, told)
    assert_endings(found, told)
    assert_conserved(agent.ledger)
    assert set(found.tiers) <= {Tier.STEP_EXACT, None}
    assert MODES[mode].wanted <= happened(found) <= MODES[mode].wanted | USUAL


def wait_for_answers(load: Load) -> None:
    """Wait until twenty more requests were asked."""
    before = len(load.told)
    wait_for("more answers", lambda: len(load.told) > before + 20)


def test_an_agent_or_a_server_that_is_killed_costs_no_request(tiny_model: Path, tmp_path: Path) -> None:
    """Under load the agent is stopped for 3 s, then killed and started again: each request is there once, whole.

    After kill -9 of vLLM in mid-load its open requests end as aborted, and no joule is lost.
    """
    with AgentProcess(tmp_path) as agent, VllmProcess(tiny_model, agent) as server:
        load = Load(
            server.url, 20_000, at_once=3, pause_seconds=0.05, kinds=("plain", "stream", "prefix", "two", "stop")
        )
        load.start()
        wait_for_answers(load)
        agent.process.send_signal(signal.SIGSTOP)
        time.sleep(3.0)
        wait_for_answers(load)  # the server notices nothing
        agent.process.send_signal(signal.SIGCONT)
        wait_for_answers(load)
        agent.end(signal.SIGKILL)
        wait_for_answers(load)
        with AgentProcess(tmp_path) as second:
            wait_for_answers(load)
            told = load.stop()
            assert_found(second, told)
            load = Load(server.url, 100_000, seed=3, at_once=4, kinds=("long",))
            load.start()
            wait_for("open requests", lambda: total(samples(second.url), "inferwatt_open_requests") > 0)
            server.signal(signal.SIGKILL)
            load.stop()
            wait_for("their end", lambda: total(samples(second.url), "inferwatt_open_requests") == 0)
            assert second.end() == 0
    found, heard = kept(second), {one.request_id for one in told}

    assert_told(found, told)
    left = [row for name, rows in found.rows.items() if name not in heard for row in rows]
    assert Outcome.ABORTED in {row.outcome for row in left}
    assert_conserved(second.ledger)
