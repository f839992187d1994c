"""Ollama's own paths, before a stand-in of it: one JSON object a line, the tokens in the last."""

import json
from typing import Any

import pytest

from inferwatt.records import Outcome
from tests.gateway.conftest import Desk
from tests.gateway.processes import Gateway

END = {
    "model": "m", "created_at": "2026-11-25T00:00:00Z", "done": True, "done_reason": "stop",
    "total_duration": 9_000_000, "load_duration": 1_000_000, "prompt_eval_count": 5, "prompt_eval_duration": 3_000_000,
    "eval_count": 2, "eval_duration": 5_000_000,
}  # fmt: skip
"""As Ollama's docs/api.md has it: tokens, and durations in nanoseconds."""
LINES = [
    json.dumps(told, separators=(",", ":")) + "\n"
    for told in (
        {"model": "m", "message": {"role": "assistant", "content": "a"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": '"done":true'}, "done": False},
        {"message": {"role": "assistant", "content": ""}, **END},
    )
]
KIND = "application/x-ndjson"


def test_the_last_line_has_the_object(gateway: Gateway, desk: Desk) -> None:
    """The last one, by its own word, gets it; a text that says so does not. All else is untouched."""
    answer = gateway.ask({"model": "m", "say": {"segments": LINES, "kind": KIND}}, "/api/chat")
    record = desk.ended(answer.name)
    lines = answer.body.decode().splitlines(keepends=True)
    start = lines[2].index(',"inferwatt":{')

    assert [*lines[:2], lines[2][:start] + "}\n"] == LINES
    assert json.loads(lines[2])["inferwatt"]["id"] == answer.name
    assert (record.outcome, record.model, record.prompt_tokens, record.output_tokens) == (Outcome.FINISHED, "m", 5, 2)
    assert record.cached_tokens is None
    assert len(record.chunk_ns) >= 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/chat", {"message": {"role": "assistant", "content": "ab"}}),
        ("/api/generate", {"response": "ab"}),
    ],
)
def test_a_body_has_the_object(path: str, said: dict[str, Any], gateway: Gateway, desk: Desk) -> None:
    """Before its last brace; its first token came when all was over but the output: after 9 less 5 ms."""
    say = {"segments": [json.dumps({**said, **END})], "kind": "application/json", "pause": 0.05}

    answer = gateway.ask({"model": "m", "stream": False, "say": say}, path)
    record = desk.ended(answer.name)

    assert answer.json()["inferwatt"]["id"] == answer.name
    assert (record.prompt_tokens, record.output_tokens) == (5, 2)
    assert record.first_token_ns == record.arrival_ns + 4_000_000


def test_a_stream_that_is_cut_is_failed(gateway: Gateway, desk: Desk) -> None:
    """Without its last line no figure is made up, and what came goes on."""
    answer = gateway.ask({"model": "m", "say": {"segments": LINES[:1], "kind": KIND}}, "/api/chat")
    record = desk.ended(answer.name)

    assert answer.body == LINES[0].encode()
    assert (record.outcome, record.prompt_tokens, record.output_tokens) == (Outcome.FAILED, None, 1)


def test_what_manages_models_is_closed(gateway: Gateway) -> None:
    """Nobody deletes or pulls a model through the gateway."""
    assert [gateway.ask({"model": "m"}, path).status for path in ("/api/pull", "/api/delete", "/api/create")] == [
        404
    ] * 3
