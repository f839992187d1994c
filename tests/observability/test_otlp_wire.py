"""What receivers answer by HTTP, from a stand-in that answers as the OTLP specification has it."""

import logging
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from inferwatt.export.exporter import About, Batch, Exporter, ExportRefused, ExportRetry
from inferwatt.export.otlp import open_exporter
from inferwatt.export.settings import ExportConfig, OtlpConfig
from tests.export.figures import row, snapshot

from .otlp_receiver import TAKEN, Answer, metrics_pb2, receiving

pytest.importorskip("opentelemetry.sdk", reason="it comes with make test-observability")
START_NS = 1_800_000_000 * 10**9
SECRET = "0123456789abcdef"
METRICS, SPANS = "/v1/metrics", "/v1/traces"


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


def test_a_delta_that_was_refused_is_still_owed() -> None:
    """A path that was wrong, or a limit that was too low: put right, the next point has it all."""
    with receiving() as receiver:
        exporter = opened(receiver.url, temporality="delta")
        exporter.export(batch(1))
        receiver.answers[METRICS] = [(404, {}, b"")]
        with pytest.raises(ExportRefused):
            exporter.export(batch(11))
        exporter.export(batch(21))
        points = receiver.points("inferwatt.tenant.energy")

    assert [(each.time_unix_nano - each.start_time_unix_nano, each.as_double) for each in points] == [
        (20 * 10**9, 20.0)
    ]


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
        exporter.export(batch(3, "r0"))  # from then on it is the outlet's to know what was sent
        assert len(receiver.spans) == 701


def test_an_exemplar_points_at_no_span_that_is_not_sent() -> None:
    """A trace that is not kept, or spans that are not told: the request's own name is there all the same."""
    unkept = row("r1")
    unkept = replace(unkept, request=replace(unkept.request, traceparent=f"00-{'a' * 32}-{'b' * 16}-00"))
    for settings, sent in (({"spans": False}, row("r1")), ({}, unkept)):
        with receiving() as receiver:
            opened(receiver.url, **settings).export(Batch(START_NS, snapshot(), [sent]))
        (exemplar,) = receiver.points("inferwatt.request.energy")[0].exemplars

        assert (exemplar.trace_id, exemplar.span_id) == (b"", b"")
        assert [each.value.string_value for each in exemplar.filtered_attributes] == ["r1"]


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


def test_http_by_tls(certificate: tuple[Path, Path]) -> None:
    """A receiver of one's own authority is trusted by its file; one that nobody vouches for gets nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with receiving(context) as receiver:
        assert opened(receiver.url, ca_file=str(certificate[0])).export(batch(1)) == 0
        with pytest.raises(ExportRetry, match="cannot be reached"):
            opened(receiver.url).export(batch(11))

    assert len(receiver.headers) == 1
