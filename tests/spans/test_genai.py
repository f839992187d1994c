"""Which spans are calls to managed APIs, and what their records say."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from inferwatt.records import UNKNOWN_TENANT, Outcome
from inferwatt.spans.decoding import CLIENT, Span
from inferwatt.spans.genai import Reader, Said

OFFSET_NS = 1_000
NOW_NS = 3_000_000_000
CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.cache_read.input_tokens": 40,
    "gen_ai.usage.output_tokens": 20,
    "server.address": "api.openai.com",
}


def span(attributes: Mapping[str, Any], **more: Any) -> Span:
    """Return a span of two seconds."""
    plain = Span("t" * 32, "s" * 16, "p" * 16, CLIENT, 5_000, 2_000_005_000, False, attributes, {})
    return replace(plain, **more)


def reader() -> Reader:
    """Return a reader; one host of our own passes calls on."""
    return Reader(("llm-proxy.internal",), "enduser.id")


def test_a_call_becomes_a_record() -> None:
    """Model, provider, tokens, ids and times are the span's; times are the monotonic clock's."""
    said, request = reader().read(span(CALL, resource={"enduser.id": "acme"}), OFFSET_NS, NOW_NS)

    assert said is Said.TAKEN
    assert request is not None
    assert (request.model, request.provider, request.tenant) == ("gpt-4o-2024-08-06", "openai", "acme")
    assert (request.prompt_tokens, request.cached_tokens, request.output_tokens) == (100, 40, 20)
    assert (request.arrival_ns, request.end_ns, request.outcome) == (4_000, 2_000_004_000, Outcome.FINISHED)
    assert (request.response_id, request.request) == ("chatcmpl-1", f"otlp:{'t' * 32}:{'s' * 16}")


def test_older_conventions_are_read() -> None:
    """OpenLLMetry's and OpenTelemetry's earlier names, with a prompt that leaves out what is cached."""
    old = {
        "llm.request.type": "chat",
        "gen_ai.system": "az.ai.openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.prompt_tokens": 30,
        "gen_ai.usage.completion_tokens": 20,
        "gen_ai.usage.cache_read_input_tokens": 70,
    }
    said, request = reader().read(span(old), OFFSET_NS, NOW_NS)

    assert said is Said.TAKEN
    assert request is not None
    assert (request.prompt_tokens, request.cached_tokens, request.output_tokens) == (100, 70, 20)
    assert (request.provider, request.tenant) == ("azure.ai.openai", UNKNOWN_TENANT)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"server.address": "127.0.0.1"}, Said.OWN_SERVER),
        ({"server.address": "vllm"}, Said.OWN_SERVER),
        ({"server.address": "vllm.models.svc.cluster.local"}, Said.OWN_SERVER),
        ({"server.address": "10.0.0.7"}, Said.OWN_SERVER),
        ({"server.address": "", "gen_ai.provider.name": "ollama"}, Said.OWN_SERVER),
        ({"server.address": "", "gen_ai.provider.name": ""}, Said.OWN_SERVER),
        ({"server.address": "llm-proxy.internal"}, Said.TAKEN),
        ({"server.address": ""}, Said.TAKEN),
        ({"server.address": None, "gen_ai.response.model": "my-llama"}, Said.UNKNOWN_SERVER),
        ({"server.address": None, "gen_ai.response.model": "gpt-oss-120b"}, Said.UNKNOWN_SERVER),
        ({"server.address": None}, Said.TAKEN),
        ({"server.address": None, "gen_ai.openai.api_base": "http://127.0.0.1:8000/v1/"}, Said.OWN_SERVER),
        ({"server.address": None, "gen_ai.openai.api_base": "https://api.openai.com/v1/"}, Said.TAKEN),
        ({"inferwatt.request_id": "e0:1"}, Said.MEASURED),
        ({"gen_ai.operation.name": "invoke_agent"}, Said.OTHER),
        ({"gen_ai.operation.name": "execute_tool"}, Said.OTHER),
    ],
)
def test_a_server_that_we_meter_is_not_estimated_too(more: Mapping[str, Any], said: Said) -> None:
    """A server of one's own, a figure of a server's own, and what only repeats other spans is left alone."""
    attributes = {name: value for name, value in {**CALL, **more}.items() if value is not None}

    assert reader().read(span(attributes), OFFSET_NS, NOW_NS)[0] is said


@pytest.mark.parametrize(
    ("host", "provider"),
    [("api.groq.com", "groq"), ("api.together.xyz", "api.together.xyz"), ("api.openai.com", "openai")],
)
def test_the_server_decides_who_the_provider_is(host: str, provider: str) -> None:
    """A client of OpenAI's that asks Groq asks Groq."""
    _, request = reader().read(span({**CALL, "server.address": host}), OFFSET_NS, NOW_NS)

    assert request is not None
    assert request.provider == provider


def test_a_span_above_a_call_is_not_another_one() -> None:
    """A framework's span around the client's says the same tokens: the one below, which comes first, counts."""
    reading = reader()
    below = span(CALL, span_id="b" * 16, parent_id="a" * 16)
    above = span({**CALL, "gen_ai.response.id": ""}, span_id="a" * 16, parent_id="")

    assert [reading.read(each, OFFSET_NS, NOW_NS)[0] for each in (below, above)] == [Said.TAKEN, Said.ABOVE]


def test_a_failed_call_has_failed() -> None:
    """By its status, or by its error type."""
    for failed in (span(CALL, has_failed=True), span({**CALL, "error.type": "RateLimitError"})):
        _, request = reader().read(failed, OFFSET_NS, NOW_NS)
        assert request is not None
        assert request.outcome is Outcome.FAILED


@pytest.mark.parametrize("wrong", [-1, -1.0, 2.5, True, "many", 10**30, 1e30, float("nan"), float("inf")])
def test_what_is_no_number_of_tokens_is_not_known(wrong: Any) -> None:
    """It is left out, never 0."""
    _, request = reader().read(span({**CALL, "gen_ai.usage.output_tokens": wrong}), OFFSET_NS, NOW_NS)

    assert request is not None
    assert request.output_tokens is None


def test_a_span_that_ends_before_it_begins_is_malformed() -> None:
    """No record is made of it."""
    assert reader().read(span(CALL, end_unix_ns=1), OFFSET_NS, NOW_NS) == (Said.MALFORMED, None)


DAY_NS = 86_400_000_000_000
NOW_2026_NS = 1_795_600_000_000_000_000


@pytest.mark.parametrize(
    ("start_ns", "said"),
    [
        (0, Said.UNTIMELY),
        (NOW_2026_NS // 1_000_000_000, Said.UNTIMELY),
        (NOW_2026_NS + DAY_NS, Said.UNTIMELY),
        (NOW_2026_NS - 8 * DAY_NS, Said.UNTIMELY),
        (NOW_2026_NS - 6 * DAY_NS, Said.TAKEN),
        (NOW_2026_NS + 60_000_000_000, Said.TAKEN),
    ],
    ids=["zero", "seconds", "tomorrow", "last_week", "kept_back", "a_clock_ahead"],
)
def test_a_span_of_another_time_is_not_taken(start_ns: int, said: Said) -> None:
    """Zero, seconds for nanoseconds, the future and long ago make no record; a collector's delay does not matter."""
    told = reader().read(span(CALL, start_unix_ns=start_ns, end_unix_ns=start_ns + 1), OFFSET_NS, NOW_2026_NS)

    assert (told[0], told[1] is not None) == (said, said is Said.TAKEN)


@pytest.mark.parametrize("count", [20, 20.0, "20"])
def test_a_number_of_tokens_may_be_told_as_a_double(count: Any) -> None:
    """Some instrumentations tell one figure as an integer, others as a double: it is the same."""
    _, request = reader().read(span({**CALL, "gen_ai.usage.output_tokens": count}), OFFSET_NS, NOW_NS)

    assert request is not None
    assert request.output_tokens == 20


def test_reserved_tenants_and_control_characters_are_not_taken_over() -> None:
    """A span cannot speak for the fold of all others, nor break a label."""
    attributes = {**CALL, "enduser.id": "__other__", "gen_ai.response.model": "a\nb"}
    _, request = reader().read(span(attributes), OFFSET_NS, NOW_NS)

    assert request is not None
    assert (request.tenant, request.model) == (UNKNOWN_TENANT, "ab")
