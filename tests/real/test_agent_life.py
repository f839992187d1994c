"""The real agent as a process beside the real llama.cpp server: killed, refused, fed junk, and restarted."""

import http.client
import json
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from inferwatt.records import Provenance
from tests.real.children import AgentProcess, Client, Command
from tests.real.conftest import LlamaCpp, LlamaCppProcess, free_port
from tests.real.ledgers import assert_conserved, booked
from tests.real.pages import Samples, fallen, samples, total, wait_for

pytestmark = pytest.mark.real

JUNK_BYTES = 10_000_000
STOP_SECONDS = 3.0
"""An agent ends within two; one more for the process around it on a busy machine."""
BUSY_LOOP = """
import json, time, inferwatt

with inferwatt.meter() as meter:
    until = time.process_time() + 1.0
    while time.process_time() < until:
        pass
e = meter.energy()
print(json.dumps([e.own_joules, e.low_uj, e.own_uj, e.high_uj, e.provenance, e.systematic_ratio]))
"""


@pytest.fixture(scope="module")
def agent(llamacpp_server: LlamaCpp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """Return an agent without configuration that has found the server; tests here leave it as it was."""
    with AgentProcess(tmp_path_factory.mktemp("agent")) as running:
        running.wait_for_server(llamacpp_server.url)
        yield running
        assert running.end(timeout_seconds=STOP_SECONDS) == 0, running.err.read_text()


def test_it_finds_the_server_and_says_so_in_ten_lines(agent: AgentProcess, llamacpp_server: LlamaCpp) -> None:
    """Without configuration the agent names devices, server and what it lacks, each lack with a command."""
    lines = agent.err.read_text().splitlines()

    assert len(lines) <= 10
    assert llamacpp_server.url in next(line for line in lines if line.startswith("servers: "))
    assert all(" -> " in line for line in lines if line.startswith("lacks: "))


def test_records_and_the_servers_page_count_the_same_tokens(agent: AgentProcess, llamacpp_server: LlamaCpp) -> None:
    """What a client told, what the agent counts and what the server counts agree to the token, all kinds."""
    server = {"server": f"llamacpp:{llamacpp_server.url.rpartition(':')[2]}"}

    def counted() -> tuple[float, ...]:
        page = samples(agent.url)
        prompt = [total(page, "inferwatt_prompt_tokens_total", cache=kind, **server) for kind in ("none", "read")]
        return (*prompt, total(page, "inferwatt_output_tokens_total", **server))

    def told_by_server() -> tuple[float, ...]:
        page = samples(llamacpp_server.url)
        names = ("prompt_tokens_total", "prompt_tokens_cached_total", "tokens_predicted_total")
        return tuple(total(page, f"llamacpp:{name}") for name in names)

    counted_before, told_before = counted(), told_by_server()
    with Client(agent, llamacpp_server.url, 4) as client:
        assert client.wait() == 0
        ended, finals = client.lines("ended").values(), client.finals()
    prompt, cached, output = (sum(line[kind] for line in ended) for kind in ("prompt", "cached", "output"))
    told = tuple(now - then for now, then in zip(told_by_server(), told_before, strict=True))

    assert len(finals) == 4
    assert told == (prompt - cached, cached, output)
    assert tuple(now - then for now, then in zip(counted(), counted_before, strict=True)) == told
    assert total(samples(agent.url), "inferwatt_token_disagreement_tokens", **server) == 0


def test_a_second_agent_is_refused(agent: AgentProcess, tmp_path: Path) -> None:
    """The ledger, the socket and the port belong to one agent: another one says whose fault it is, and exits with 1."""
    state, listen, path = str(agent.home / "state"), agent.url.removeprefix("http://"), str(agent.home / "agent.sock")
    own = {"--state-dir": str(tmp_path), "--listen": f"127.0.0.1:{free_port()}", "--socket": str(tmp_path / "a.sock")}
    said = {}
    for flag, theirs in (("--state-dir", state), ("--socket", path), ("--listen", listen)):
        with Command(tmp_path, "agent", *(word for pair in {**own, flag: theirs}.items() for word in pair)) as second:
            said[flag] = (second.wait(), second.err.read_text())

    assert {flag: status for flag, (status, _) in said.items()} == dict.fromkeys(said, 1)
    assert "another agent is using this ledger" in said["--state-dir"][1]
    assert "another agent" in said["--socket"][1]
    assert f"port {listen.rpartition(':')[2]} is taken" in said["--listen"][1]
    assert all("\n  fix:" in words and "Traceback" not in words for _, words in said.values())
    assert agent.health()["status"] == "ok"


def test_a_wrong_key_is_named_with_its_place_and_its_neighbour(tmp_path: Path) -> None:
    """A configuration with a wrong key stops the start with status 2: file, line, key, and the key that was meant."""
    config = tmp_path / "meter.toml"
    config.write_text("[sampling]\nidle_hz = 5\nactive_hzz = 20\n")
    with Command(tmp_path, "agent", "--config", str(config)) as refused:
        status = refused.wait()
        said = refused.err.read_text()

    assert status == 2
    assert all(words in said for words in ("meter.toml line 3", "sampling.active_hzz", "Did you mean active_hz?"))


def test_junk_on_the_socket_is_counted_and_hurts_nobody(agent: AgentProcess, llamacpp_server: LlamaCpp) -> None:
    """Ten megabytes of noise end their own connection; the next client is metered as ever."""
    noise = random.Random(1).randbytes(JUNK_BYTES)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.settimeout(30)
        stranger.connect(agent.environment["INFERWATT_SOCKET"])
        with suppress(BrokenPipeError, ConnectionResetError):
            stranger.sendall(noise)
    dropped = wait_for("junk counted", lambda: total(samples(agent.url), "inferwatt_records_dropped_total"))
    with Client(agent, llamacpp_server.url, 1) as client:
        assert client.wait() == 0

    assert dropped >= 1
    assert len(client.finals()) == 1


def test_it_ends_while_somebody_watches(tmp_path: Path) -> None:
    """SIGTERM ends the agent within two seconds also with an open live stream, which ends with it."""
    with AgentProcess(tmp_path) as agent:
        watcher = http.client.HTTPConnection(agent.url.removeprefix("http://"), timeout=10)
        watcher.request("GET", "/v1/live")
        stream = watcher.getresponse()
        assert stream.readline() == b"event: window\n"
        status = agent.end(timeout_seconds=STOP_SECONDS)
        with suppress(ConnectionResetError, http.client.IncompleteRead):
            while stream.readline():
                pass
        watcher.close()

    assert status == 0
    assert "Traceback" not in agent.err.read_text()


def test_a_killed_agent_keeps_what_it_acknowledged(llamacpp_server: LlamaCpp, tmp_path: Path) -> None:
    """After kill -9 under load the ledger has what was told as final; the next agent goes on, and nothing is lost."""
    with AgentProcess(tmp_path) as first:
        first.wait_for_server(llamacpp_server.url)
        with Client(first, llamacpp_server.url) as client:
            client.wait_for_answers(2)
            before = samples(first.url)
            first.end(signal.SIGKILL)
            told = client.finals()
            kept = booked(first.ledger)
            with AgentProcess(tmp_path) as second:
                after = samples(second.url)
                client.wait_for_answers(2)
                client.finish()
                later = samples(second.url)
                assert second.end(timeout_seconds=STOP_SECONDS) == 0
    every = booked(first.ledger)
    learnt = json.loads((second.ledger.parent / "fits.json").read_bytes())["fits"]

    assert told.items() <= kept.items()
    assert all(fit["energy"] for fit in learnt), "what it learnt is where the next one begins"
    assert fallen(before, after) == {}
    assert fallen(after, later) == {}
    assert client.finals().items() <= every.items()
    assert client.lines("ended").keys() == every.keys()
    assert_conserved(first.ledger)


def test_a_restarted_server_is_met_again(tmp_path: Path) -> None:
    """A server that is killed under load and comes back is metered on: no counter falls, no answer's token is lost."""
    port = free_port()
    pages: list[Samples] = []
    with ExitStack() as running:
        with LlamaCppProcess(port=port) as server:
            agent = running.enter_context(AgentProcess(tmp_path))
            agent.wait_for_server(server.url)
            client = running.enter_context(Client(agent, server.url))
            client.wait_for_answers(2)
            pages.append(samples(agent.url))
        wait_for("the agent misses the server", lambda: server.url not in agent.servers_up())
        pages.append(samples(agent.url))
        with LlamaCppProcess(port=port):
            wait_for("the agent meets the server again", lambda: server.url in agent.servers_up())
            client.wait_for_answers(2)
            client.finish()
            pages.append(samples(agent.url))
            assert agent.end(timeout_seconds=STOP_SECONDS) == 0
    answered = sum(line.get("output", 0) for line in client.lines("ended").values())

    assert [fallen(before, after) for before, after in pairwise(pages)] == [{}, {}]
    assert [key for key, value in pages[-1].items() if value < 0] == []
    assert total(pages[-1], "inferwatt_output_tokens_total", server=f"llamacpp:{port}") == answered
    assert client.finals().items() <= booked(agent.ledger).items()
    assert_conserved(agent.ledger)


def test_a_process_can_meter_itself() -> None:
    """`inferwatt.meter()` gives a busy loop its joules with provenance and bounds, without any agent."""
    said = subprocess.run([sys.executable, "-c", BUSY_LOOP], capture_output=True, text=True, check=True)
    own_joules, low_uj, own_uj, high_uj, provenance, systematic_ratio = json.loads(said.stdout)

    assert own_joules > 0
    assert low_uj < own_uj < high_uj
    assert provenance in {Provenance.MEASURED, Provenance.MODELLED}
    assert 0 < systematic_ratio < 1
    assert said.stderr == ""
