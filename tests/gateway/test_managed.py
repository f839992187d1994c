"""Calls of managed APIs: nobody here meters them, so that their answers carry an estimate."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from inferwatt.clients.estimator import estimate
from tests.gateway.conftest import Desk
from tests.gateway.processes import CHAT, Gateway, StandIn
from tests.gateway.test_answers import ANTHROPIC

pytestmark = pytest.mark.real
MODEL = "gpt-4o-2024-08-06"
ASKED: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100}


@pytest.fixture(scope="module")
def managed(folder: Path, server: StandIn, desk: Desk) -> Iterator[Gateway]:
    """Return a gateway before a stand-in of a provider's API, by the documented protocol."""
    table = f'name = "u"\nurl = "{server.url}"\nprovider = "openai"\n'
    carbon = '[estimates]\ncarbon_grams_per_kwh = 360\ncarbon_source = "a test"'
    with Gateway(folder / "managed", [table], carbon, str(folder / "agent.sock")) as running:
        yield running


@pytest.mark.parametrize("streams", [True, False])
def test_an_answer_carries_its_estimate(streams: bool, managed: Gateway, desk: Desk) -> None:
    """By tokens, with its interval and its method, as estimated and final; the record says whose API it was."""
    with openai.OpenAI(base_url=f"{managed.url}/v1", api_key="none", max_retries=0) as asking:
        raw: Any = asking.chat.completions.with_raw_response.create(**ASKED, stream=streams)
        answer = raw.parse()
        told: Any = ([one.to_dict() for one in answer][-1] if streams else answer.to_dict())["inferwatt"]
    record = desk.ended(told["id"])
    least = estimate(MODEL, prompt_tokens=7, output_tokens=100)

    assert (told["provenance"], told["final"], told["method"]) == ("estimated", True, least.method)
    assert 0 < told["low_joules"] < told["energy_joules"] < told["high_joules"]
    assert told["emissions_co2e_grams"] == pytest.approx(told["energy_joules"] / 10_000, rel=1e-4)
    assert told["emissions_high_co2e_grams"] == pytest.approx(told["high_joules"] / 10_000, rel=1e-4)
    assert told["emissions_source"] == "360 g/kWh, a test"
    assert told["prefill_joules"] + told["decode_joules"] == pytest.approx(told["energy_joules"], rel=1e-4)
    assert (record.provider, record.model, record.prompt_tokens, record.output_tokens) == ("openai", MODEL, 7, 100)
    assert json.loads(managed.ask(b"", f"/v1/requests/{told['id']}", "GET").body)["provenance"] == "estimated"


def test_anthropics_client_reads_the_estimate(managed: Gateway) -> None:
    """In the last event of a stream of its protocol."""
    say = {"segments": [ANTHROPIC], "kind": "text/event-stream"}
    asked: Any = {"model": "claude-3-5-sonnet-20241022", "messages": ASKED["messages"], "max_tokens": 9}
    with anthropic.Anthropic(base_url=managed.url, api_key="none", max_retries=0) as asking:
        events: Any = [one.to_dict() for one in asking.messages.create(stream=True, extra_body={"say": say}, **asked)]

    assert events[-1]["type"] == "message_stop"
    assert events[-1]["inferwatt"]["provenance"] == "estimated"


def test_azures_client_names_the_deployment(managed: Gateway, server: StandIn, desk: Desk) -> None:
    """Its path and its query go on as they are, its key stays its own, and the deployment is the model."""
    with openai.AzureOpenAI(
        azure_endpoint=managed.url, api_key="azure", api_version="2024-10-21", azure_deployment="my-gpt", max_retries=0
    ) as asking:
        answer: Any = asking.chat.completions.create(**ASKED).to_dict()
    seen = server.seen()

    assert answer["inferwatt"]["provenance"] == "estimated"
    assert seen["path"] == "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
    assert ["api-key", "azure"] in seen["headers"]
    assert desk.ended(answer["inferwatt"]["id"]).model == "my-gpt"


def test_without_tokens_nothing_is_known(managed: Gateway) -> None:
    """It is said so, and no number is made up."""
    say = {"segments": ['{"id": "x"}'], "kind": "application/json"}

    told = managed.ask({"model": MODEL, "say": say}, CHAT).json()["inferwatt"]

    assert told["state"] == "unknown"
    assert "energy_joules" not in told
