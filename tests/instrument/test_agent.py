"""What is told to a real agent: each call to a managed API once, in the background, and never waited for."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import inferwatt
from inferwatt import sdk
from inferwatt.clients import telling
from inferwatt.records import Provenance
from tests.instrument import ways
from tests.instrument.apis import Apis
from tests.real.children import AgentProcess
from tests.real.pages import get_json, samples, total, wait_for

pytestmark = pytest.mark.real

REQUESTS = "inferwatt_estimated_requests_total"


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentProcess]:
    """An agent of its own for each test, and this process a producer anew."""
    with AgentProcess(tmp_path) as running:
        monkeypatch.setattr(telling, "agent", telling.Agent())
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running
        sdk.flush()


def test_calls_are_in_metrics_and_ledger_once(agent: AgentProcess, apis: Apis) -> None:
    """Joules, bounds and tokens are those that the caller saw; a figure of a server's own is not told again."""
    with inferwatt.calls(tenant="acme", tags={"team": "a"}) as made:
        ways.openai_chat(apis.url, "gpt-4o")
        ways.litellm_completion(apis.url, "gpt-4o-mini")
        ways.anthropic_helper(apis.url, "claude-sonnet-4-0")
        ways.openai_chat(apis.url, "metered")
    told = made.totals[Provenance.ESTIMATED]
    wait_for("three calls", lambda: total(samples(agent.url), REQUESTS) >= 3)
    page = samples(agent.url)

    assert (total(page, REQUESTS), told.calls) == (3, 3)
    for name, expected in (
        ("energy", told.energy_joules),
        ("energy_low", told.low_joules),
        ("energy_high", told.high_joules),
    ):
        assert total(page, f"inferwatt_estimated_{name}_joules_total") == pytest.approx(expected, rel=1e-4)
    assert total(page, "inferwatt_estimated_tokens_total", kind="output") == 60
    assert total(page, "inferwatt_estimated_tenant_energy_joules_total", tenant="acme") > 0
    assert total(page, "inferwatt_requests_total") == 0
    rows = get_json(f"{agent.url}/v1/requests")["requests"]
    assert {row["response_id"] for row in rows} == {call.response_id for call in made if not call.request}
    assert {(row["provenance"], row["tenant"]) for row in rows} == {("estimated", "acme")}


def test_a_server_of_ones_own_is_not_told(agent: AgentProcess, apis: Apis) -> None:
    """Its own meter counts it: the agent hears only of the managed API's call after it."""
    inferwatt.uninstrument()
    inferwatt.instrument()
    with inferwatt.calls() as made:
        ways.openai_chat(apis.url, "gpt-4o")
    assert [call.provider for call in made] == [""]
    inferwatt.instrument(managed=["127.0.0.1"])
    ways.openai_chat(apis.url, "gpt-4o")
    wait_for("the second call", lambda: total(samples(agent.url), REQUESTS) == 1)

    assert total(samples(agent.url), "inferwatt_records_total") == 1
    assert sdk.counts() == {}


def test_an_agent_that_hangs_holds_nothing_up(agent: AgentProcess, apis: Apis) -> None:
    """While the agent is stopped calls take what they take; when it goes on, it hears of all of them."""
    ways.anthropic_message(apis.url, "claude-sonnet-4-0")
    wait_for("the first call", lambda: total(samples(agent.url), REQUESTS) == 1)
    agent.process.send_signal(signal.SIGSTOP)
    try:
        with inferwatt.calls() as made:
            for _ in range(50):
                ways.google_generate(apis.url, "gemini-2.5-flash")
    finally:
        agent.process.send_signal(signal.SIGCONT)

    assert len(made) == 50
    wait_for("what was said meanwhile", lambda: total(samples(agent.url), REQUESTS) >= 51)
    assert total(samples(agent.url), REQUESTS, provider="gcp.gemini") == 50


def test_without_an_agent_nothing_is_started(apis: Apis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates need no agent: no thread, no warning."""
    monkeypatch.setattr(telling, "agent", telling.Agent())
    monkeypatch.setenv("INFERWATT_SOCKET", str(tmp_path / "nobody.sock"))
    sdk.flush()
    ways.openai_chat(apis.url, "gpt-4o")

    assert sdk.counts() == {}
