"""What the span of a request says, and where it belongs."""

from dataclasses import replace

import pytest

from inferwatt.export.otlp_requests import Context, attributes_of, context_of, context_of_row, key_of
from inferwatt.records import UNKNOWN_TENANT, Request
from inferwatt.spans.decoding import Span
from inferwatt.spans.genai import Reader, Said

from .figures import row

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REQUEST = Request("r1", producer="p")


def test_a_span_is_below_its_callers() -> None:
    """Trace and parent are the header's; the flag says whether the trace is kept."""
    kept = context_of(replace(REQUEST, traceparent=f"00-{TRACE}-{SPAN}-01"))
    left = context_of(replace(REQUEST, traceparent=f"00-{TRACE}-{SPAN}-00"))

    assert kept == Context(int(TRACE, 16), kept.span_id, int(SPAN, 16), is_sampled=True)
    assert left == kept._replace(is_sampled=False)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
    ],
)
def test_what_is_no_header_has_no_parent(header: str) -> None:
    """It is a trace of its own, and the same one when it is sent again."""
    context = context_of(replace(REQUEST, traceparent=header))

    assert context == context_of(REQUEST)
    assert context.parent_id == 0
    assert context.trace_id > 0 < context.span_id
    assert context != context_of(replace(REQUEST, producer="q"))


def test_a_name_that_could_be_a_traces_is_its_trace() -> None:
    """Who called with a trace's id as the name finds the span there."""
    assert context_of(replace(REQUEST, trace_id=TRACE)).trace_id == int(TRACE, 16)
    assert context_of(replace(REQUEST, trace_id="chatcmpl-1")) == context_of(REQUEST)


def test_a_correction_is_a_span_below_its_requests() -> None:
    """It has an id of its own, in the same trace; nothing that a sum over requests would count again."""
    first = replace(row("r1"), request=replace(REQUEST, traceparent=f"00-{TRACE}-{SPAN}-01", prompt_tokens=12))
    second = replace(first, energy=row("r1", 5_000_000).energy, corrects=7)
    above, below = context_of_row(first), context_of_row(second)
    found = attributes_of(second, "vllm")

    assert above == context_of(first.request)
    assert (below.trace_id, below.parent_id, below.is_sampled) == (above.trace_id, above.span_id, True)
    assert len({above.span_id, below.span_id, context_of_row(replace(second, corrects=8)).span_id}) == 3
    assert len({key_of(first), key_of(second)}) == 2
    assert (found["inferwatt.corrected.energy_joules"], found["inferwatt.state"]) == (5.0, "corrected")
    assert {"inferwatt.energy_joules", "gen_ai.usage.input_tokens"} & found.keys() == set()


def test_what_is_not_known_is_not_said() -> None:
    """No energy, tokens or tenant: nothing of them, never a zero or a word for it."""
    bare = replace(row("r1"), energy=None, request=Request("r1", prompt_tokens=0, tenant=UNKNOWN_TENANT), server="")

    assert attributes_of(bare, "") == {"gen_ai.usage.input_tokens": 0, "inferwatt.request_id": "r1"}


def test_the_joules_are_those_of_the_row() -> None:
    """In joules, by component too; who served it is its own server's kind unless a managed API did."""
    found = attributes_of(row("r1", 2_500_001), "vllm")
    managed = attributes_of(replace(row("r1"), request=Request("r1", provider="openai")), "vllm")

    assert found["inferwatt.energy_joules"] == found["inferwatt.accelerator_joules"] == 2.500001
    assert (found["inferwatt.provenance"], found["inferwatt.state"]) == ("measured", "final")
    assert (found["gen_ai.provider.name"], managed["gen_ai.provider.name"]) == ("vllm", "openai")


def test_our_own_span_is_no_call_to_us() -> None:
    """A collector that passes everything on to `spans.listen` makes no second request of it."""
    served = replace(
        row("r1"), request=Request("r1", provider="openai", model="gpt-5", prompt_tokens=3, output_tokens=4)
    )
    server = 2
    span = Span(TRACE, SPAN, "", server, 1, 2, has_failed=False, attributes=attributes_of(served, ""))

    assert Reader((), "inferwatt.tenant").read(span, 0, 3) == (Said.OTHER, None)
