"""Our middleware in the real vLLM 0.32 on the CPU: the energy in its answers, by unmodified clients, no more."""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from inferwatt.rates import LEAST_REQUESTS
from tests.real.children import AgentProcess
from tests.real.ledgers import assert_conserved
from tests.real.pages import get, get_json, samples, total, wait_for
from tests.vllm.answers import CHAT, PLAIN, Stage, assert_provisional, claude_of, environment, has_figure, last, told
from tests.vllm.load import Load
from tests.vllm.server import MODEL, PYTHON, VllmProcess

pytestmark = pytest.mark.real

MIDDLEWARE = "inferwatt.vllm.Middleware"
TAPPED = ("--middleware", "starlette.middleware.gzip.GZipMiddleware", "--middleware", "tap.Tap")
EXACT: Any = {"ignore_eos": True}
MOST_LEAVE = 20
"""On a loaded machine the whole answer may be there before a client goes, and no device was read meanwhile."""
SETTLED_SECONDS = 2.5
"""By then the agent has settled what there was."""
OBJECT = re.compile(rb',"inferwatt":\{[^{}]*\}')
FIGURES = ("energy_joules", "low_joules", "high_joules", "prefill_joules", "decode_joules")


@pytest.fixture(scope="module")
def stage(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A vLLM of two API servers with the middleware, after enough requests to know what tokens cost."""
    folder = tmp_path_factory.mktemp("middleware")
    flags = (*TAPPED, "--middleware", MIDDLEWARE, "--enable-per-request-metrics", "--api-server-count", "2")
    with AgentProcess(folder) as agent, VllmProcess(tiny_model, agent, *flags, environment=environment(folder)) as vllm:
        known = Stage(agent, vllm)
        with known.openai() as client:
            first = client.chat.completions.create(**CHAT).to_dict()["inferwatt"]
            assert isinstance(first, dict)
            assert first["state"] == "pending"  # nothing is known, and nothing is made up
            for _ in range(LEAST_REQUESTS):
                client.chat.completions.create(**CHAT, extra_body=EXACT)
        wait_for("what tokens cost, in both processes", lambda: all(has_figure(known) for _ in range(8)))
        yield known


def test_a_plain_answer_says_it_in_body_and_headers(stage: Stage) -> None:
    """Beside vLLM's own metrics; its id, the client's name and the answer's id all lead to the final figure."""
    with stage.openai() as client:
        raw: Any = client.chat.completions.with_raw_response.create(**CHAT, extra_headers={"X-Request-Id": "mine"})
    answer = raw.parse()
    said = told(answer)
    (final,) = stage.rows(said["id"])

    assert_provisional(said)
    assert (said["id"], answer.id) == ("mine", "chatcmpl-mine")
    assert answer.metrics["time_to_first_token_ms"] > 0
    figures = [name for name in FIGURES if name in said]
    assert {name: raw.headers[f"x-inferwatt-{name.replace('_', '-')}"] for name in figures} == {
        name: str(said[name]) for name in figures
    }
    assert raw.headers["x-inferwatt-request-id"] == "mine"
    assert stage.rows(answer.id) == stage.rows("mine") == [final]
    assert final["output_tokens"] == answer.usage.completion_tokens
    assert final["tier"] == "step_exact"


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_a_stream_says_it_in_its_last_data(stage: Stage, options: dict[str, Any]) -> None:
    """Whether the client asked for the usage or not: its tokens were counted either way; the head has the id only."""
    with stage.openai() as client:
        raw: Any = client.chat.completions.with_raw_response.create(**CHAT, stream=True, **options)
        said = last(raw.parse())

    assert_provisional(said)
    assert raw.headers["x-inferwatt-request-id"] == said["id"]
    assert "x-inferwatt-energy-joules" not in raw.headers
    assert stage.rows(said["id"])[0]["output_tokens"] <= 12


def test_every_protocol_that_its_clients_speak(stage: Stage) -> None:
    """Completions of several prompts, responses and Anthropic's messages, plain and streamed, each found by its id."""
    several: Any = {"model": MODEL, "prompt": ["a", "b"], "n": 2, "max_tokens": 4}
    asked: Any = {"model": MODEL, "input": "a river", "max_output_tokens": 6}
    with stage.openai() as client, claude_of(stage) as claude:
        said = {
            "completion": told(client.completions.create(**several)),
            "completion, streamed": last(client.completions.create(**several, stream=True)),
            "response": told(client.responses.create(**asked)),
            "response, streamed": last(client.responses.create(**asked, stream=True)),
            "message": told(claude.messages.create(**CHAT)),
            "message, streamed": last(claude.messages.create(**CHAT, stream=True)),
        }

    for name, each in said.items():
        assert_provisional(each)
        count = 4 if name.startswith("completion") else 1
        assert len(stage.rows(each["id"], count)) == count, name


def test_asynchronous_clients_at_once(stage: Stage) -> None:
    """Forty streams and plain calls together: each has its own figure."""

    async def ask(client: openai.AsyncOpenAI, number: int) -> dict[str, Any]:
        answer: Any = await client.chat.completions.create(**CHAT, stream=bool(number % 2))
        return last([chunk async for chunk in answer]) if number % 2 else told(answer)

    async def ask_all() -> list[dict[str, Any]]:
        url = f"{stage.server.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", default_headers=PLAIN) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(40)))

    said = asyncio.run(ask_all())

    assert len({each["id"] for each in said}) == 40
    for each in said:
        assert each["low_joules"] <= each["energy_joules"]


STREAMS = {
    "chat": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "usage": ("/v1/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}}),
    "continuous": (
        "/v1/chat/completions",
        {**CHAT, "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
    "two": ("/v1/completions", {"model": MODEL, "prompt": "a", "n": 2, "max_tokens": 5, "stream": True}),
    "response": ("/v1/responses", {"model": MODEL, "input": "a", "max_output_tokens": 5, "stream": True}),
    "message": ("/v1/messages", {**CHAT, "stream": True}),
    "plain": ("/v1/chat/completions", CHAT),
}


@pytest.mark.parametrize("name", STREAMS)
def test_but_for_the_object_the_bytes_are_vllms_own(stage: Stage, name: str) -> None:
    """What vLLM sent and what the client got differ by the object alone, and by it once."""
    path, body = STREAMS[name]

    status, headers, got = stage.ask(path, json.dumps(body).encode(), {"x-tap": name})
    bare, count = OBJECT.subn(b"", got)

    assert (status, count) == (200, 1)
    assert bare == stage.sent(name)
    assert headers.get("content-length", str(len(got))) == str(len(got))


UNTOUCHED: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "malformed": ("/v1/chat/completions", b'{"model": ', {}),
    "unknown_model": ("/v1/chat/completions", json.dumps({**CHAT, "model": "other"}).encode(), {}),
    "gzip": ("/v1/chat/completions", json.dumps(CHAT).encode(), {"accept-encoding": "gzip"}),
    "tokenize": ("/tokenize", json.dumps({"model": MODEL, "prompt": "a"}).encode(), {}),
    "counted": ("/v1/messages/count_tokens", json.dumps({**CHAT, "max_tokens": 1}).encode(), {}),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_is_no_plain_answer_is_as_it_was(stage: Stage, name: str) -> None:
    """Errors, compressed answers and calls that compute nothing go through byte by byte, without a header of ours."""
    path, body, headers = UNTOUCHED[name]

    _, told_headers, got = stage.ask(path, body, {"x-tap": name, **headers})

    assert got == stage.sent(name)
    assert not [header for header in told_headers if header.startswith("x-inferwatt")]


def test_polls_cost_nothing(stage: Stage) -> None:
    """A hundred polls of /health, /v1/models and a tenant's own models are no requests, and have no joule."""

    def counted() -> tuple[float, float]:
        page = samples(stage.agent.url)
        return total(page, "inferwatt_requests_total"), total(page, "inferwatt_records_dropped_total")

    def is_quiet() -> bool:
        page = counted()
        time.sleep(SETTLED_SECONDS)
        return page == counted() and not total(samples(stage.agent.url), "inferwatt_open_requests")

    wait_for("the calls before", is_quiet)
    before = counted()
    for path in ("/health", "/v1/models", "/t/acme/v1/models", "/metrics") * 25:
        page = get(f"{stage.server.url}{path}")
        assert "inferwatt" not in page
        assert "Not Found" not in page
    time.sleep(SETTLED_SECONDS)

    assert counted() == before
    assert before[1] == 0


def test_tenants_by_key_header_and_path(stage: Stage) -> None:
    """Each way names the tenant of its request's record; a key that nobody knows is a digest, never the key."""
    ways: dict[str, tuple[str, str, dict[str, str]]] = {
        "acme": ("/v1", "sk-acme", {}),
        "by-header": ("/v1", "sk-acme", {"X-Inferwatt-Tenant": "by-header"}),
        "by-path": ("/t/by-path/v1", "sk-acme", {}),
        "second": ("/t/__other__/v1", "sk-second", {}),  # no name of a tenant
    }
    ways["key-[0-9a-f]{16}"] = ("/v1", "sk-nobody", {})
    names = []
    for base, key, headers in ways.values():
        with stage.openai(base, key) as client:
            names.append(told(client.chat.completions.create(**CHAT, extra_headers=headers))["id"])

    for tenant, name in zip(ways, names, strict=True):
        assert re.fullmatch(tenant, stage.rows(name)[0]["tenant"])


def test_a_client_that_leaves_has_its_tenant_and_its_joules(stage: Stage) -> None:
    """After some chunks it goes: its record is aborted, the tenant's, with what was computed until then."""

    def leave(name: str) -> str:
        headers = {"X-Request-Id": name, "X-Inferwatt-Tenant": "leaver"}
        asked: Any = {**CHAT, "max_tokens": 900, "stream": True, "extra_headers": headers, "extra_body": EXACT}
        with stage.openai() as client, client.chat.completions.create(**asked) as stream:
            for _ in zip(range(8), stream, strict=False):
                pass
        return name

    for number in range(MOST_LEAVE):
        row = stage.rows(leave(f"left-{number}"))[0]
        assert row["tenant"] == "leaver"
        if row["outcome"] == "aborted":
            assert 0 < row["output_tokens"] < 900
            if row["energy_joules"]:
                return
    pytest.fail("none left before the end of its answer, and had joules")


def test_an_agent_that_stops_or_dies_costs_no_answer(stage: Stage) -> None:
    """Stopped, killed and started again in mid-load: every call is answered, figures go and come back."""
    load = Load(stage.server.url, 20_000, at_once=3, pause_seconds=0.05, kinds=("plain", "stream", "two"))
    load.start()
    asked: Any = {**CHAT, "extra_headers": {"X-Inferwatt-Tenant": "meanwhile"}}

    def more() -> None:
        seen = len(load.told)
        wait_for("more answers", lambda: len(load.told) > seen + 15)

    try:
        more()
        stage.agent.process.send_signal(signal.SIGSTOP)
        time.sleep(2.0)
        more()
        stage.agent.process.send_signal(signal.SIGCONT)
        more()
        stage.agent.end(signal.SIGKILL)
        more()
        with stage.openai() as client:
            said = wait_for("no figure", lambda: _pending(client.chat.completions.create(**asked)))
        home, port = stage.agent.home, urlsplit(stage.agent.url).port
        with AgentProcess(home, port=port) as second:
            wait_for("figures again", lambda: has_figure(stage))
            of_meanwhile = f"{second.url}/v1/requests/{said['id']}"
            wait_for("a call of meanwhile", lambda: get_json(of_meanwhile).get("tenant") == "meanwhile")
            dropped = total(samples(second.url), "inferwatt_records_dropped_total", reason="witness")
            answers = load.stop()
            assert second.end() == 0
    finally:
        load.stop()

    assert dropped == 0
    assert not [one for one in answers if one.error]
    assert_conserved(stage.agent.ledger)


def _pending(answer: Any) -> dict[str, Any] | None:
    said = told(answer)
    return said if said["state"] == "pending" else None


def test_the_environment_switches_it_on_before_vllms_own_keys() -> None:
    """In vLLM's own application it is outermost: a tenant's path is its path, and no way around vLLM's keys."""
    made = subprocess.run(
        [PYTHON, str(Path(__file__).with_name("application.py")), "--api-key", "sk-acme"],
        env={**os.environ, "INFERWATT_VLLM_ANSWERS": "1"},
        capture_output=True,
        check=True,
        text=True,
    )

    assert json.loads(made.stdout.splitlines()[-1]) == {
        "middlewares": 1,
        "/v1/models": 401,
        "/t/acme/v1/models": 401,
        "/t/acme/v1/nothing with its key": 404,
    }
