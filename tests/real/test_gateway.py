"""The gateway before the real llama.cpp server and beside a real agent, asked by the real client of OpenAI."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.gateway.processes import Gateway
from tests.real.children import AgentProcess
from tests.real.conftest import LlamaCpp
from tests.real.pages import samples, total, wait_for

pytestmark = pytest.mark.real

MODEL = "SmolLM2-135M-Instruct.Q4_1"
TRUSTING = '[gateway.tenants]\npeers = ["127.0.0.1"]'
RIVERS: Any = [{"role": "user", "content": "Name ten rivers of Europe."}]
TENANT = "inferwatt_tenant_energy_joules_total"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, llamacpp_server: LlamaCpp) -> Iterator[AgentProcess]:
    """Return an agent that reads the server."""
    with AgentProcess(tmp_path_factory.mktemp("agent")) as running:
        running.wait_for_server(llamacpp_server.url)
        yield running


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, llamacpp_server: LlamaCpp, agent: AgentProcess
) -> Iterator[Gateway]:
    """Return the gateway before the server; it believes the header of who calls from here."""
    folder = tmp_path_factory.mktemp("gateway")
    with Gateway(folder, [llamacpp_server.url], TRUSTING, agent.environment["INFERWATT_SOCKET"]) as running:
        yield running


def openai(gateway: Gateway, **more: Any) -> OpenAI:
    """Return the client."""
    return OpenAI(base_url=gateway.url + more.pop("base", "/v1"), api_key="none", max_retries=0, **more)


def record(gateway: Gateway, name: str, **headers: str) -> Any:
    """Return what the gateway says of a call, once it is final."""
    asked = urllib.request.Request(f"{gateway.url}/v1/requests/{name}", headers=headers)

    def final() -> Any:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            told = json.load(answer)
        return told if told["final"] else None

    return wait_for(f"the final joules of {name}", final)


def test_a_stream_ends_with_its_joules_and_they_are_the_tenants(gateway: Gateway, agent: AgentProcess) -> None:
    """The last data of a long stream has joules by then; the final ones are the tenant's whole bill."""
    with openai(gateway, default_headers={"x-inferwatt-tenant": "streams"}) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=RIVERS, max_tokens=250, temperature=0, stream=True, extra_body={"ignore_eos": True}
        )
        chunks = [chunk.to_dict() for chunk in raw.parse()]
    told: Any = chunks[-1]["inferwatt"]
    name = raw.headers["x-inferwatt-request-id"]

    final = record(gateway, name, **{"x-inferwatt-tenant": "streams"})

    assert told["id"] == name
    assert 0 < told["energy_joules"] <= final["energy_joules"]
    assert final["tier"] == "step_reconstructed"
    assert not [chunk for chunk in chunks[:-1] if "inferwatt" in chunk or chunk.get("usage")]
    booked = wait_for("the tenant's joules", lambda: total(samples(agent.url), TENANT, tenant="streams"))
    assert booked == pytest.approx(final["energy_joules"], abs=1e-6)


def test_a_body_has_its_object_and_the_headers_say_the_same(gateway: Gateway) -> None:
    """An answer in one piece carries the id in its object and in its headers, and the client reads it unharmed."""
    with openai(gateway, base="/t/bodies/v1") as client:
        raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=RIVERS, max_tokens=16)
        answer: Any = raw.parse().to_dict()

    assert answer["usage"]["completion_tokens"] == 16
    assert answer["inferwatt"]["id"] == raw.headers["x-inferwatt-request-id"]
    assert record(gateway, answer["inferwatt"]["id"], **{"x-inferwatt-tenant": "bodies"})["energy_joules"] > 0
