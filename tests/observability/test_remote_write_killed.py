"""Remote write over deaths: a real Prometheus killed for a minute, a real agent killed while a write is on its way."""

import signal
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inferwatt.export.exporter import About, Batch, ExportRetry
from inferwatt.export.remote_write import open_exporter
from inferwatt.export.settings import ExportConfig, RemoteWriteConfig
from tests.export.figures import ENERGY as LABELS
from tests.export.figures import snapshot
from tests.real.conftest import free_port
from tests.real.pages import samples, total, wait_for
from tests.real.prometheus import Prometheus

from .fed_agent import FedAgent
from .test_remote_write import prometheus, victoria

pytest.importorskip("cramjam", reason="it comes with make test-observability")

MINUTE_SECONDS = 60
ENERGY = "inferwatt_energy_joules_total"
DEVICE = "inferwatt_device_energy_joules_total"
JOULES = 14_500_000_000
"""A counter this high still steps by single joules."""


def test_a_prometheus_killed_for_a_minute_misses_nothing(tmp_path: Path) -> None:
    """Of two minutes by the second, one of them without it, every sample is there once, to the joule."""
    port = free_port()
    url, queue = f"http://127.0.0.1:{port}/api/v1/write", tmp_path / "queue"
    config = RemoteWriteConfig(url=url, queue_dir=str(queue), instance="here", timeout_seconds=30)
    exporter = open_exporter(ExportConfig(remote_write=config), About("here", "0", 0))
    assert exporter is not None
    first_ms = int((time.time() - 2 * MINUTE_SECONDS) * 1000)
    written: dict[float, float] = {}

    def write(second: int) -> int | None:
        joules, unix_ms = JOULES + second, first_ms + 1000 * second
        written[unix_ms / 1000] = joules
        try:
            return exporter.export(Batch(unix_ms * 10**6, snapshot(joules * 10**6)))
        except ExportRetry:
            return None

    with prometheus(tmp_path, port, ended=signal.SIGKILL):
        before = [write(second) for second in range(30)]
    during = [write(second) for second in range(30, 30 + MINUTE_SECONDS)]
    waiting = len(list(queue.iterdir()))
    with prometheus(tmp_path, port) as url:
        wait_for("it is sent again", lambda: write(len(written)) is not None)
        after = [write(len(written)) for _ in range(10)]
        (_, points), *others = Prometheus(url).points(f'{ENERGY}{{model_name="{LABELS[0]}"}}[1h]')

    assert before + after == [0] * 40
    assert during == [None] * MINUTE_SECONDS
    assert waiting == MINUTE_SECONDS
    assert dict(points) == written
    assert len(points) == len(written)
    assert others == []
    assert list(queue.iterdir()) == []


class Relay:
    """What stands between an agent and receivers: it passes writes on, refuses them, or keeps the answer to itself."""

    def __init__(self, *urls: str) -> None:
        self.answer = "pass"
        self.kept = threading.Event()
        self._ended = threading.Event()
        relay = self

        class Handler(BaseHTTPRequestHandler):
            """One write."""

            def do_POST(self) -> None:
                """Pass it on, or not."""
                body = self.rfile.read(int(self.headers["content-length"]))
                status = 503
                if relay.answer != "refuse":
                    status = max(passed_on(url + self.path, body, dict(self.headers)) for url in urls)
                if relay.answer == "keep":
                    relay.kept.set()
                    relay._ended.wait(60)
                    return
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def passed_on(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Send a write to whom it is for; return the answer's status."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as answer:
        with answer:
            return int(answer.code)


def test_an_agent_killed_in_mid_write_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """What waited at kill -9, and what was stored without an answer, is there once, and the sums are the ledger's."""
    queue = tmp_path / "queue"
    with prometheus(tmp_path, free_port()) as ours, victoria(tmp_path, 0) as theirs, ExitStack() as ending:
        databases, relay = [Prometheus(ours), Prometheus(theirs)], Relay(ours, theirs)
        ending.callback(relay.close)
        section = f'[export.remote_write]\nurl = "{relay.url}/api/v1/write"\nqueue_dir = "{queue}"\n'
        fed = FedAgent(tmp_path, f"{section}period_seconds = 0.2\ntimeout_seconds = 30\n")
        ending.callback(fed.close)
        for database in databases:
            database.wait(f"{DEVICE} > 0")
        waiting = killed_in_mid_write(fed, relay, queue)
        fed.start()
        wait_for("what waited is there", lambda: all(waiting <= dict(course(each)).keys() for each in databases))
        with fed.quiet():
            wait_for(
                "the ledger's sums",
                lambda: stored_energy(databases) == pytest.approx([kept_energy(fed)] * 2, rel=1e-11),
            )
        refused = total(samples(fed.agent.url), "inferwatt_export_dropped_total")
        courses = [course(database) for database in databases]

    assert refused == 0
    assert len(waiting) > 3
    for points in courses:
        assert len(dict(points)) == len(set(points)), "no moment has two values"
        assert [value for _, value in points] == sorted(value for _, value in points)
    assert len(courses[0]) == len(dict(courses[0])), "VictoriaMetrics keeps equal points twice, and sums nothing twice"


def killed_in_mid_write(fed: FedAgent, relay: Relay, queue: Path) -> set[float]:
    """Let several writes wait, let one be stored without an answer, and kill; return the moments of all of them."""
    waiting: set[float] = set()

    def several() -> bool:
        waiting.update(moments(queue))
        return len(waiting) > 3

    relay.answer = "refuse"
    wait_for("several wait", several)
    relay.answer = "keep"
    assert relay.kept.wait(60)
    waiting.update(moments(queue))
    fed.kill()
    relay.answer = "pass"
    return waiting


def moments(queue: Path) -> set[float]:
    """Return of when the writes are that wait, in Unix seconds."""
    return {int(path.name.partition("-")[0]) / 1000 for path in queue.glob("*.rw")}


def course(database: Prometheus) -> list[tuple[float, float]]:
    """Return the stored points of the device's counter."""
    ((_, points),) = database.points(f"{DEVICE}[5m]")
    return points


def stored_energy(databases: list[Prometheus]) -> list[float]:
    """Return the sum over all phases, in each."""
    return [database.value(f"sum({ENERGY})") for database in databases]


def kept_energy(fed: FedAgent) -> float:
    """Return the same of the ledger."""
    return sum(value for (name, _), value in fed.kept().items() if name == ENERGY)
