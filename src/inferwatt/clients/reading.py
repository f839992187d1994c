"""What a client library's answer, or one event of it, says of its work: tokens, names, a server's own joules. Pure.

Libraries hand over objects, dicts, or dicts with attributes; all are asked by name. OpenAI's, Anthropic's and TGI's
spelling is read by `answering.usage`; Google's and Bedrock's are here. What is not said is None.
"""

import json
from collections.abc import Mapping
from typing import Any

from inferwatt.answering import usage
from inferwatt.answering.usage import NOTHING, Used, tokens

_PLAIN = ("id", "model", "type", "timings", "details", "error")
_NESTED = ("response", "message")
_INVOCATION = "amazon-bedrock-invocationMetrics"
MOST_EVENT_BYTES = 1 << 20
_NO_OUTPUT = frozenset({"messageStart", "contentBlockStart", "contentBlockStop", "messageStop", "metadata"})
"""Events of Bedrock's ConverseStream."""
_PYDANTIC = ("__pydantic_extra__", "__pydantic_private__")


def read(answer: object) -> Used:
    """Return what an answer or an event says."""
    if isinstance(answer, bytes | bytearray):
        return _invoked(bytes(answer))
    if (google := got(answer, "usage_metadata")) is not None:
        return _google(answer, google)
    if isinstance(answer, Mapping) and ("ResponseMetadata" in answer or "metadata" in answer or "chunk" in answer):
        return _bedrock(answer)
    return usage.used(_told(answer))


def is_output(piece: object) -> bool:
    """Say whether a piece of a stream brings output: some protocols name what does, the others' pieces all may."""
    kind = got(piece, "type")
    if isinstance(kind, str):
        return kind.endswith("delta") and kind != "message_delta"
    return not isinstance(piece, dict) or piece.keys().isdisjoint(_NO_OUTPUT)


def figure(answer: object) -> Mapping[str, Any] | None:
    """Return the `inferwatt` object that a server of ours put in; None where there is none."""
    for inner in (answer, got(answer, "response")):
        found = got(inner, "inferwatt")
        if isinstance(found, Mapping) and isinstance(found.get("id"), str):
            return found
    return None


def got(thing: object, name: str) -> Any:  # noqa: ANN401 - a library's value, whatever it is
    """Return an attribute or an item of that name, None where there is neither.

    A pydantic model is looked into by its parts: to ask one for what it has not takes it microseconds, each time.
    """
    own = getattr(thing, "__dict__", None)
    if own is not None and name in own:
        return own[name]
    if hasattr(thing, "__pydantic_fields_set__"):
        return next((more[name] for more in map(thing.__getattribute__, _PYDANTIC) if more and name in more), None)
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _told(answer: object) -> dict[str, Any]:
    told = {name: plain(got(answer, name)) for name in _PLAIN}
    told["usage"] = plain(got(answer, "usage") or got(got(answer, "_hidden_params"), "usage"))  # litellm hides it
    for name in _NESTED:
        inner = got(answer, name)
        if plain(got(inner, "usage")) or isinstance(got(inner, "id"), str):
            told[name] = {key: plain(got(inner, key)) for key in ("id", "model", "usage")}
    return told


def plain(value: object) -> Any:  # noqa: ANN401 - a JSON value
    """Return a small object as the dict that it stands for."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name, None)) for name in value.__dataclass_fields__}
    return value


def _google(answer: object, said: object) -> Used:
    """Read Gemini's: the prompt counts what was cached, a tool's result is prompt too, thoughts are output."""
    prompt, tool = tokens(got(said, "prompt_token_count")), tokens(got(said, "tool_use_prompt_token_count"))
    output, thoughts = tokens(got(said, "candidates_token_count")), tokens(got(said, "thoughts_token_count"))
    return Used(
        prompt=_sum(prompt, tool),
        cached=tokens(got(said, "cached_content_token_count")),
        output=_sum(output, thoughts),
        reasoning=thoughts,
        response_id=_text(got(answer, "response_id")),
        model=_text(got(answer, "model_version")),
    )


def _bedrock(answer: Mapping[str, Any]) -> Used:
    """Read Bedrock's: Converse in the body or the stream's last event, InvokeModel in headers or the last chunk."""
    chunk = answer.get("chunk")
    if isinstance(chunk, Mapping):
        return _invoked(chunk.get("bytes", b""))
    about = answer.get("ResponseMetadata") or {}
    said = answer.get("usage") or (answer.get("metadata") or {}).get("usage") or {}
    headers = about.get("HTTPHeaders") or {}
    read_, written = tokens(said.get("cacheReadInputTokens")), tokens(said.get("cacheWriteInputTokens"))
    prompt = tokens(said.get("inputTokens"))
    if prompt is None:
        prompt, read_, written = tokens(headers.get("x-amzn-bedrock-input-token-count")), None, None
    output = tokens(said.get("outputTokens", headers.get("x-amzn-bedrock-output-token-count")))
    return Used(_sum(prompt, read_, written), read_, output, response_id=_text(about.get("RequestId")))


def _invoked(data: bytes) -> Used:
    """Read a chunk of InvokeModelWithResponseStream: the last one has the counts, whatever the model's own form."""
    if _INVOCATION.encode() not in data or len(data) > MOST_EVENT_BYTES:
        return NOTHING
    try:
        said = json.loads(data)[_INVOCATION]
    except (ValueError, LookupError, TypeError, RecursionError):
        return NOTHING
    cached = tokens(got(said, "cacheReadInputTokenCount"))
    written = tokens(got(said, "cacheWriteInputTokenCount"))
    prompt = tokens(got(said, "inputTokenCount"))
    return Used(_sum(prompt, cached, written), cached, tokens(got(said, "outputTokenCount")))


def _sum(*parts: int | None) -> int | None:
    """Return the sum of the parts that are known, None where none is."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= usage.MOST_CHARACTERS and value.isprintable() else ""
