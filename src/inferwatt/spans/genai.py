"""Spans of calls to models, by OpenTelemetry's conventions for generative AI, as records. Pure.

Conventions 1.27 (`gen_ai.system`, `prompt_tokens`) to 1.42 (`gen_ai.provider.name`, cached tokens within the input). A
span counts where a model was asked: spans of agents, workflows and tools repeat what is in the spans below them.
"""

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from enum import StrEnum

from inferwatt.answering.usage import tokens
from inferwatt.clients.hosts import host_of, is_own, provider_of, spelled
from inferwatt.records import UNKNOWN_TENANT, Outcome, Request
from inferwatt.spans.decoding import CLIENT, Span, Value
from inferwatt.units import NS_PER_SECOND
from inferwatt.wire import MAX_INTEGER, MAX_TEXT_CHARACTERS, REFUSED_CHARACTERS

PRODUCER = "otlp"
ASKING = frozenset({"chat", "text_completion", "generate_content", "embeddings", "completion", "embedding"})
SELF_HOSTED = frozenset({"ollama", "vllm", "tgi", "llama.cpp", "sglang", "lm_studio", "_other", "other", ""})
MOST_PARENTS = 100_000
AHEAD_NS = 300 * NS_PER_SECOND
"""How far the clock of who made a span may be ahead of ours."""
OLD_NS = 7 * 86_400 * NS_PER_SECOND
"""How long a collector may have kept a span back; what is older has its times wrong (0, seconds for nanoseconds)."""
OF_THEIR_OWN = {
    "openai": re.compile(r"(ft:)?(gpt-(?!oss)|o\d|chatgpt-|text-embedding-|codex-|computer-use)"),
    "anthropic": re.compile(r"claude-"),
}
"""How a provider's own models are called. Its client library asks other servers too, and some instrumentations do not
say which (opentelemetry-instrumentation-openai-v2 2.4b0 knows no address of openai 3's clients)."""


class Said(StrEnum):
    """What became of a span."""

    TAKEN = "taken"
    OTHER = "other"
    """No model was asked in it."""
    OWN_SERVER = "own_server"
    """A server of one's own was asked: its own meter counts it."""
    UNKNOWN_SERVER = "unknown_server"
    """Nobody says which server was asked, and the model is none of the provider's own."""
    MEASURED = "measured"
    """Its server said its own figure."""
    ABOVE = "above"
    """The call is in a span below it."""
    UNTIMELY = "untimely"
    """Its times are in the future, or long past: no day could be charged with it."""
    MALFORMED = "malformed"


class Reader:
    """Reads spans in the order in which they come: what is below another ends, and comes, before it."""

    def __init__(self, managed: Collection[str], tenant_attribute: str) -> None:
        self._managed = frozenset(host.lower() for host in managed)
        self._tenant_attribute = tenant_attribute
        self._above: OrderedDict[tuple[str, str], None] = OrderedDict()

    def read(self, span: Span, offset_ns: int, now_unix_ns: int) -> tuple[Said, Request | None]:
        """Return what becomes of a span that comes now, and the record of a call.

        `offset_ns` is UTC less the monotonic clock.
        """
        if not _asks(span):
            return Said.OTHER, None
        if (span.trace_id, span.span_id) in self._above:
            return Said.ABOVE, None
        self._above[span.trace_id, span.parent_id] = None
        while len(self._above) > MOST_PARENTS:
            self._above.popitem(last=False)
        provider, model = self._provider(span.attributes), _model(span.attributes)
        said = _judged(span, provider, model, now_unix_ns)
        return said, self._request(span, provider, model, offset_ns) if said is Said.TAKEN else None

    def _provider(self, said: Mapping[str, Value]) -> str:
        """Return which managed API was asked; empty where it was none."""
        host = _host(said)
        named = spelled(str(said.get("gen_ai.provider.name") or said.get("gen_ai.system") or ""))
        if host in self._managed:
            return _text(named or host)
        if host:
            usual = "" if named in OF_THEIR_OWN else named  # their clients ask anybody
            return "" if is_own(host) else _text(provider_of(host, usual))
        return "" if named in SELF_HOSTED else _text(named)

    def _request(self, span: Span, provider: str, model: str, offset_ns: int) -> Request:
        said = span.attributes
        prompt, output = (
            _first(said, "input_tokens", "prompt_tokens"),
            _first(said, "output_tokens", "completion_tokens"),
        )
        cached = _first(said, "cache_read.input_tokens", "cache_read_input_tokens")
        if prompt is not None and (cached or 0) > prompt:  # an older convention leaves what is cached out
            prompt += cached or 0
        tenant = said.get(self._tenant_attribute) or span.resource.get(self._tenant_attribute) or ""
        return Request(
            request=f"{PRODUCER}:{span.trace_id}:{span.span_id}",
            model=model,
            tenant=_tenant(_text(tenant)),
            arrival_ns=span.start_unix_ns - offset_ns,
            end_ns=span.end_unix_ns - offset_ns,
            prompt_tokens=prompt,
            cached_tokens=None if prompt is None else cached,
            output_tokens=output,
            outcome=Outcome.FAILED if span.has_failed or "error.type" in said else Outcome.FINISHED,
            response_id=_text(said.get("gen_ai.response.id")),
            trace_id=_text(span.trace_id),
            traceparent=f"00-{span.trace_id}-{span.span_id}-01",
            producer=PRODUCER,
            provider=provider,
        )


def _judged(span: Span, provider: str, model: str, now_unix_ns: int) -> Said:
    """Return what becomes of a call."""
    said = span.attributes
    if said.get("inferwatt.request_id"):
        return Said.MEASURED
    if not provider:
        return Said.OWN_SERVER
    if not _host(said) and provider in OF_THEIR_OWN and not OF_THEIR_OWN[provider].match(model):
        return Said.UNKNOWN_SERVER
    if not span.start_unix_ns <= span.end_unix_ns <= MAX_INTEGER:
        return Said.MALFORMED
    is_timely = now_unix_ns - OLD_NS <= span.start_unix_ns and span.end_unix_ns <= now_unix_ns + AHEAD_NS
    return Said.TAKEN if is_timely else Said.UNTIMELY


def _host(said: Mapping[str, Value]) -> str:
    """Return where a call went: OpenLLMetry tells the address that its client was given."""
    return str(said.get("server.address") or "").lower() or host_of(said.get("gen_ai.openai.api_base"))


def _model(said: Mapping[str, Value]) -> str:
    return _text(said.get("gen_ai.response.model") or said.get("gen_ai.request.model"))


def _asks(span: Span) -> bool:
    """Say whether a model was asked in a span: by its operation, else by what it says of tokens (OpenLLMetry's)."""
    operation = span.attributes.get("gen_ai.operation.name", span.attributes.get("llm.request.type"))
    if operation is not None:
        return operation in ASKING
    return span.kind == CLIENT and any(name.startswith("gen_ai.usage.") for name in span.attributes)


def _first(said: Mapping[str, Value], *names: str) -> int | None:
    """Return the first of these that is a number of tokens; one that was told as a double is the integer that it is."""
    told = (said.get(f"gen_ai.usage.{name}") for name in names)
    known = (tokens(int(one) if isinstance(one, float) and one.is_integer() else one) for one in told)
    return next((count for count in known if count is not None), None)


def _text(value: object) -> str:
    return REFUSED_CHARACTERS.sub("", value)[:MAX_TEXT_CHARACTERS] if isinstance(value, str) else ""


def _tenant(name: str) -> str:
    return name if name and not name.startswith("__") else UNKNOWN_TENANT
