"""Remote write 1.0 against a stand-in that answers as it is told: what waits, what is dropped, what is said."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest

from inferwatt.errors import ConfigError
from inferwatt.export.exporter import Batch, ExportRetry
from inferwatt.export.remote_write import RemoteWrite, headers, open_exporter
from inferwatt.export.remote_write_queue import Queue
from inferwatt.export.remote_write_wire import STALE_VALUE, series, write_request
from inferwatt.export.settings import ExportConfig, RemoteWriteConfig
from tests.serving import serving

from .figures import snapshot

START_MS = 1_800_000_000_000


@dataclass
class Receiver:
    """What came, and what is answered: one of `answers` each, then 204."""

    url: str
    answers: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Serve a stand-in on a free port."""

    class Handler(BaseHTTPRequestHandler):
        """One request."""

        def do_POST(self) -> None:
            """Take a body, or not."""
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.answers.pop(0) if receiver.answers else 204
            receiver.headers.append({key.lower(): value for key, value in self.headers.items()})
            if status == 204:
                receiver.bodies.append(body)
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Handler) as url:
        receiver = Receiver(f"{url}/api/v1/write")
        yield receiver


def opened(url: str, folder: Path) -> RemoteWrite:
    """Return the exporter, with bodies that are not packed."""
    return RemoteWrite(RemoteWriteConfig(url, str(folder)), ("inferwatt", "node-1"), bytes)


def batch(second: int, uj: int = 10**9) -> Batch:
    """Return a batch of so many seconds after the start."""
    return Batch((START_MS + 1000 * second) * 10**6, snapshot(uj))


def test_bytes_are_those_of_the_protobuf() -> None:
    """Labels are sorted by name, an empty one is left out; the sample is a double and its time."""
    labels = series("a", ("z", "model", "empty"), ("1", "m", ""), ("j", "i"))
    label = b"\n\r\n\x08__name__\x12\x01a\n\r\n\x08instance\x12\x01i\n\x08\n\x03job\x12\x01j"
    label += b"\n\n\n\x05model\x12\x01m\n\x06\n\x01z\x12\x011"
    sample = b"\x12\x0c\x09" + struct.pack("<d", 1.5) + b"\x10\xac\x02"

    assert labels == label
    assert (
        write_request([(labels, struct.pack("<d", 1.5))], 300) == b"\n" + bytes([len(label + sample)]) + label + sample
    )


def test_an_outage_loses_nothing_and_a_restart_neither(tmp_path: Path) -> None:
    """What was refused for now comes again, oldest first, from an exporter that was opened anew too."""
    with receiving() as receiver:
        receiver.answers = [503, 429]
        first = opened(receiver.url, tmp_path)
        with pytest.raises(ExportRetry, match="503"):
            first.export(batch(0))
        again = opened(receiver.url, tmp_path)
        with pytest.raises(ExportRetry, match="429"):
            again.export(batch(15, 2 * 10**9))
        refused = again.export(batch(30, 3 * 10**9))

    assert refused == 0
    assert [struct.pack("<d", 1000.0 * n) in body for n, body in enumerate(receiver.bodies, 1)] == [True] * 3
    assert receiver.headers[0]["x-prometheus-remote-write-version"] == "0.1.0"
    assert receiver.headers[0]["content-encoding"] == "snappy"


def test_what_is_refused_for_good_is_counted(tmp_path: Path) -> None:
    """A 400 drops that request and counts its samples; the next is taken."""
    with receiving() as receiver:
        receiver.answers = [400]
        exporter = opened(receiver.url, tmp_path)
        refused = exporter.export(batch(0))
        taken = exporter.export(batch(15))

    assert refused > 20
    assert taken == 0
    assert len(receiver.bodies) == 1


def test_a_clock_put_back_sends_nothing_out_of_order(tmp_path: Path) -> None:
    """Samples that are not newer than what waits are given up and counted."""
    with receiving() as receiver:
        exporter = opened(receiver.url, tmp_path)
        exporter.export(batch(15))
        refused = exporter.export(batch(0))

    assert refused > 20
    assert len(receiver.bodies) == 1


def test_a_series_that_ends_is_marked(tmp_path: Path) -> None:
    """One that is not in the snapshot any more gets the stale marker once; at the end all of them do."""
    with receiving() as receiver:
        exporter = opened(receiver.url, tmp_path)
        exporter.export(batch(0))
        less = snapshot(10**9)
        values = {name: found for name, found in less.values.items() if name != "inferwatt_build_info"}
        gone = type(less)(values, less.histograms, less.live)
        exporter.export(Batch((START_MS + 15_000) * 10**6, gone))
        exporter.export(Batch((START_MS + 30_000) * 10**6, gone))
        exporter.close()

    assert [body.count(STALE_VALUE) for body in receiver.bodies[:3]] == [0, 1, 0]


def test_a_damaged_file_is_passed_over(tmp_path: Path) -> None:
    """One that was cut short or changed counts as refused; those behind it are sent."""
    (tmp_path / "000000000000001-0000.rw").write_bytes(b"IWRW1")
    (tmp_path / "nonsense.rw").write_bytes(b"x")
    with receiving() as receiver:
        refused = opened(receiver.url, tmp_path).export(batch(0))

    assert refused == 2
    assert len(receiver.bodies) == 1
    assert not list(tmp_path.iterdir())


def test_the_queue_keeps_to_its_bounds(tmp_path: Path) -> None:
    """The oldest go when there is too much, or when they are too old, and their samples are counted."""
    queue = Queue(tmp_path, 250, 10_000)
    for second in range(4):
        queue.put(bytes(87), 7, START_MS + 1000 * second, 0)

    assert queue.shorten(START_MS + 3000) == 14
    assert queue.shorten(START_MS + 12_500) == 7
    assert len(queue) == 1


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path) -> None:
    """The agent goes on: the samples are counted, and the error names the folder."""
    folder = tmp_path / "queue"
    with receiving() as receiver:
        exporter = opened(receiver.url, folder)
        folder.rmdir()
        with pytest.raises(ExportRetry, match="cannot be kept"):
            exporter.export(batch(0))
        folder.mkdir()

        assert exporter.export(batch(15)) > 20


def test_a_secret_is_in_no_error(tmp_path: Path) -> None:
    """A token goes over TLS or stays here, as a bearer's or as a user's password."""
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    config = RemoteWriteConfig("http://example.org/api", str(tmp_path), str(secret))
    with pytest.raises(ConfigError, match="in the clear") as caught:
        open_exporter(ExportConfig(remote_write=config), None)  # type: ignore[arg-type]

    assert "s3cret" not in str(caught.value)
    assert headers(config)["Authorization"] == "Bearer s3cret"
    assert headers(msgspec.structs.replace(config, username="u"))["Authorization"] == "Basic dTpzM2NyZXQ="
