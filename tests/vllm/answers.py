"""A real vLLM with our middleware, its unmodified clients, and what they find in its answers."""

import contextlib
import http.client
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest

from tests.real.children import AgentProcess
from tests.real.pages import get_json, wait_for
from tests.vllm.server import MODEL, VllmProcess

KEYS = 'acme = "sk-acme"\nsecond = "sk-second"\n'
CHAT: Any = {"model": MODEL, "messages": [{"role": "user", "content": "a river"}], "max_tokens": 12}
PLAIN = {"accept-encoding": "identity"}
"""Clients ask for gzip, which this server's other middleware would give them: what is compressed goes through."""


@dataclass(slots=True)
class Stage:
    """An agent, and a vLLM with the middleware beside it."""

    agent: AgentProcess
    server: VllmProcess

    def openai(self, base: str = "/v1", key: str = "none") -> openai.OpenAI:
        """Return OpenAI's client."""
        return openai.OpenAI(base_url=self.server.url + base, api_key=key, max_retries=0, default_headers=PLAIN)

    def ask(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """Return what a plain POST gets: status, headers and the body's bytes."""
        with contextlib.closing(http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=60)) as connection:
            connection.request("POST", path, body, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def sent(self, name: str) -> bytes:
        """Return the bytes of an answer as vLLM itself sent them."""
        return (self.agent.home / name).read_bytes()

    def rows(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """Return what the agent has kept of a call, by any of its names; whom the machine starves has no joules."""

        def found() -> list[dict[str, Any]]:
            page = get_json(f"{self.agent.url}/v1/requests/{name}")
            rows = page if isinstance(page, list) else [page]
            return rows if len(rows) >= count and all(row.get("outcome") for row in rows) else []

        return list(wait_for(f"the records of {name}", found))


def environment(folder: Path) -> dict[str, str]:
    """Return the settings of a server that knows keys, believes who calls from here, and has the tap."""
    (folder / "keys.toml").write_text(KEYS)
    (folder / "secret").write_text("a secret")
    return {
        "PYTHONPATH": str(Path(__file__).parent),
        "TAP_FOLDER": str(folder),
        "INFERWATT_TENANT_KEYS_FILE": str(folder / "keys.toml"),
        "INFERWATT_TENANT_SECRET_FILE": str(folder / "secret"),
        "INFERWATT_TENANT_PEERS": "127.0.0.1",
        "INFERWATT_URL": "http://agent.test",
    }


def has_figure(stage: Stage) -> bool:
    """Make a call on a connection of its own: the kernel chooses which process answers."""
    with stage.openai() as client:
        return "basis" in told(client.chat.completions.create(**CHAT))


def claude_of(stage: Stage) -> anthropic.Anthropic:
    """Return Anthropic's client."""
    return anthropic.Anthropic(base_url=stage.server.url, api_key="none", max_retries=0, default_headers=PLAIN)


def told(answer: Any) -> dict[str, Any]:
    """Return the object of a client's answer."""
    said = answer.to_dict()["inferwatt"]
    assert isinstance(said, dict)
    return said


def last(stream: Any) -> dict[str, Any]:
    """Return the object of a client's stream: in its last data, and nowhere else."""
    *before, end = [one.to_dict() for one in stream]
    assert not [one for one in before if "inferwatt" in one]
    said = end["inferwatt"]
    assert isinstance(said, dict)
    return said


def assert_provisional(said: dict[str, Any]) -> None:
    """The object says joules with their interval and parts, that they are not final, and where the final ones are.

    On a loaded machine a call may take so long that what is settled of it is dearer than the average.
    """
    assert said["low_joules"] <= said["energy_joules"] <= said.get("high_joules", math.inf)
    assert said["energy_joules"] == pytest.approx(said["prefill_joules"] + said["decode_joules"], abs=2e-6)
    assert (said["state"], said["final"]) == ("provisional", False)
    assert said["basis"] == "recent_average" or (said["basis"] == "settled_so_far" and said["energy_joules"] > 0)
    assert (said["tier"], said["provenance"]) == ("step_exact", "modelled")
    assert said["link"] == f"http://agent.test/v1/requests/{said['id']}"
