"""The two kinds of OTLP messages that are sent: where each goes, and what is answered."""

from typing import Any, Final, NamedTuple

from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse


class Signal(NamedTuple):
    """Its path by HTTP, its method by gRPC, its answer, and the answer's field that counts what was refused."""

    path: str
    method: str
    answer: Any
    rejected: str


_SERVICES: Final = "/opentelemetry.proto.collector"
METRICS: Final = Signal(
    "/v1/metrics",
    f"{_SERVICES}.metrics.v1.MetricsService/Export",
    ExportMetricsServiceResponse,
    "rejected_data_points",
)
SPANS: Final = Signal(
    "/v1/traces", f"{_SERVICES}.trace.v1.TraceService/Export", ExportTraceServiceResponse, "rejected_spans"
)


def refused(signal: Signal, answer: Message) -> tuple[int, str]:
    """Return how many of a body's items were refused though it was taken, and why."""
    partly: Any = answer.partial_success
    return int(getattr(partly, signal.rejected)), str(partly.error_message)
