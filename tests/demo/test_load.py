"""The demo's clients hand their requests to the agent's real socket, and say themselves what they saw."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest

from inferwatt.clock import SystemClock
from inferwatt.demo.load import request_body
from inferwatt.demo.plan import Arrival
from inferwatt.engines.inbox import Inbox
from inferwatt.engines.plugged import Plugged
from inferwatt.engines.session import Incoming
from inferwatt.records import Outcome, Request
from tests.serving import serving

SRC = str(Path(__file__).resolve().parent.parent.parent / "src")
PROMPT_TOKENS, CACHED_TOKENS = 30, 10
SECONDS_PER_TOKEN = 0.002


class Model(BaseHTTPRequestHandler):
    """Answers as llama.cpp does: as many tokens as are asked for, streamed with timings or whole."""

    answered: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Answer one chat request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
        try:
            self._stream(body["max_tokens"]) if body.get("stream") else self._whole(body["max_tokens"])
        except OSError:
            return  # the client left
        self.answered.append(self.path)

    def _stream(self, tokens: int) -> None:
        for count in range(1, tokens + 1):
            time.sleep(SECONDS_PER_TOKEN)
            timings = {"cache_n": CACHED_TOKENS, "prompt_n": PROMPT_TOKENS - CACHED_TOKENS, "predicted_n": count}
            self._event({"id": "r", "choices": [{"delta": {"content": "x"}}], "timings": timings})
        self._event({"id": "r", "choices": [], "usage": self._usage(tokens)})
        self.wfile.write(b"data: [DONE]\n\n")

    def _whole(self, tokens: int) -> None:
        time.sleep(SECONDS_PER_TOKEN * tokens)
        answer = {"id": "r", "choices": [{"message": {"content": "x"}}], "usage": self._usage(tokens)}
        self.wfile.write(json.dumps(answer).encode())

    def _event(self, document: dict[str, object]) -> None:
        self.wfile.write(f"data: {json.dumps(document)}\n\n".encode())

    def _usage(self, tokens: int) -> dict[str, object]:
        return {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": tokens,
            "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
        }

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def model() -> Iterator[str]:
    """The address of a server that answers at once."""
    Model.answered.clear()
    with serving(Model) as url:
        yield url


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[tuple[str, dict[str, Request]]]:
    """The agent's socket, and the last word on each request that came in."""
    records: dict[str, Request] = {}

    def keep(incoming: Incoming | Plugged) -> None:
        assert isinstance(incoming, Incoming)
        records[incoming.request.request] = incoming.request
        listening.ack(incoming.producer, incoming.seq)

    listening = Inbox(str(tmp_path / "agent.sock"), keep, clock=SystemClock())
    listening.start()
    yield listening.path, records
    listening.close()


def start_load(server: str, socket: str, *, rate: float) -> subprocess.Popen[bytes]:
    """Start the load as the demo does."""
    return subprocess.Popen(
        [sys.executable, "-m", "inferwatt.demo.load", "--server", server, "--rate", str(rate), "--seed", "3"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SRC, "INFERWATT_SOCKET": socket},
    )


def stop_load(load: subprocess.Popen[bytes]) -> dict[str, int]:
    """End the load and return what its clients saw."""
    load.send_signal(signal.SIGTERM)
    out, _ = load.communicate(timeout=30)
    seen: dict[str, int] = json.loads(out)
    assert load.returncode == 0
    return seen


def test_the_agent_is_told_what_the_clients_saw(model: str, inbox: tuple[str, dict[str, Request]]) -> None:
    """Outcomes and tokens of the records that reach the agent are those that the clients count themselves."""
    socket, records = inbox
    load = start_load(model, socket, rate=60.0)
    until = time.monotonic() + 60
    while not {r.outcome for r in list(records.values())} >= {Outcome.FINISHED, Outcome.ABORTED}:
        assert time.monotonic() < until
        time.sleep(0.02)
    seen = stop_load(load)
    told = list(records.values())

    assert {r.tenant for r in told} <= {"acme-support", "globex-research"}
    assert seen["failed"] == 0
    for outcome in (Outcome.FINISHED, Outcome.ABORTED):
        assert seen[outcome.value] == sum(r.outcome is outcome for r in told)
    assert seen["output_tokens"] == sum(r.output_tokens or 0 for r in told)
    assert seen["prompt_tokens"] == sum(r.prompt_tokens or 0 for r in told)
    assert seen["cached_tokens"] == sum(r.cached_tokens or 0 for r in told)


def test_a_client_that_leaves_early_still_says_its_tokens(model: str, inbox: tuple[str, dict[str, Request]]) -> None:
    """An aborted request carries the tokens that came until its client left."""
    socket, records = inbox
    load = start_load(model, socket, rate=60.0)
    until = time.monotonic() + 60
    while not any(r.outcome is Outcome.ABORTED for r in list(records.values())):
        assert time.monotonic() < until
        time.sleep(0.02)
    aborted = next(r for r in list(records.values()) if r.outcome is Outcome.ABORTED)
    stop_load(load)

    assert (aborted.prompt_tokens, aborted.cached_tokens) == (PROMPT_TOKENS, CACHED_TOKENS)
    assert aborted.output_tokens
    assert aborted.first_token_ns


def test_a_server_that_is_down_is_counted_not_fatal(inbox: tuple[str, dict[str, Request]]) -> None:
    """Refused connections are failed requests, told to the agent as such; the load goes on until it is ended."""
    socket, records = inbox
    load = start_load("http://127.0.0.1:9", socket, rate=50.0)
    until = time.monotonic() + 60
    while not any(r.outcome is Outcome.FAILED for r in list(records.values())):
        assert time.monotonic() < until
        time.sleep(0.02)
    seen = stop_load(load)

    assert seen["failed"] > 0
    assert seen["finished"] == seen["output_tokens"] == 0


def test_without_an_agent_the_clients_are_served_all_the_same(model: str, tmp_path: Path) -> None:
    """The SDK never stands between a client and its server."""
    load = start_load(model, str(tmp_path / "nobody.sock"), rate=60.0)
    until = time.monotonic() + 60
    while not Model.answered:
        assert time.monotonic() < until
        time.sleep(0.02)
    seen = stop_load(load)

    assert seen["finished"] > 0
    assert seen["failed"] == 0


def test_a_streamed_request_asks_for_what_a_leaving_client_needs() -> None:
    """Timings come with each token, so that tokens are known whenever the client leaves."""
    arrival = Arrival(0.0, "t", "system", "question", 12, True, 3)
    body = request_body(arrival, "m")

    assert (body["stream"], body["timings_per_token"], body["max_tokens"]) == (True, True, 12)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
