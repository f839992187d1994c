"""The span that the host is in, where it has loaded OpenTelemetry; nothing here imports it, or ever raises."""

import sys
from typing import Any


def current_span() -> Any:  # noqa: ANN401 - OpenTelemetry's
    """Return the span that the host is in; None without one."""
    trace = sys.modules.get("opentelemetry.trace")
    try:
        return trace.get_current_span() if trace is not None else None
    except Exception:  # noqa: BLE001 - the host's, whatever it is
        return None


def traceparent_of(span: Any) -> str:  # noqa: ANN401
    """Return a span as the W3C's header has it; empty where there is none."""
    try:
        above = span.get_span_context()
        return f"00-{above.trace_id:032x}-{above.span_id:016x}-{above.trace_flags:02x}" if above.is_valid else ""  # noqa: TRY300
    except Exception:  # noqa: BLE001 - the host's, whatever it is
        return ""
