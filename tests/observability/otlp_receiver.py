"""A stand-in for an OTLP/HTTP receiver: it answers as it is told, and reads what came by the official decoder."""

import gzip
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.serving import serving

metrics_pb2 = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
trace_pb2 = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
Answer = tuple[int, dict[str, str], bytes]
TAKEN: Answer = (200, {"Content-Type": "application/x-protobuf"}, b"")


@dataclass
class Receiver:
    """What came so far, and what is answered: one of `answers` each, by path, then that it was taken."""

    url: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, path: str, body: bytes) -> Answer:
        """Take one message, or not."""
        waiting = self.answers.get(path)
        answer = waiting.pop(0) if waiting else TAKEN
        self.bodies.append(len(body))
        if answer[0] == 200:
            self.take(path, body)
        return answer

    def take(self, path: str, body: bytes) -> None:
        """Take one message apart."""
        if path == "/v1/metrics":
            for each in metrics_pb2.ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resources.append(told(each.resource))
                self.metrics += [metric for scope in each.scope_metrics for metric in scope.metrics]
        else:
            for each in trace_pb2.ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(told(each.resource))
                self.spans += [span for scope in each.scope_spans for span in scope.spans]

    def points(self, name: str) -> list[Any]:
        """Return all points of one metric, in the order in which they came."""
        found = [metric for metric in self.metrics if metric.name == name]
        return [point for metric in found for point in getattr(metric, metric.WhichOneof("data")).data_points]


def told(item: Any) -> dict[str, Any]:
    """Return the attributes of a point, a span or a resource."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in item.attributes}


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Serve it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        """One request."""

        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Take a body, or not."""
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.headers.append({key.lower(): value for key, value in self.headers.items()})
            status, headers, text = receiver.answer(self.path, body)
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Handler, tls) as url:
        receiver = Receiver(url)
        yield receiver
