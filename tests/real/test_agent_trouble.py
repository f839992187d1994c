"""The real agent with a disk that is full and servers that talk nonsense: it says so, and goes on."""

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.real.children import AgentProcess, Client
from tests.real.conftest import LlamaCpp
from tests.real.ledgers import assert_conserved, booked
from tests.real.pages import fallen, get_json, samples, total, wait_for
from tests.serving import serving

pytestmark = pytest.mark.real

DEVICE_JOULES = "inferwatt_device_energy_joules_total"
HTML = b"<!doctype html><html><body><h1>It works!</h1></body></html>"
GARBAGE = random.Random(1).randbytes(100_000)


class Nonsense(BaseHTTPRequestHandler):
    """Answers every path of its server with what is no metrics page, and says 200."""

    body = HTML

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class Garbage(Nonsense):
    """Answers with noise."""

    body = GARBAGE


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of one megabyte, which only root can."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_servers_that_talk_nonsense_are_counted(llamacpp_server: LlamaCpp, tmp_path: Path) -> None:
    """HTML or noise in place of metrics is a counted failure of that server; the others are metered as ever."""
    config = tmp_path / "inferwatt.toml"
    with serving(Nonsense) as html, serving(Garbage) as garbage:
        named = {"html": html, "noise": garbage}.items()
        config.write_text("".join(f'[[engines.server]]\nname = "{name}"\nurl = "{url}"\n' for name, url in named))
        with AgentProcess(tmp_path, "--config", str(config)) as agent:
            agent.wait_for_server(llamacpp_server.url)
            wait_for("failures of both", lambda: min(failures(agent, name) for name in ("html", "noise")) >= 2)
            with Client(agent, llamacpp_server.url, 1) as client:
                assert client.wait() == 0
            states = {server["name"]: server["state"] for server in agent.health()["servers"]}
            page = samples(agent.url)
            assert agent.end() == 0

    assert {states[name] for name in ("html", "noise")} <= {"unreadable", "unseen"}
    assert len(client.finals()) == 1
    assert [total(page, "inferwatt_output_tokens_total", server=name) for name in ("html", "noise")] == [0, 0]
    assert "Traceback" not in agent.err.read_text()


def test_a_full_disk_hurts_the_ledger_alone(llamacpp_server: LlamaCpp, tmp_path: Path) -> None:
    """Without space the metrics go on, page and /healthz say what is wrong, and with space again nothing is lost."""
    with small_disk(tmp_path / "state") as disk, AgentProcess(tmp_path) as agent:
        agent.wait_for_server(llamacpp_server.url)
        with Client(agent, llamacpp_server.url) as client:
            client.wait_for_answers(1)
            fill(disk / "filler")
            wait_for("the trouble", lambda: "the ledger cannot be written" in agent.health()["trouble"])
            before = samples(agent.url)
            wait_for("more joules", lambda: device_joules(agent) > total(before, DEVICE_JOULES))
            health, lacks = agent.health(), get_json(f"{agent.url}/v1/snapshot")["lacks"]
            (disk / "filler").unlink()
            wait_for("no trouble any more", lambda: agent.health()["status"] == "ok")
            client.wait_for_answers(1)
            client.finish()
        after = samples(agent.url)
        assert agent.end() == 0
        every = booked(agent.ledger)
        assert_conserved(agent.ledger)

    assert health["status"] == "degraded"
    assert any("ledger" in lack["what"] and "free disk space" in lack["fix"] for lack in lacks)
    assert fallen(before, after) == {}
    assert total(after, "inferwatt_ledger_errors_total") > 0
    assert total(after, "inferwatt_ledger_pending_rows") == 0
    assert client.lines("ended").keys() == every.keys()
    assert client.finals().items() <= every.items()


def failures(agent: AgentProcess, server: str) -> float:
    """Return how often a server's page could not be read."""
    return total(samples(agent.url), "inferwatt_scrape_failures_total", server=server)


def device_joules(agent: AgentProcess) -> float:
    """Return what all devices used."""
    return total(samples(agent.url), DEVICE_JOULES)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            return
