"""The gateway before the real llama.cpp server and beside a real agent, asked by the real clients."""

import asyncio
import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.gateway.processes import Gateway
from tests.gateway.tap import Tap
from tests.real.children import AgentProcess
from tests.real.conftest import LlamaCpp, LlamaCppProcess
from tests.real.pages import get_json, samples, total, wait_for

pytestmark = pytest.mark.real

MODEL = "SmolLM2-135M-Instruct.Q4_1"
TRUSTING = '[gateway.tenants]\npeers = ["127.0.0.1"]'
RIVERS: Any = [{"role": "user", "content": "Name ten rivers of Europe."}]
TENANT = "inferwatt_tenant_energy_joules_total"
OBJECT = re.compile(rb',"inferwatt":\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}')
LONG: Any = {"max_tokens": 250, "temperature": 0, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, llamacpp_server: LlamaCpp) -> Iterator[AgentProcess]:
    """Return an agent that reads the server."""
    with AgentProcess(tmp_path_factory.mktemp("agent")) as running:
        running.wait_for_server(llamacpp_server.url)
        yield running


@pytest.fixture(scope="module")
def tap(llamacpp_server: LlamaCpp) -> Iterator[Tap]:
    """Return a tap on the wire to the server."""
    with Tap(llamacpp_server.url) as listening:
        yield listening


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, tap: Tap, llamacpp_server: LlamaCpp, agent: AgentProcess
) -> Iterator[Gateway]:
    """Return the gateway before the server; it believes the header of who calls from here."""
    folder = tmp_path_factory.mktemp("gateway")
    port = llamacpp_server.url.rpartition(":")[2]
    table = f'name = "u"\nurl = "{tap.url}"\nserver = "llamacpp:{port}"\n'
    with Gateway(folder, [table], TRUSTING, agent.environment["INFERWATT_SOCKET"]) as running:
        with urllib.request.urlopen(
            f"{running.url}/v1/models", timeout=10
        ) as answer:  # it learns what it stands before
            assert MODEL in answer.read().decode()
        yield running


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory, tap: Tap) -> Iterator[Gateway]:
    """Return a gateway that puts nothing into answers, and asks for nothing more."""
    table = f'name = "u"\nurl = "{tap.url}"\nask_usage = false\n'
    with Gateway(tmp_path_factory.mktemp("silent"), [table], "embed = false") as running:
        yield running


def client(gateway: Gateway, **more: Any) -> openai.OpenAI:
    """Return the client."""
    return openai.OpenAI(base_url=gateway.url + more.pop("base", "/v1"), api_key="none", max_retries=0, **more)


def record(gateway: Gateway, name: str, **headers: str) -> Any:
    """Return what the gateway says of a call, once it is final."""
    asked = urllib.request.Request(f"{gateway.url}/v1/requests/{name}", headers=headers)

    def final() -> Any:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            told = json.load(answer)
        return told if told["final"] else None

    return wait_for(f"the final joules of {name}", final)


def row(agent: AgentProcess, name: str) -> Any:
    """Return the row of a call in the agent's ledger, found by the id that its client got."""

    def kept() -> Any:
        told = get_json(f"{agent.url}/v1/requests/{name}")
        return None if "error" in told else told

    return wait_for(f"the row of {name}", kept)


def test_a_stream_ends_with_its_joules_and_they_are_the_tenants(gateway: Gateway, agent: AgentProcess) -> None:
    """The last data of a long stream has joules by then; the final ones are the tenant's whole bill."""
    with client(gateway, default_headers={"x-inferwatt-tenant": "streams"}) as asking:
        raw = asking.chat.completions.with_raw_response.create(model=MODEL, messages=RIVERS, stream=True, **LONG)
        chunks = [chunk.to_dict() for chunk in raw.parse()]
    told: Any = chunks[-1]["inferwatt"]
    name = raw.headers["x-inferwatt-request-id"]

    final = record(gateway, name, **{"x-inferwatt-tenant": "streams"})

    assert told["id"] == name
    assert 0 < told["energy_joules"] <= final["energy_joules"]
    assert final["prefill_joules"] + final["decode_joules"] == pytest.approx(final["energy_joules"], abs=2e-6)
    assert final["tier"] == "step_reconstructed"
    assert not [chunk for chunk in chunks[:-1] if "inferwatt" in chunk or chunk.get("usage")]
    booked = wait_for("the tenant's joules", lambda: total(samples(agent.url), TENANT, tenant="streams"))
    assert booked == pytest.approx(final["energy_joules"], abs=1e-6)


def test_a_body_has_its_object_and_the_headers_say_the_same(gateway: Gateway) -> None:
    """An answer in one piece carries the id in its object and in its headers, and the client reads it unharmed."""
    with client(gateway, base="/t/bodies/v1") as asking:
        raw = asking.chat.completions.with_raw_response.create(model=MODEL, messages=RIVERS, max_tokens=16)
        answer: Any = raw.parse().to_dict()

    assert answer["usage"]["completion_tokens"] == 16
    assert answer["inferwatt"]["id"] == raw.headers["x-inferwatt-request-id"]
    assert record(gateway, answer["inferwatt"]["id"], **{"x-inferwatt-tenant": "bodies"})["energy_joules"] > 0


def test_a_short_answer_says_what_its_tokens_cost_lately(gateway: Gateway) -> None:
    """Its own joules are not settled when it ends: it says an average with its interval, once 19 calls are final."""
    told: Any = {"model": MODEL, "messages": RIVERS, "max_tokens": 4}
    with client(gateway) as asking:

        def lately() -> Any:
            answer: Any = asking.chat.completions.create(**told).to_dict()
            return answer["inferwatt"] if answer["inferwatt"].get("basis") == "recent_average" else None

        said = wait_for("an average", lately)

    assert 0 < said["low_joules"] <= said["energy_joules"] <= said["high_joules"]
    assert (said["state"], said["final"], said["provenance"]) == ("provisional", False, "modelled")
    assert record(gateway, said["id"])["energy_joules"] > 0


KINDS: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": RIVERS, "max_tokens": 20},
    "completions": {"prompt": "The Danube", "max_tokens": 20},
    "responses": {"input": "Name a river.", "max_output_tokens": 20},
    "messages": {"messages": RIVERS, "max_tokens": 20},
}


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_but_for_the_object_the_bytes_are_the_servers(kind: str, streams: bool, gateway: Gateway, tap: Tap) -> None:
    """What a tap on the wire saw the server send is what the client got, with one object more."""
    body = {"model": MODEL, "stream": streams, **KINDS[kind]}
    with httpx2.Client(timeout=60) as asking:
        got = asking.post(f"{gateway.url}/v1/{kind}", json=body).content

    assert len(OBJECT.findall(got)) == 1
    assert OBJECT.sub(b"", got) == tap.last_body()


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_switched_off_the_bytes_are_the_servers_own(kind: str, streams: bool, silent: Gateway, tap: Tap) -> None:
    """With `embed = false` not a byte is another, nor a header of ours there."""
    body = {"model": MODEL, "stream": streams, **KINDS[kind]}
    with httpx2.Client(timeout=60) as asking:
        answer = asking.post(f"{silent.url}/v1/{kind}", json=body)

    assert answer.content == tap.last_body()
    assert not [name for name in answer.headers if name.startswith("x-inferwatt")]


def test_a_server_that_is_killed_in_mid_stream_is_a_cut(tmp_path: Path, agent: AgentProcess) -> None:
    """Its client hears that the stream was cut, the record has failed with the tokens so far, and nothing hangs."""
    with (
        LlamaCppProcess() as server,
        Gateway(tmp_path, [server.url], TRUSTING, agent.environment["INFERWATT_SOCKET"]) as before,
        client(before) as asking,
    ):
        agent.wait_for_server(server.url)
        raw: Any = asking.chat.completions.with_raw_response.create(
            model=MODEL, messages=RIVERS, stream=True, **(LONG | {"max_tokens": 1900})
        )
        with pytest.raises((httpx2.HTTPError, openai.APIError)):
            read_and_kill(raw.parse(), server.pid)
        with pytest.raises(openai.APIStatusError) as after:
            asking.chat.completions.create(model=MODEL, messages=RIVERS)
        kept = row(agent, raw.headers["x-inferwatt-request-id"])

    assert (kept["outcome"], after.value.status_code) == ("failed", 502)
    assert 19 <= kept["output_tokens"] < 1900


def read_and_kill(stream: Any, pid: int) -> None:
    """Read on to the end of a stream whose server is killed after some chunks."""
    for place, _ in enumerate(stream):
        if place == 20:
            os.kill(pid, signal.SIGKILL)


def test_the_tokens_are_those_that_the_client_was_told(gateway: Gateway, agent: AgentProcess) -> None:
    """Each protocol's usage, streamed or not, is the ledger's, as the clients typed it."""
    told: dict[str, tuple[int, int]] = {}
    with client(gateway) as asking:
        for name in ("whole", "stream"):
            raw = asking.chat.completions.with_raw_response.create(
                model=MODEL, messages=RIVERS, max_tokens=12, stream=name == "stream",
                stream_options={"include_usage": True} if name == "stream" else openai.omit,
            )  # fmt: skip
            answer: Any = raw.parse()
            usage = [chunk.usage for chunk in answer][-1] if name == "stream" else answer.usage
            told[raw.headers["x-inferwatt-request-id"]] = (usage.prompt_tokens, usage.completion_tokens)
        response = asking.responses.with_raw_response.create(model=MODEL, input="Name a river.", max_output_tokens=9)
        used: Any = response.parse().usage
        told[response.headers["x-inferwatt-request-id"]] = (used.input_tokens, used.output_tokens)

    assert {name: (row(agent, name)["prompt_tokens"], row(agent, name)["output_tokens"]) for name in told} == told


def test_anthropics_client_reads_its_answers(gateway: Gateway, agent: AgentProcess) -> None:
    """Streamed and whole, by llama.cpp's own /v1/messages; the joules are on the object that it made of them."""
    asked: Any = {"model": MODEL, "messages": RIVERS, "max_tokens": 15}
    with anthropic.Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as asking:
        whole: Any = asking.messages.create(**asked)
        with asking.messages.stream(**asked) as stream:
            message = stream.get_final_message()
        events: Any = [event.to_dict() for event in asking.messages.create(stream=True, **asked)]
    name = whole.inferwatt["id"]

    assert (whole.usage.output_tokens, message.usage.output_tokens) == (15, 15)
    assert events[-1]["inferwatt"]["state"] in {"pending", "provisional"}
    assert record(gateway, name)["energy_joules"] > 0
    assert row(agent, name)["output_tokens"] == 15
    cached = (whole.usage.cache_read_input_tokens or 0) + whole.usage.input_tokens
    assert row(agent, name)["prompt_tokens"] == cached


def test_a_client_that_leaves_frees_the_servers_slot(
    gateway: Gateway, agent: AgentProcess, llamacpp_server: LlamaCpp
) -> None:
    """llama.cpp stops computing, long before the answer would have been done, and the energy so far is kept."""

    async def leave() -> str:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as asking:
            raw: Any = await asking.chat.completions.with_raw_response.create(
                model=MODEL, messages=RIVERS, stream=True, **(LONG | {"max_tokens": 1900})
            )
            seen = 0
            async with raw.parse() as stream:
                async for _ in stream:
                    seen += 1
                    if seen > 20:
                        break
            return str(raw.headers["x-inferwatt-request-id"])

    name = asyncio.run(leave())

    wait_for("a free server", lambda: total(samples(llamacpp_server.url), "llamacpp:requests_processing") == 0)
    final, kept = record(gateway, name), row(agent, name)
    assert (kept["outcome"], final["energy_joules"] > 0) == ("aborted", True)
    assert 10 < kept["output_tokens"] < 1000


def test_what_the_server_refuses_is_said_in_its_words(gateway: Gateway, agent: AgentProcess) -> None:
    """The client gets the server's own error; the call has failed, and has no tokens."""
    with client(gateway) as asking, pytest.raises(openai.APIStatusError) as refused:
        asking.embeddings.create(model=MODEL, input="a river")
    kept = row(agent, refused.value.response.headers["x-inferwatt-request-id"])

    assert refused.value.status_code == 501
    assert "embeddings" in str(refused.value.message)
    assert (kept["outcome"], kept["prompt_tokens"], kept["output_tokens"]) == ("failed", 0, 0)


def test_polls_cost_nothing(gateway: Gateway, agent: AgentProcess) -> None:
    """Neither the list of models nor health is a request of anybody."""

    def requests() -> float:
        return total(samples(agent.url), "inferwatt_requests_total")

    before = requests()
    with client(gateway) as asking:
        for _ in range(20):
            asking.models.list()
            urllib.request.urlopen(f"{gateway.url}/health", timeout=10).close()
        answer = asking.chat.completions.with_raw_response.create(model=MODEL, messages=RIVERS, max_tokens=2)
    record(gateway, answer.headers["x-inferwatt-request-id"])

    wait_for("the one request", lambda: requests() == before + 1)
