"""TGI's own answers: tokens and times stand in headers, and in a stream's details where they were asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from inferwatt.answering.usage import of_headers
from inferwatt.attribution.attributor import Attributor
from inferwatt.records import Device, Engine, Outcome, Reading, Request
from tests.gateway.conftest import Desk
from tests.gateway.processes import Gateway, StandIn

MS = 1_000_000
HEADERS = {
    "x-compute-type": "1-gpu", "x-total-time": "9", "x-validation-time": "1", "x-queue-time": "2",
    "x-inference-time": "6", "x-time-per-token": "3", "x-prompt-tokens": "5", "x-generated-tokens": "2",
}  # fmt: skip
"""As router/src/server.rs of TGI 3 sets them, milliseconds."""


@pytest.fixture(scope="module")
def before_tgi(folder: Path, server: StandIn, desk: Desk) -> Any:
    """Return a gateway before a server that a stand-in of TGI is."""
    with Gateway(folder / "tgi", [server.url], agent=str(folder / "agent.sock")) as running:
        yield running


def test_a_body_has_its_times_in_headers(before_tgi: Gateway, desk: Desk) -> None:
    """The queue is in the object, in a header and on the record; the first token came after all that waited."""
    say = {
        "kind": "application/json",
        "headers": HEADERS,
        "segments": [json.dumps({"generated_text": "ab"})],
        "pause": 0,
    }

    answer = before_tgi.ask({"inputs": "x", "say": say}, "/generate")
    record = desk.ended(answer.name)

    assert answer.json()["generated_text"] == "ab"
    assert answer.json()["inferwatt"]["queue_seconds"] == 0.002
    assert (answer.headers["x-inferwatt-queue-seconds"], answer.headers["x-queue-time"]) == ("0.002", "2")
    assert (record.prompt_tokens, record.output_tokens) == (5, 2)
    assert record.queued_ns == 2 * MS
    assert record.first_token_ns is not None
    assert 0 < record.first_token_ns - record.arrival_ns <= 6 * MS


@pytest.mark.parametrize(("details", "prompt"), [({"input_length": 5}, 5), ({}, None), (None, None)])
def test_a_stream_has_its_tokens_in_details(
    details: dict[str, Any] | None, prompt: int | None, before_tgi: Gateway, desk: Desk
) -> None:
    """Its last event says them where its client asked; else its events are counted, and its prompt is not known."""
    token = {"id": 1, "text": "a", "logprob": 0.0, "special": False}
    last = {"index": 2, "token": token, "generated_text": "aa", "details": None}
    if details is not None:
        last["details"] = {"finish_reason": "length", "generated_tokens": 2, "seed": None, **details}
    events = [{"index": 1, "token": token, "generated_text": None, "details": None}, last]
    say = {"segments": [f"data:{json.dumps(one)}\n\n" for one in events]}

    answer = before_tgi.ask(
        {"inputs": "x", "parameters": {"details": details is not None}, "say": say}, "/generate_stream"
    )
    record = desk.ended(answer.name)

    assert (record.outcome, record.prompt_tokens, record.output_tokens) == (Outcome.FINISHED, prompt, 2)
    assert b'"inferwatt":{' in answer.body.split(b"\n\n")[1]


def test_the_queue_that_it_tells_costs_nothing() -> None:
    """Eight equal calls, four at a time for 2 s, 730 W: by what the headers say, each took 365 J, waited or not."""
    meter = Attributor()
    meter.add_device(Device("gpu-0"))
    meter.add_engine(Engine("e0", "m", ("gpu-0",)))
    told = {**HEADERS, "x-prompt-tokens": "20", "x-generated-tokens": "100", "x-inference-time": "2000"}
    for number in range(8):
        queue_ms = 2000 * (number // 4)
        first = of_headers({**told, "x-queue-time": str(queue_ms)})
        assert first.first_token_seconds is not None
        meter.request(
            Request(
                f"r{number}", "e0", "m", prompt_tokens=first.prompt, output_tokens=first.output,
                first_token_ns=int(first.first_token_seconds * 1e9), end_ns=(queue_ms + 2000) * MS,
                outcome=Outcome.FINISHED,
            )
        )  # fmt: skip
    for beat in range(81):
        meter.reading(Reading(beat * 50 * MS, "gpu-0", counter_uj=730 * beat * 50_000))
    final = meter.advance(4000 * MS, last=True).requests

    assert [energy.energy_uj / 1e6 for _, energy in final] == [pytest.approx(365, rel=0.02)] * 8


@pytest.mark.parametrize("prompt", [20, 5, None])
def test_what_its_server_says_it_waited_costs_nothing_from_the_first_call_on(prompt: int | None) -> None:
    """Two seconds of waiting at 100 W are its model's idle, not its prompt's: before any pace is learnt."""
    meter = Attributor()
    meter.add_device(Device("gpu-0"))
    meter.add_engine(Engine("e0", "m", ("gpu-0",)))
    told = {"prompt_tokens": prompt, "output_tokens": 100, "first_token_ns": 2100 * MS, "queued_ns": 2000 * MS}
    meter.request(Request("r", "e0", "m", **told, end_ns=4000 * MS, outcome=Outcome.FINISHED))  # type: ignore[arg-type]
    counter_uj = 0
    for t_ms in range(0, 5050, 50):
        meter.reading(Reading(t_ms * MS, "gpu-0", counter_uj=counter_uj))
        counter_uj += (730 if 2000 <= t_ms < 4000 else 100) * 50_000
    [(_, energy)] = meter.advance(5000 * MS, last=True).requests

    assert energy.prefill_uj / 1e6 == pytest.approx(73, rel=0.02)
    assert energy.energy_uj / 1e6 == pytest.approx(1460, rel=0.02)
