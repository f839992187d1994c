"""The span that the host is in, as far as it can be told without importing anything."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from inferwatt.engines.session import Incoming
from inferwatt.records import Request
from inferwatt.traceparent import current_span, traceparent_of
from inferwatt.witnesses import Known


def test_a_span_is_a_header() -> None:
    """The trace's id, the span's, and whether it is kept, each in its width."""
    context = SimpleNamespace(trace_id=0xA, span_id=0xB, trace_flags=1, is_valid=True)
    span = SimpleNamespace(get_span_context=lambda: context)

    assert traceparent_of(span) == f"00-{'0' * 31}a-{'0' * 15}b-01"


@pytest.mark.parametrize("span", [None, object(), SimpleNamespace(get_span_context=lambda: None)])
def test_what_is_no_span_is_no_header(span: Any) -> None:
    """Nor is it ever an error of the host's."""
    assert traceparent_of(span) == ""


def test_opentelemetry_is_asked_only_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not imported stays so; what fails is no span."""
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    assert current_span() is None
    assert "opentelemetry.trace" not in sys.modules

    monkeypatch.setitem(sys.modules, "opentelemetry.trace", SimpleNamespace(get_current_span=lambda: 1 / 0))
    assert current_span() is None


def test_an_engines_request_is_below_the_span_that_its_client_tells() -> None:
    """The engine knows of none; the first that is told stands, and is news once."""
    known = Known(Incoming("vllm", 1, 1, Request("vllm:a"), 0))
    told = Request("sdk:1", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")

    assert known.with_others().request.traceparent == ""
    assert [known.hear(told), known.hear(told)] == [True, False]
    assert known.with_others().request.traceparent == told.traceparent
