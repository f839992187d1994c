"""What receivers answer, by HTTP and by gRPC, from stand-ins that answer as the OTLP specification has it."""

import logging
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inferwatt.export.exporter import About, Batch, Exporter, ExportRefused, ExportRetry
from inferwatt.export.otlp import open_exporter
from inferwatt.export.settings import ExportConfig, OtlpConfig
from tests.export.figures import row, snapshot
from tests.real.conftest import missing

from .otlp_receiver import TAKEN, Answer, metrics_pb2, receiving

pytest.importorskip("opentelemetry.sdk", reason="it comes with make test-observability")
grpc = pytest.importorskip("grpc")
Code = grpc.StatusCode
START_NS = 1_800_000_000 * 10**9
SECRET = "0123456789abcdef"
METRICS, SPANS = "/v1/metrics", "/v1/traces"
SERVICE = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


def opened(endpoint: str, **settings: object) -> Exporter:
    """Return the exporter to an endpoint."""
    config = OtlpConfig(endpoint=endpoint, **settings)  # type: ignore[arg-type]
    attributes = (("k8s.pod.name", "inferwatt-x"),)
    exporter = open_exporter(ExportConfig(otlp=config), About("node-1", "0.1.0", START_NS, attributes))
    assert exporter is not None
    return exporter


def batch(second: int, *names: str) -> Batch:
    """Return a batch at a second after the start."""
    return Batch(START_NS + second * 10**9, snapshot(second * 10**6), [row(name) for name in names])


@pytest.mark.parametrize("status", [401, 403, 407, 408, 429, 502, 503, 504])
def test_what_may_be_taken_later_comes_again(status: int) -> None:
    """The codes that the specification names, and what somebody can put right: a token, a proxy."""
    with receiving() as receiver:
        receiver.answers[METRICS] = [(status, {"Retry-After": "7"}, b"")]
        exporter = opened(receiver.url)
        with pytest.raises(ExportRetry) as refusal:
            exporter.export(batch(1, "a"))
        assert exporter.export(batch(11, "a")) == 0

    assert (refusal.value.reason, refusal.value.retry_after_seconds) == (str(status), 7.0)
    assert len(receiver.spans) == 1


@pytest.mark.parametrize("status", [400, 404, 413, 500, 302])
def test_what_never_will_be_is_left_out_and_counted(status: int) -> None:
    """The specification forbids to send it again; nothing is followed elsewhere."""
    with receiving() as receiver:
        receiver.answers[METRICS] = [(status, {"Location": receiver.url + SPANS}, b"")]
        exporter = opened(receiver.url)
        with pytest.raises(ExportRefused) as refusal:
            exporter.export(batch(1))

    assert refusal.value.reason == str(status)
    assert len(receiver.headers) == 1


def test_a_receiver_of_metrics_alone_gets_them(caplog: pytest.LogCaptureFixture) -> None:
    """Spans that it refuses are counted each time, and told once; metrics go on."""
    with receiving() as receiver:
        receiver.answers[SPANS] = [(404, {}, b"")] * 2
        exporter = opened(receiver.url)
        with caplog.at_level(logging.WARNING, "inferwatt"):
            assert [exporter.export(batch(second, f"a{second}", f"b{second}")) for second in (1, 11)] == [2, 2]

    assert len(receiver.points("inferwatt.requests")) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "export to otlp: 2 points or spans were refused: the OTLP receiver takes none of these there"
    ]


def test_what_was_refused_in_part_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver may take a message and say how much of it it left out, and why."""
    partly = metrics_pb2.ExportMetricsServiceResponse()
    partly.partial_success.rejected_data_points = 3
    partly.partial_success.error_message = "too old"
    with receiving() as receiver, caplog.at_level(logging.WARNING, "inferwatt"):
        receiver.answers[METRICS] = [(200, TAKEN[1], partly.SerializeToString())]

        assert opened(receiver.url).export(batch(1)) == 3
    assert "too old" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [(200, {}, b""), (202, {"Content-Type": "application/json"}, b"{}"), (200, TAKEN[1], b"\xff"), (204, {}, b"")],
)
def test_a_receiver_of_few_words_is_believed(answer: Answer) -> None:
    """Nothing, JSON, or what cannot be read, with a status that says that it was taken."""
    with receiving() as receiver:
        receiver.answers[METRICS] = [answer]

        assert opened(receiver.url).export(batch(1)) == 0


def test_a_web_page_is_no_receiver() -> None:
    """A login page answers 200 to everything, and keeps nothing."""
    with receiving() as receiver:
        receiver.answers[METRICS] = [(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>")]

        with pytest.raises(ExportRetry, match="is a page"):
            opened(receiver.url).export(batch(1))


def test_a_request_is_told_once_though_its_batch_came_again() -> None:
    """What was taken of a batch is not sent with the rest of it."""
    names = [f"r{number}" for number in range(700)]
    with receiving() as receiver:
        receiver.answers[SPANS] = [TAKEN, (503, {}, b"")]
        exporter = opened(receiver.url)
        with pytest.raises(ExportRetry):
            exporter.export(batch(1, *names))
        assert len(receiver.spans) == 500
        exporter.export(batch(2, *names))

    assert len({span.span_id for span in receiver.spans}) == len(receiver.spans) == 700


def test_metrics_wait_while_more_requests_follow_at_once() -> None:
    """A backlog of requests does not send every figure with each thousand."""
    with receiving() as receiver:
        exporter = opened(receiver.url)
        exporter.export(Batch(START_NS, snapshot(), [row("a")], has_more=True))
        assert (len(receiver.metrics), len(receiver.spans)) == (0, 1)


def test_a_message_stays_small() -> None:
    """Ten thousand series are ten messages, far below what a gRPC server takes (4 MiB)."""
    page = snapshot()
    page.values["inferwatt_tenant_energy_joules_total"] = {  # type: ignore[index]
        (f"tenant-{number}", "a-model/with-a-long-name-of-70-billions", "measured"): number for number in range(10_000)
    }
    with receiving() as receiver:
        opened(receiver.url).export(Batch(START_NS, page))

    assert len(receiver.points("inferwatt.tenant.energy")) == 10_000
    assert max(receiver.bodies) < 1 << 20
    assert len(receiver.bodies) == 11


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_headers_are_read_anew_and_never_told(
    compression: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A token may be changed while the agent runs; it is in no log and no error."""
    file = tmp_path / "headers"
    file.write_text("authorization: Bearer old\n")
    with receiving() as receiver, caplog.at_level(logging.DEBUG):
        exporter = opened(receiver.url, headers_file=str(file), compression=compression, spans=False)
        exporter.export(batch(1))
        file.write_text(f"authorization: Bearer {SECRET}\n")
        receiver.answers[METRICS] = [(401, {}, b"")]
        with pytest.raises(ExportRetry, match="asks for a token") as refusal:
            exporter.export(batch(11))
        file.unlink()
        with pytest.raises(ExportRetry, match="cannot be read") as gone:
            exporter.export(batch(21))

    assert [each["authorization"] for each in receiver.headers] == ["Bearer old", f"Bearer {SECRET}"]
    assert receiver.headers[0].get("content-encoding", "none") == compression
    assert SECRET not in caplog.text + str(refusal.value) + str(gone.value)


def test_the_resource_says_who_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What we know; over it the environment's, as OpenTelemetry has it; over both the configuration's."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.node.name=n1,service.version=9,deployment.environment.name=a")
    with receiving() as receiver:
        opened(receiver.url, attributes=("deployment.environment.name=b",)).export(batch(1, "a"))
    metrics, spans = receiver.resources

    assert metrics == spans
    assert metrics == {
        "service.name": "inferwatt",
        "service.version": "9",
        "service.instance.id": "node-1",
        "host.name": "node-1",
        "k8s.pod.name": "inferwatt-x",
        "k8s.node.name": "n1",
        "deployment.environment.name": "b",
    }


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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate for this machine that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-out", str(files[0]), "-keyout", str(files[1])]
    if shutil.which("openssl") is None:
        missing("openssl is not installed")
    subprocess.run(command, check=True, capture_output=True)
    return files


def test_http_by_tls(certificate: tuple[Path, Path]) -> None:
    """A receiver of one's own authority is trusted by its file; one that nobody vouches for gets nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with receiving(context) as receiver:
        assert opened(receiver.url, ca_file=str(certificate[0])).export(batch(1)) == 0
        with pytest.raises(ExportRetry, match="cannot be reached"):
            opened(receiver.url).export(batch(11))

    assert len(receiver.headers) == 1


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
