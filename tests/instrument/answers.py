"""What the stand-ins of managed APIs answer: their documented forms, with the same tokens in each one's spelling."""

import base64
import itertools
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

FIGURE = {
    "id": "e0:1",
    "energy_joules": 2.5,
    "low_joules": 2.0,
    "high_joules": 3.0,
    "systematic_ratio": 0.0,
    "tier": "step_exact",
    "provenance": "measured",
    "final": True,
    "state": "final",
    "link": "/v1/requests/e0%3A1",
}
PROMPT, CACHED, OUTPUT, REASONING = 100, 40, 20, 5
"""What each answer says, in its own spelling."""

OPENAI_USAGE = {
    "prompt_tokens": PROMPT,
    "completion_tokens": OUTPUT,
    "total_tokens": PROMPT + OUTPUT,
    "prompt_tokens_details": {"cached_tokens": CACHED},
    "completion_tokens_details": {"reasoning_tokens": REASONING},
}
RESPONSES_USAGE = {
    "input_tokens": PROMPT,
    "output_tokens": OUTPUT,
    "total_tokens": PROMPT + OUTPUT,
    "input_tokens_details": {"cached_tokens": CACHED},
    "output_tokens_details": {"reasoning_tokens": REASONING},
}
ANTHROPIC_USAGE = {
    "input_tokens": PROMPT - CACHED,
    "cache_read_input_tokens": CACHED,
    "cache_creation_input_tokens": 0,
    "output_tokens": OUTPUT,
}
GOOGLE_USAGE = {
    "promptTokenCount": PROMPT,
    "cachedContentTokenCount": CACHED,
    "candidatesTokenCount": OUTPUT - REASONING,
    "thoughtsTokenCount": REASONING,
    "totalTokenCount": PROMPT + OUTPUT,
}
BEDROCK_USAGE = {
    "inputTokens": PROMPT - CACHED,
    "cacheReadInputTokens": CACHED,
    "outputTokens": OUTPUT,
    "totalTokens": PROMPT + OUTPUT,
}


_numbers = itertools.count(1)
"""Each answer has an id of its own."""


def chat(model: str) -> dict[str, Any]:
    """Return a chat completion."""
    message = {"role": "assistant", "content": "Hello."}
    body = {
        "id": f"chatcmpl-{next(_numbers)}",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": OPENAI_USAGE,
    }
    return {**body, "inferwatt": FIGURE} if model == "metered" else body


def chat_events(model: str, *, usage: bool) -> Iterator[dict[str, Any]]:
    """Yield a chat completion's chunks, the usage in a last one where it was asked for."""
    base = {"id": f"chatcmpl-{next(_numbers)}", "object": "chat.completion.chunk", "created": 1, "model": model}
    for text in ("Hel", "lo", "."):
        delta = {"role": "assistant", "content": text}
        yield {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    last = {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield {**last, "inferwatt": FIGURE} if model == "metered" else last
    if usage:
        yield {**base, "choices": [], "usage": OPENAI_USAGE}


def message(model: str) -> dict[str, Any]:
    """Return a message of Anthropic's."""
    return {
        "id": f"msg_{next(_numbers)}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": "Hello."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": ANTHROPIC_USAGE,
    }


def message_events(model: str) -> Iterator[dict[str, Any]]:
    """Yield a message's events: the prompt at the start, the output at the end."""
    opened = {**message(model), "content": [], "stop_reason": None, "usage": {**ANTHROPIC_USAGE, "output_tokens": 1}}
    yield {"type": "message_start", "message": opened}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for text in ("Hel", "lo", "."):
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    yield {"type": "content_block_stop", "index": 0}
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": OUTPUT}}
    yield {"type": "message_stop"}


def response(model: str) -> dict[str, Any]:
    """Return a response of OpenAI's Responses API."""
    text = {"type": "output_text", "text": "Hello.", "annotations": []}
    return {
        "id": f"resp_{next(_numbers)}",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": model,
        "output": [{"type": "message", "id": "m1", "status": "completed", "role": "assistant", "content": [text]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": RESPONSES_USAGE,
    }


def generated(model: str, *, usage: bool = True, name: str = "") -> dict[str, Any]:
    """Return an answer of Gemini's, or a piece of one."""
    content = {"role": "model", "parts": [{"text": "Hello."}]}
    body = {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "modelVersion": model,
        "responseId": name or f"g{next(_numbers)}",
    }
    return {**body, "usageMetadata": GOOGLE_USAGE} if usage else body


CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
    "stopReason": "end_turn",
    "usage": BEDROCK_USAGE,
    "metrics": {"latencyMs": 12},
}
INVOKED = {"inputTokenCount": PROMPT, "outputTokenCount": OUTPUT, "invocationLatency": 12, "firstByteLatency": 3}


def aws_event(kind: str, payload: dict[str, Any]) -> bytes:
    """Return one message of AWS's event stream encoding (`application/vnd.amazon.eventstream`)."""
    headers = b""
    for name, value in ((":message-type", "event"), (":event-type", kind), (":content-type", "application/json")):
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", len(headers) + len(body) + 16, len(headers))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return whole + struct.pack(">I", zlib.crc32(whole))


def converse_events() -> Iterator[bytes]:
    """Yield what ConverseStream sends."""
    yield aws_event("messageStart", {"role": "assistant"})
    for text in ("Hel", "lo."):
        yield aws_event("contentBlockDelta", {"delta": {"text": text}, "contentBlockIndex": 0})
    yield aws_event("messageStop", {"stopReason": "end_turn"})
    yield aws_event("metadata", {"usage": BEDROCK_USAGE, "metrics": {"latencyMs": 12}})


def invoke_events() -> Iterator[bytes]:
    """Yield what InvokeModelWithResponseStream sends: base64 of the model's own chunks, the counts in the last one."""
    for chunk in ({"outputText": "Hello."}, {"amazon-bedrock-invocationMetrics": INVOKED}):
        data = base64.b64encode(json.dumps(chunk).encode()).decode()
        yield aws_event("chunk", {"bytes": data})
