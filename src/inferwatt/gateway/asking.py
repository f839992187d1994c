"""What a call asks for, read from its body, and the one thing that is added to it: that the usage be told. Pure."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from inferwatt.answering.usage import several
from inferwatt.gateway.paths import Call, Protocol

_USAGE = b'"stream_options":{"include_usage":true}'


class _Body(msgspec.Struct):
    """The members that are looked at; whatever they hold is no error of ours."""

    model: Any = None
    stream: Any = None
    n: Any = None
    prompt: Any = None
    stream_options: Any = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One call, as it goes on."""

    body: bytes
    model: str = ""
    streams: bool = False
    answers: int = 1
    """To all prompts together."""
    prompts: int = 1
    may_ask_usage: bool = False
    hides_usage: bool = False


class Unreadable(ValueError):
    """The body is no JSON object."""


_decode = msgspec.json.Decoder(_Body).decode


def read(body: bytes, call: Call) -> Asked:
    """Return what a body asks for.

    Raises:
        Unreadable: it is no JSON object.
    """
    if call.protocol is Protocol.OTHER:
        return _other(body)
    try:
        said = _decode(body)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise Unreadable(str(exc)) from None
    model = call.model or (said.model if isinstance(said.model, str) else "")
    streams = call.streams or said.stream is True
    return Asked(body, model, streams, *several(said.n, said.prompt), streams and call.protocol is Protocol.OPENAI)


def _other(body: bytes) -> Asked:
    try:
        said = _decode(body)
    except (msgspec.DecodeError, RecursionError):
        return Asked(body)
    return Asked(body, said.model if isinstance(said.model, str) else "", said.stream is True)


def with_usage(asked: Asked) -> Asked:
    """Return the call with the request that the usage be told at the end of a stream, where its client did not."""
    if not asked.may_ask_usage:
        return asked
    options = _decode(asked.body).stream_options
    if isinstance(options, dict):
        if options.get("include_usage"):
            return asked
        whole = msgspec.json.decode(asked.body)
        whole["stream_options"] = {**options, "include_usage": True}
        return replace(asked, body=msgspec.json.encode(whole), hides_usage=True)
    if options is not None or b'"stream_options"' in asked.body:  # null, or not of its form: its server says so
        return asked
    start = asked.body.index(b"{") + 1
    return replace(asked, body=asked.body[:start] + _USAGE + b"," + asked.body[start:], hides_usage=True)
