"""The real vLLM 0.32 on the CPU beside the real agent: every token and every joule, whatever the clients do."""

import signal
import time
from pathlib import Path

import pytest

from inferwatt.records import Ending, Outcome, Tier
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
from tests.vllm.load import Load, Told
from tests.vllm.server import VllmProcess

pytestmark = pytest.mark.real

SPECULATION = '{"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1}'
MODES: dict[str, tuple[tuple[str, ...], bool]] = {
    "sync": ((), False),
    "async": ((), True),
    "preemption": (("--num-gpu-blocks-override", "10"), False),
    "speculation": (("--speculative-config", SPECULATION), False),
    "two_api_servers": (("--api-server-count", "2"), False),
}
USUAL = {"disconnect", "stop_string"}
"""Why tokens are thrown away where one step has ended before the next one is scheduled."""
MORE = {"async": {"eos"}, "speculation": {"rejected_draft"}}
WANTED = {mode: {LEFT_IN_PREFILL, LEFT_IN_DECODE, *USUAL} | MORE.get(mode, set()) for mode in MODES}
WANTED["preemption"] |= {RECOMPUTED}
WANTED["speculation"] = MORE["speculation"]  # with drafts a request may be done before its client leaves
MOST_LOADS = 10
"""What a run must have seen comes by chance, and more rarely on a busy machine: then more is asked."""


def play(folder: Path, model: Path, mode: str, count: int = 56) -> tuple[list[Told], Kept, AgentProcess]:
    """Serve in a mode, ask, and return what clients were told and the agent kept."""
    flags, is_async = MODES[mode]
    recording = folder / "recording"
    with AgentProcess(folder, "--record", str(recording)) as agent:
        with VllmProcess(model, agent, *flags, is_async=is_async) as server:
            told = Load(server.url, count).run()
            assert_found(agent, told)
            for seed in range(2, MOST_LOADS):
                if seen(agent) >= WANTED[mode]:
                    break
                more = Load(server.url, count // 2, seed=seed).run()
                assert_found(agent, more)
                told += more
            page = samples(agent.url)
        assert agent.end() == 0, agent.err.read_text()
    assert {labels: value for (name, labels), value in page.items() if name == "inferwatt_records_dropped_total"} == {}
    assert total(page, "inferwatt_tier_energy_joules_total", tier=Tier.STEP_EXACT.value) > 0
    return told, kept(agent, recording), agent


@pytest.mark.parametrize("mode", MODES)
def test_tokens_are_the_clients_own_and_joules_the_counters(mode: str, tiny_model: Path, tmp_path: Path) -> None:
    """In each way in which vLLM works, tokens equal the clients' own count, steps the law, joules the counter."""
    told, found, agent = play(tmp_path, tiny_model, mode)

    assert_told(found, told)
    assert_law(found)
    assert_endings(found, told)
    assert_conserved(agent.ledger)
    assert set(found.tiers) <= {Tier.STEP_EXACT, None}
    assert WANTED[mode] <= happened(found) <= WANTED[mode] | WANTED["sync"]


def test_what_a_step_gave_beyond_a_stop_string_is_no_output(tiny_model: Path, tmp_path: Path) -> None:
    """With drafts that are accepted a string ends within a step: the tokens after it are wasted, no client's output."""
    recording = tmp_path / "recording"
    with AgentProcess(tmp_path, "--record", str(recording)) as agent:
        with VllmProcess(tiny_model, agent, *MODES["speculation"][0]) as server:
            told = Load(server.url, 40, at_once=4, kinds=("several",)).run()
            assert_found(agent, told)
        assert agent.end() == 0
    found = kept(agent, recording)

    assert_told(found, told)
    assert_law(found)
    assert Ending.STOP_STRING in {row.ending for rows in found.rows.values() for row in rows}


def wait_for_answers(load: Load) -> None:
    """Wait until twenty more requests were asked."""
    before = len(load.told)
    wait_for("more answers", lambda: len(load.told) > before + 20)


def test_an_agent_that_stands_still_or_starts_anew_costs_no_request(tiny_model: Path, tmp_path: Path) -> None:
    """Under load the agent is stopped for 3 s, then killed and started again: each request is there once, whole."""
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
            assert second.end() == 0
    found = kept(second)

    assert_told(found, told)
    assert_conserved(second.ledger)


def test_a_killed_server_leaves_no_request_open(tiny_model: Path, tmp_path: Path) -> None:
    """After kill -9 of vLLM in mid-load its open requests end as aborted, and no joule is lost."""
    with AgentProcess(tmp_path) as agent:
        with VllmProcess(tiny_model, agent) as server:
            load = Load(server.url, 40, at_once=6, kinds=("leaves_decode",))
            load.start()
            wait_for("open requests", lambda: total(samples(agent.url), "inferwatt_open_requests") > 0)
            server.signal(signal.SIGKILL)
            load.wait()
            wait_for("their end", lambda: total(samples(agent.url), "inferwatt_open_requests") == 0)
        assert agent.end() == 0
    rows = [row for rows in kept(agent).rows.values() for row in rows]

    assert rows
    assert Outcome.ABORTED in {row.outcome for row in rows}
    assert_conserved(agent.ledger)
