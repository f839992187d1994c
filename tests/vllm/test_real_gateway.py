"""The gateway before the real vLLM 0.32 on the CPU, whose plugin sees the same requests: each is counted once."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest

from inferwatt.records import Tier
from tests.gateway.processes import Gateway
from tests.gateway.tap import Tap
from tests.real.children import AgentProcess
from tests.real.ledgers import assert_conserved
from tests.real.pages import get_json, samples, total, wait_for
from tests.vllm.server import MODEL, VllmProcess

pytestmark = pytest.mark.real

TRUSTING = '[gateway.tenants]\npeers = ["127.0.0.1"]'
ASKED: Any = {"model": MODEL, "messages": [{"role": "user", "content": "a river"}], "extra_body": {"ignore_eos": True}}
LEFT_TOKENS = 900
OBJECT = re.compile(rb',"inferwatt":\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}')
KINDS: dict[str, Any] = {
    "chat/completions": {"messages": ASKED["messages"], "max_tokens": 12},
    "completions": {"prompt": "a river", "max_tokens": 12},
    "responses": {"input": "a river", "max_output_tokens": 12},
    "messages": {"messages": ASKED["messages"], "max_tokens": 12},
}
STREAMED = {path: {"stream_options": {"include_usage": True}} for path in ("chat/completions", "completions")}
TOKENS = {"red": 40, "blue": 25}


def ask(asking: openai.OpenAI, tenant: str, **more: Any) -> tuple[str, Any]:
    """Make a call and return its id, and the object in its answer or in the last data of its stream."""
    raw: Any = asking.chat.completions.with_raw_response.create(
        **ASKED, extra_headers={"x-inferwatt-tenant": tenant}, **more
    )
    answer = raw.parse()
    last = [chunk.to_dict() for chunk in answer][-1] if more.get("stream") else answer.to_dict()
    assert "usage" not in last or not more.get("stream")
    return raw.headers["x-inferwatt-request-id"], last["inferwatt"]


def leave(asking: openai.OpenAI, tenant: str) -> None:
    """Leave a stream after some chunks."""
    with asking.chat.completions.create(
        **ASKED, max_tokens=LEFT_TOKENS, stream=True, extra_headers={"x-inferwatt-tenant": tenant}
    ) as stream:
        for _ in zip(range(8), stream, strict=False):
            pass


def assert_the_bytes_are_the_servers(gateway: Gateway, tap: Tap) -> None:
    """What a tap on the wire saw vLLM send is what the client got, with one object, whoever of the two put it in."""
    for path, told in KINDS.items():
        for more in ({"stream": False}, {"stream": True, **STREAMED.get(path, {})}):
            got = gateway.ask({"model": MODEL, **told, **more}, f"/v1/{path}").body
            assert len(OBJECT.findall(got)) == 1, path
            assert OBJECT.sub(b"", got) == OBJECT.sub(b"", tap.last_body()), path


def final(gateway: Gateway, name: str, tenant: str) -> Any:
    """Return what the gateway says of a call, once it is final."""

    def told() -> Any:
        known = gateway.ask(b"", f"/v1/requests/{name}", "GET", {"x-inferwatt-tenant": tenant}).json()
        return known if known["final"] else None

    return wait_for(f"the final joules of {name}", told)


@pytest.mark.parametrize("flags", [(), ("--middleware", "inferwatt.vllm.Middleware")], ids=["plugin", "middleware"])
def test_a_call_that_the_plugin_saw_too_is_counted_once(
    flags: tuple[str, ...], tiny_model: Path, tmp_path: Path
) -> None:
    """Tokens and calls of each tenant are the clients' own; joules are exact by steps, and come back as final."""
    with AgentProcess(tmp_path) as agent:
        with VllmProcess(tiny_model, agent, *flags) as server:
            socket = agent.environment["INFERWATT_SOCKET"]
            with (
                Gateway(tmp_path / "gateway", [server.url], TRUSTING, socket) as gateway,
                openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as asking,
            ):
                named = [
                    (tenant, *ask(asking, tenant, max_tokens=tokens, stream=streams))
                    for tenant, tokens in TOKENS.items()
                    for streams in (True, False)
                ]
                named.append(("two", *ask(asking, "two", max_tokens=10, n=2)))
                leave(asking, "left")
                told = {name: final(gateway, name, tenant) for tenant, name, _ in named}
                rows = wait_for("the rows", lambda: _rows(agent, 7))
                page = samples(agent.url)
            with Tap(server.url) as tap, Gateway(tmp_path / "tapped", [tap.url], TRUSTING, socket) as tapped:
                assert_the_bytes_are_the_servers(tapped, tap)
        assert agent.end() == 0, agent.err.read_text()
    by_tenant = Counter[str]()
    for row in rows:
        by_tenant[row["tenant"]] += row["output_tokens"]
    left = next(row for row in rows if row["tenant"] == "left")

    assert [row["outcome"] for row in rows if row is not left] == ["finished"] * 6
    assert (left["outcome"] == "finished") == (left["output_tokens"] == LEFT_TOKENS)  # news of it may come too late
    assert {tenant: by_tenant[tenant] for tenant in TOKENS} == {tenant: 2 * count for tenant, count in TOKENS.items()}
    assert by_tenant["two"] == 20
    assert {row["tier"] for row in rows} == {Tier.STEP_EXACT.value}
    assert all(known["tier"] == "step_exact" and known["energy_joules"] > 0 for known in told.values())
    assert sum(known["energy_joules"] for known in told.values()) == pytest.approx(
        sum(row["energy_joules"] for row in rows if row is not left), abs=1e-5
    )
    assert total(page, "inferwatt_records_dropped_total") == 0
    assert_conserved(agent.ledger)


def _rows(agent: AgentProcess, count: int) -> Any:
    rows = get_json(f"{agent.url}/v1/requests?limit=100")["requests"]
    return rows if len(rows) == count else None
