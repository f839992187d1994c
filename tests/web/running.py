"""A real server on a free port for the tests of the web room, and small clients."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from inferwatt.snapshot import (
    DeviceView,
    Exemplar,
    HistogramValue,
    LiveView,
    RequestView,
    Snapshot,
    TenantView,
)
from inferwatt.web.access import Access, WebConfig, open_access
from inferwatt.web.live import make_app
from inferwatt.web.server import Serving, serve
from inferwatt.web.stream import Seats

TOKEN = "0123456789abcdef0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
OWN = open_access(WebConfig())
"""The tests' own user may see everything, as on a desk."""
STRANGER = Access(token=TOKEN)
"""Nobody may see everything but by the token: what another user of the machine meets."""
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="peers are known on Linux only")
DEVICE = DeviceView("cpu-0", "package", "cpu", "modelled", 0.4, 12.5, 100.0, False)
TENANT = TenantView("acme", "modelled", 10.0, 9.0, 11.0, 0.4, 2, 30, 0.33)
REQUEST = RequestView(
    *("r1", "chatcmpl-1", "m", "s", "acme", 1.8e9, 1.5, 10, 0, 20, 3.0, 1.0, 2.0, 2.5, 3.5, 0.4),
    *("request_span", "modelled", "finished", {}),
)
LIVE = LiveView(1.8e9, 1.7e9, "0.1", "host", (DEVICE,), (), (TENANT,), (REQUEST,), (), ())


def a_snapshot(live: LiveView = LIVE) -> Snapshot:
    """Return a snapshot with a tenant, an exemplar and a live view."""
    histogram = HistogramValue(tuple([1] * 22), 1.0, {0: Exemplar(0.05, 1.0, "chatcmpl-1")})
    return Snapshot(
        {"inferwatt_tenant_energy_joules_total": {("acme", "m", "modelled"): 7}},
        {"inferwatt_request_energy_joules": {("m", "s", "modelled"): histogram}},
        live,
    )


@dataclass
class Meter:
    """What the application shows: set `snapshot` and `health` as a test goes on."""

    snapshot: Snapshot = field(default_factory=a_snapshot)
    health: dict[str, object] = field(default_factory=lambda: {"status": "ok", "version": "0.1", "host": "h"})
    found: list[Mapping[str, Any]] = field(default_factory=lambda: [{"request": "r1"}])
    asked: list[dict[str, object]] = field(default_factory=list)
    hold: threading.Event | None = None

    def find(self, **query: object) -> list[Mapping[str, Any]]:
        """Answer as the ledger would; waits while `hold` is set up and not set."""
        self.asked.append(query)
        if self.hold is not None:
            self.hold.wait(10)
        return self.found

    def show(self, watts: float, padding: int = 0) -> None:
        """Publish another snapshot."""
        device = replace(DEVICE, power_watts=watts, device="d" * (padding or 1))
        self.snapshot = a_snapshot(replace(LIVE, devices=(device,)))


@contextmanager
def running(
    meter: Meter,
    access: Access,
    *,
    static_dir: Path | None = None,
    seats: Seats | None = None,
    period_seconds: float = 0.01,
    listen: str = "127.0.0.1:0",
) -> Iterator[Serving]:
    """Serve `meter` and end it."""
    app = make_app(
        lambda: meter.snapshot,
        find_requests=meter.find,
        health=lambda: meter.health,
        static_dir=static_dir,
        access=access,
        process=lambda: {"process_open_fds": 3},
        seats=seats,
        period_seconds=period_seconds,
    )
    serving = serve(app, listen)
    try:
        yield serving
    finally:
        assert serving.stop(), "the server did not end"


def ask(
    serving: Serving, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> tuple[http.client.HTTPResponse, bytes]:
    """Return one answer and its body."""
    connection = http.client.HTTPConnection(serving.host, serving.port, timeout=10)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


class Reader:
    """One reader of the stream."""

    def __init__(self, serving: Serving, headers: Mapping[str, str] | None = None) -> None:
        self.connection = http.client.HTTPConnection(serving.host, serving.port, timeout=10)
        self.connection.request("GET", "/v1/live", headers=dict(headers or {}))
        self.answer = self.connection.getresponse()

    def data(self) -> bytes:
        """Return the data of the next event; nothing at the end."""
        while (line := self.line()) and not line.startswith(b"data: "):
            pass
        return line.removeprefix(b"data: ")

    def event(self) -> tuple[str, str, dict[str, Any]]:
        """Return the next event as an EventSource has it: its name, its id and its data."""
        fields: dict[str, str] = {}
        while not (line := self.answer.readline().decode()).startswith(("event:", "id:", "data:")):
            assert line, "the stream ended"
        while line.strip():
            name, _, value = line.partition(": ")
            fields[name] = value.removesuffix("\n")
            line = self.answer.readline().decode()
        return fields["event"], fields["id"], json.loads(fields["data"])

    def line(self) -> bytes:
        """Return the next line that is not empty; nothing at the end."""
        while (line := self.answer.readline()) and not line.strip():
            pass
        return line.strip()

    def close(self) -> None:
        """Leave."""
        self.answer.close()
        self.connection.close()


def raw(serving: Serving, sent: bytes) -> bytes:
    """Send bytes as they are and return what comes back until the server closes, at most 64 kB."""
    with socket.create_connection((serving.host, serving.port), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        while len(received) < 65536:
            try:
                chunk = connection.recv(65536)
            except ConnectionResetError:
                break
            if not chunk:
                break
            received += chunk
        return received
