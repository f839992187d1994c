"""What receivers answer by gRPC, from a stand-in that answers as the OTLP specification has it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inferwatt.export.exporter import ExportRefused, ExportRetry

from .otlp_receiver import metrics_pb2
from .test_otlp_wire import SECRET, batch, opened

pytest.importorskip("opentelemetry.sdk", reason="it comes with make test-observability")
grpc = pytest.importorskip("grpc")
Code = grpc.StatusCode
SERVICE = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


@dataclass
class Calls:
    """A stand-in for a gRPC receiver: it answers as it is told."""

    port: int = 0
    answers: list[tuple[Any, tuple[tuple[str, bytes], ...]]] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)

    def take(self, request: bytes, context: Any) -> bytes:
        """Take a message, or not."""
        self.metadata.append({each.key: each.value for each in context.invocation_metadata()})
        if self.answers:
            code, trailing = self.answers.pop(0)
            context.set_trailing_metadata(trailing)
            context.abort(code, "said so")
        assert metrics_pb2.ExportMetricsServiceRequest.FromString(request).resource_metrics
        return b""


@contextmanager
def calling(credentials: Any = None) -> Iterator[Calls]:
    """Serve the stand-in on a free port."""
    calls = Calls()
    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(calls.take)
    service, method = SERVICE.strip("/").split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    if credentials is None:
        calls.port = server.add_insecure_port("127.0.0.1:0")
    else:
        calls.port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield calls
    finally:
        server.stop(None).wait()


def retry_info(seconds: int) -> tuple[tuple[str, bytes], ...]:
    """Return a status' details that say when to come again."""
    details = pytest.importorskip("google.rpc.error_details_pb2")
    status = pytest.importorskip("google.rpc.status_pb2").Status(code=8)
    info = details.RetryInfo()
    info.retry_delay.seconds = seconds
    status.details.add().Pack(info)
    return (("grpc-status-details-bin", status.SerializeToString()),)


@pytest.mark.parametrize(
    ("code", "reason", "waits_seconds"),
    [
        (Code.UNAVAILABLE, "connection", None),
        (Code.DEADLINE_EXCEEDED, "timeout", None),
        (Code.ABORTED, "aborted", None),
        (Code.UNAUTHENTICATED, "unauthenticated", None),
        (Code.RESOURCE_EXHAUSTED, "resource_exhausted", 9.0),
    ],
)
def test_what_a_call_may_do_later_comes_again(code: Any, reason: str, waits_seconds: float | None) -> None:
    """The codes that the specification names; an exhausted receiver only if it says when."""
    with calling() as calls:
        calls.answers = [(code, retry_info(9) if waits_seconds else ())]
        exporter = opened(f"http://127.0.0.1:{calls.port}", protocol="grpc", spans=False)
        with pytest.raises(ExportRetry) as refusal:
            exporter.export(batch(1))
        assert exporter.export(batch(11)) == 0
        exporter.close()

    assert (refusal.value.reason, refusal.value.retry_after_seconds) == (reason, waits_seconds)


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED, Code.UNIMPLEMENTED, Code.INTERNAL])
def test_what_no_call_will_do_is_left_out(code: Any) -> None:
    """Counted by its code."""
    with calling() as calls:
        calls.answers = [(code, ())]
        exporter = opened(f"http://127.0.0.1:{calls.port}", protocol="grpc", spans=False)
        with pytest.raises(ExportRefused) as refusal:
            exporter.export(batch(1))
        exporter.close()

    assert refusal.value.reason == code.name.lower()


def test_grpc_by_tls_with_a_token(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """The authority is the file's, the header goes as metadata; without the authority nothing is sent."""
    cert, key = certificate
    file = tmp_path / "headers"
    file.write_text(f"Authorization: Bearer {SECRET}\n")
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
    settings = {"protocol": "grpc", "spans": False, "headers_file": str(file)}
    with calling(credentials) as calls:
        exporter = opened(f"https://127.0.0.1:{calls.port}", ca_file=str(cert), **settings)
        assert exporter.export(batch(1)) == 0
        exporter.close()
        stranger = opened(f"https://127.0.0.1:{calls.port}", **settings)
        with pytest.raises(ExportRetry, match="cannot be reached"):
            stranger.export(batch(1))
        stranger.close()

    assert [each["authorization"] for each in calls.metadata] == [f"Bearer {SECRET}"]
