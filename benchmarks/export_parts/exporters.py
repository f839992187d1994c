"""What each exporter of the entry point costs: a batch, a request, and memory while its endpoint is dead.

The thread's own CPU time is taken: what receives runs in other threads. An outage of ten minutes is the real queue,
back-off and exporter on a clock that is put forward by each pause.
"""

import dataclasses
import gc
import os
import socket
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

import msgspec

from inferwatt.errors import InferwattError
from inferwatt.export.exporter import About, Batch, Exporter
from inferwatt.export.exporters import GROUP
from inferwatt.export.outlet import Outlet
from inferwatt.export.remote_write_wire import samples
from inferwatt.export.settings import DatadogConfig, ExportConfig, OtlpConfig, TextfileConfig
from inferwatt.ledger.rows import RequestRow
from inferwatt.records import Component, EnergyPart, Outcome, Provenance, Request, RequestEnergy, Tier
from inferwatt.snapshot import Snapshot

ROUNDS: Final = 8
REQUESTS: Final = 1000
DEAD_SECONDS: Final = 600
REQUESTS_A_SECOND: Final = 100
ABOUT: Final = About("bench", "0", 0)
START_NS: Final = 1_800_000_000_000_000_000
MakeSnapshot = Callable[[int], Snapshot]


def measure(snapshot: MakeSnapshot) -> dict[str, dict[str, object]]:
    """Return the figures of each exporter that is registered, by its name; a way that cannot be opened says why."""
    found: dict[str, dict[str, object]] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        opener = entry.load()
        for name, ways in ways_of(entry.name).items():
            try:
                found[name] = of_one(lambda where, o=opener, w=ways: o(w(where), ABOUT), snapshot)  # type: ignore[misc]
            except (InferwattError, ImportError) as exc:
                found[name] = {"not_measured": str(exc).partition("\n")[0]}
    return found


@dataclasses.dataclass(frozen=True)
class Where:
    """Where exporters send to: an HTTP server, one of gRPC, a datagram socket, a folder."""

    url: str
    grpc_url: str
    unix: str
    folder: Path


def ways_of(name: str) -> Mapping[str, Callable[[Where], ExportConfig]]:
    """Return how an exporter is configured for each of its ways; what is not known here by its `url` or the like."""
    os.environ.setdefault("DD_API_KEY", "0" * 32)
    known: dict[str, Mapping[str, Callable[[Where], ExportConfig]]] = {
        "textfile": {"textfile": lambda where: ExportConfig(textfile=TextfileConfig(str(where.folder / "page.prom")))},
        "datadog": {
            "datadog_dogstatsd": lambda where: ExportConfig(datadog=DatadogConfig(f"unixgram://{where.unix}")),
            "datadog_api": lambda where: ExportConfig(datadog=DatadogConfig(api_url=where.url)),
        },
        "otlp": {
            "otlp_http": lambda where: ExportConfig(otlp=OtlpConfig(where.url)),
            "otlp_http_delta": lambda where: ExportConfig(otlp=OtlpConfig(where.url, temporality="delta")),
            "otlp_grpc": lambda where: ExportConfig(otlp=OtlpConfig(where.grpc_url, "grpc")),
        },
    }
    return known.get(name) or {name: lambda where: by_address(name, where)}


def by_address(name: str, where: Where) -> ExportConfig:
    """Return a configuration in which every address of the exporter's own section is the server's.

    Raises:
        ImportError: it has no section with an address.
    """
    section = getattr(ExportConfig(), name.replace("-", "_"), None)
    if section is None:
        raise ImportError(f"the bench does not know how {name} is configured")
    fields = {each.encode_name for each in msgspec.structs.fields(type(section))}
    addresses = {each: where.url for each in fields if each.endswith(("url", "endpoint"))}
    folders = {each: str(where.folder) for each in fields if each.endswith(("dir", "folder"))}
    if not addresses:
        raise ImportError(f"the bench does not know where {name} sends to")
    changed = msgspec.structs.replace(section, **addresses, **folders)
    return msgspec.structs.replace(ExportConfig(), **{name.replace("-", "_"): changed})


def of_one(opened: Callable[[Where], Exporter | None], snapshot: MakeSnapshot) -> dict[str, object]:
    """Return what one exporter costs."""
    with listening() as where:
        exporter = opened(where)
        assert exporter is not None
        batch_ms = cpu_ms(exporter, snapshot, ())
        request_us = None
        if exporter.wants_requests:
            with_requests_ms = cpu_ms(exporter, snapshot, rows(0, REQUESTS), first=ROUNDS + 1)
            request_us = round(max(with_requests_ms - batch_ms, 0.0) * 1000 / REQUESTS, 1)
        exporter.close()
    with tempfile.TemporaryDirectory() as folder:
        nobody = f"http://127.0.0.1:{closed_port()}"
        dead = opened(Where(nobody, nobody, f"{folder}/none.socket", Path(folder) / "none"))
        assert dead is not None
        dead_mb, attempts = memory_of_an_outage(dead, snapshot)
        disk_mb = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
        dead.close()
    series = sum(1 for _ in samples(snapshot(0), {}, ("", "")))
    return {
        "batch_cpu_ms": round(batch_ms, 1),
        "series_cpu_us": round(batch_ms * 1000 / series, 2),
        "request_cpu_us": request_us,
        "dead_10_min_mb": round(dead_mb, 1),
        "dead_10_min_disk_mb": round(disk_mb, 1),
        "dead_10_min_attempts": attempts,
    }


def cpu_ms(exporter: Exporter, snapshot: MakeSnapshot, requests: Sequence[RequestRow], first: int = 0) -> float:
    """Return the median CPU time of a batch, its first left out."""
    times = []
    for round_ in range(first, first + ROUNDS + 1):
        batch = Batch(
            START_NS + round_ * 10 * 10**9, snapshot(round_), [dataclasses.replace(each) for each in requests]
        )
        start = time.thread_time()
        exporter.export(batch)
        times.append((time.thread_time() - start) * 1000)
    return median(times[1:])


class OnClock:
    """An exporter whose batches have the time of a clock that is put forward."""

    def __init__(self, exporter: Exporter) -> None:
        self.exporter = exporter
        self.name, self.period_seconds = exporter.name, exporter.period_seconds
        self.wants_requests = exporter.wants_requests
        self.seconds = 0.0
        self.attempts = 0

    def export(self, batch: Batch) -> int:
        """Send it, as of now."""
        self.attempts += 1
        return self.exporter.export(dataclasses.replace(batch, unix_ns=START_NS + int(self.seconds * 1e9)))

    def close(self) -> None:
        """Close it."""
        self.exporter.close()


def memory_of_an_outage(exporter: Exporter, snapshot: MakeSnapshot) -> tuple[float, int]:
    """Return the MB that are held after ten minutes of a dead endpoint, and how often it was tried."""
    clock = OnClock(exporter)
    turn = iter(range(10**6))
    outlet = Outlet(clock, lambda: snapshot(next(turn)), Random(1))
    snapshot(0)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    ended = 0
    while clock.seconds < DEAD_SECONDS:
        pause_seconds = outlet._once()
        clock.seconds += max(pause_seconds, 0.1)
        due = int(clock.seconds * REQUESTS_A_SECOND)
        outlet.offer(rows(ended, due))
        ended = due
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / 1e6, clock.attempts


def rows(first: int, last: int) -> list[RequestRow]:
    """Return ended requests."""
    found = []
    for number in range(first, last):
        part = EnergyPart(Component.ACCELERATOR, Provenance.MEASURED, 10**6, 2 * 10**6, 3 * 10**6, 3 * 10**6, 0.05)
        request = Request(f"r{number}", model=f"model-{number % 200}", output_tokens=100, outcome=Outcome.FINISHED)
        energy = RequestEnergy(request.request, (part,), Tier.STEP_EXACT, final=True)
        found.append(RequestRow(request, energy, "server", START_NS))
    return found


@contextmanager
def listening() -> Iterator[Where]:
    """Take whatever is sent, in threads of their own."""

    class Handler(BaseHTTPRequestHandler):
        """Takes everything."""

        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Read it, and say that it was taken."""
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(200)
            self.send_header("X-Prometheus-Remote-Write-Samples-Written", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    calls, grpc_url = answering()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"{folder}/dsd.socket")
        threading.Thread(target=drain, args=(receiver,), daemon=True).start()
        try:
            yield Where(f"http://127.0.0.1:{server.server_port}", grpc_url, f"{folder}/dsd.socket", Path(folder))
        finally:
            server.shutdown()
            server.server_close()
            if calls is not None:
                calls.stop(None)


def answering() -> tuple[Any, str]:
    """Return a gRPC server that takes every call, and where it is; None where its library is not installed."""
    try:
        import grpc
    except ImportError:
        return None, ""

    class Takes(grpc.GenericRpcHandler):  # type: ignore[misc]
        """Every method."""

        def service(self, _: object) -> Any:  # noqa: ANN401 - grpc's
            """Read it, and say that it was taken."""
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Takes()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"http://127.0.0.1:{port}"


def drain(receiver: socket.socket) -> None:
    """Read until the socket is closed."""
    try:
        while True:
            receiver.recv(65536)
    except OSError:
        return


def closed_port() -> int:
    """Return a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
