"""What an answer says of its own work: tokens, times, names; as each protocol spells it. Pure.

OpenAI (chat, completions, responses, embeddings), Anthropic (messages), TGI (details and headers), llama.cpp
(`timings`), Ollama. What is not said, or cannot be a number of tokens, is None: never 0.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_TOKENS = 2**63 - 1
MOST_CHARACTERS = 256
MOST_ANSWERS = 1024
_MS_PER_SECOND = 1000.0
_NS_PER_SECOND = 1e9


@dataclass(frozen=True, slots=True)
class Used:
    """What is known of one answer. `prompt` is the whole prompt, `cached` the part of it that was reused."""

    prompt: int | None = None
    cached: int | None = None
    output: int | None = None
    reasoning: int | None = None
    response_id: str = ""
    model: str = ""
    queue_seconds: float | None = None
    first_token_seconds: float | None = None
    """From the request's arrival at its server, the queue included."""
    failed: bool = False
    is_last: bool = False
    """Whether it says itself that nothing comes after it."""

    def then(self, later: "Used") -> "Used":
        """Return both: what comes later stands over what was said before; the first name of an answer is its name."""
        if self is NOTHING or later is NOTHING:
            return later if self is NOTHING else self
        return Used(
            self.prompt if later.prompt is None else later.prompt,
            self.cached if later.cached is None else later.cached,
            self.output if later.output is None else later.output,
            self.reasoning if later.reasoning is None else later.reasoning,
            self.response_id or later.response_id,
            later.model or self.model,
            self.queue_seconds if later.queue_seconds is None else later.queue_seconds,
            self.first_token_seconds if later.first_token_seconds is None else later.first_token_seconds,
            self.failed or later.failed,
            self.is_last or later.is_last,
        )


NOTHING = Used()


def read(data: bytes) -> Used:
    """Return what a body, or the data of one event, says; what is no JSON says nothing."""
    try:
        return used(json.loads(data))
    except (ValueError, RecursionError):
        return NOTHING


def used(answer: object) -> Used:
    """Return what a decoded body or event says."""
    if isinstance(answer, list):  # TGI's /generate where it is asked by /
        answer = answer[0] if len(answer) == 1 else None
    if not isinstance(answer, dict):
        return NOTHING
    if "done" in answer or "prompt_eval_count" in answer:
        return _ollama(answer)
    inner = next((answer[key] for key in ("response", "message") if isinstance(answer.get(key), dict)), answer)
    told: dict[str, Any] = {}
    for where, key, reading in ((answer, "timings", _timings), (answer, "details", _details), (inner, "usage", _usage)):
        said = answer[key] if isinstance(answer.get(key), dict) else where.get(key)
        if isinstance(said, dict):
            told |= reading(said)
    return Used(
        **told,
        response_id=_text(inner.get("id")),
        model=_text(inner.get("model")),
        failed=bool(answer.get("error")) or answer.get("type") in ("error", "response.failed"),
    )


def _ollama(answer: Mapping[str, Any]) -> Used:
    """Return what Ollama's own answers say (its docs/api.md): the whole prompt, the output, durations in nanoseconds.

    How much of the prompt came from its cache it does not say. The first token came when all was over but the output.
    """
    whole, made = tokens(answer.get("total_duration")), tokens(answer.get("eval_duration"))
    first = (whole - made) / _NS_PER_SECOND if whole is not None and made is not None and whole >= made else None
    return Used(
        prompt=tokens(answer.get("prompt_eval_count")),
        output=tokens(answer.get("eval_count")),
        model=_text(answer.get("model")),
        first_token_seconds=first,
        failed=bool(answer.get("error")),
        is_last=answer.get("done") is True,
    )


def _usage(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens of a `usage` object. By Anthropic's protocol `input_tokens` leaves out what is cached."""
    prompt = tokens(usage.get("prompt_tokens", usage.get("input_tokens")))
    read, written = tokens(usage.get("cache_read_input_tokens")), tokens(usage.get("cache_creation_input_tokens"))
    if prompt is not None and "input_tokens" in usage:
        prompt += (read or 0) + (written or 0)
    inside = _map(usage.get("prompt_tokens_details")) or _map(usage.get("input_tokens_details"))
    outside = _map(usage.get("completion_tokens_details")) or _map(usage.get("output_tokens_details"))
    return _known(
        prompt=prompt,
        cached=read if read is not None else tokens(inside.get("cached_tokens")),
        output=tokens(usage.get("completion_tokens", usage.get("output_tokens"))),
        reasoning=tokens(outside.get("reasoning_tokens")),
    )


def _timings(told: Mapping[str, Any]) -> dict[str, int]:
    """Return llama.cpp's own count: what was computed, what was reused, what was generated."""
    computed, cached = tokens(told.get("prompt_n")), tokens(told.get("cache_n"))
    whole = None if computed is None else computed + (cached or 0)
    return _known(prompt=whole, cached=cached, output=tokens(told.get("predicted_n")))


def _details(told: Mapping[str, Any]) -> dict[str, int]:
    """Return TGI's details: of a body the prompt's tokens only where they were asked for, of a stream their number."""
    prefill = told.get("prefill")
    prompt = len(prefill) if isinstance(prefill, list) and prefill else tokens(told.get("input_length"))
    return _known(prompt=prompt, output=tokens(told.get("generated_tokens")))


def of_headers(headers: Mapping[str, str]) -> Used:
    """Return what TGI says in headers, by their names in lower case; times there are milliseconds.

    When the first token came it does not say: it is taken to have taken as long as each, after all that was waited.
    """
    output = tokens(headers.get("x-generated-tokens"))
    checked, queue, busy = (_seconds(headers.get(f"x-{name}-time")) for name in ("validation", "queue", "inference"))
    first = None
    if queue is not None and busy is not None and output:
        first = (checked or 0.0) + queue + busy / output
    return Used(tokens(headers.get("x-prompt-tokens")), None, output, queue_seconds=queue, first_token_seconds=first)


def several(n: object, prompt: object) -> tuple[int, int]:
    """Return how many answers a call asks for, to how many prompts; what cannot be such a number is one."""
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return prompts * (n if type(n) is int and 1 <= n <= MOST_ANSWERS else 1), prompts


def tokens(value: object) -> int | None:
    """Return a number of tokens, from JSON's number or a header's digits; None for what cannot be one."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value or "nan") / _MS_PER_SECOND
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _known(**values: int | None) -> dict[str, int]:
    return {name: value for name, value in values.items() if value is not None}


def _text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= MOST_CHARACTERS and value.isprintable() else ""
