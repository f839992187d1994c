"""`inferwatt simulate`: recordings with truth, and a simulated server before a live agent."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from inferwatt import simulating
from inferwatt.cli import cli
from inferwatt.outbox import Outbox
from inferwatt.simulate.loads import LOADS
from inferwatt.simulate.sequence import SECOND_NS
from inferwatt.simulate.stream import Stream
from inferwatt.simulate.world import World
from inferwatt.simulating_live import Told
from inferwatt.wire import Decoder, request_from_wire
from inferwatt.wire_steps import steps_from_wire
from tests.docs.documents import DOCS, blocks

PATIENCE_SECONDS = 60.0


def test_the_loads_that_are_offered_are_those_there_are() -> None:
    """The command's names are the table's."""
    assert set(simulating.LOADS) == set(LOADS)


def test_a_recording_is_written_with_its_truth_and_replayed(tmp_path: Path) -> None:
    """The real commands: what replay says is near the truth, request by request, and every joule is simulated."""
    folder = tmp_path / "run"
    wrote = CliRunner().invoke(cli, ["simulate", "--load", "chat", "--seconds", "8", "--out", str(folder)])
    replayed = CliRunner().invoke(cli, ["replay", str(folder), "--json"])
    truth = json.loads((folder / "truth.json").read_text())
    rows = [json.loads(line) for line in replayed.output.splitlines()]
    requests = {row["request"]: row for row in rows if "request" in row}

    assert wrote.exit_code == replayed.exit_code == 0, wrote.output
    assert requests.keys() == truth.keys()
    misplaced = sum(abs(requests[name]["energy_joules"] - true["energy_joules"]) for name, true in truth.items())
    assert misplaced / 2 < 0.05 * sum(true["energy_joules"] for true in truth.values())
    assert {row["provenance"] for row in rows} == {"simulated"}


def test_equal_seeds_write_equal_recordings(tmp_path: Path) -> None:
    """To the byte; another seed is another recording."""
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        CliRunner().invoke(cli, ["simulate", "--seconds", "3", "--seed", seed, "--out", str(tmp_path / name)])

    first, second, third = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b", "c")
    )
    assert first == second
    assert first["steps.jsonl"] != third["steps.jsonl"]


def test_a_recording_is_not_written_over(tmp_path: Path) -> None:
    """A folder that holds one is refused."""
    (tmp_path / "meta.json").write_text("{}")

    refused = CliRunner().invoke(cli, ["simulate", "--out", str(tmp_path)])

    assert refused.exit_code != 0
    assert "there is a recording here already" in str(refused.exception)


def test_where_it_goes_must_be_said() -> None:
    """Without a folder and without --live there is nothing to do."""
    refused = CliRunner().invoke(cli, ["simulate"])

    assert refused.exit_code == 2
    assert "--out FOLDER" in refused.output


def test_what_is_told_on_the_socket_is_the_stream() -> None:
    """Steps and requests arrive as they happened, each request first open and then ended."""
    stream, told, outbox = Stream(World(LOADS["tenants"]), 0), Told("sim-8b"), Outbox()
    steps, ended = [], []
    for now_ns in range(0, 20 * SECOND_NS, SECOND_NS // 10):
        happened = stream.look(now_ns)
        steps += happened.steps
        ended += happened.ended
        told.add(happened)
        told.collect(outbox)
    messages = []
    while (frame := outbox.next_frame()) is not None:
        messages += [message for message in Decoder().feed(frame) if isinstance(message, dict)]
    records = [
        request_from_wire(row) for message in messages if message["t"] == "records" for row in message["records"]
    ]
    arrived = [step for message in messages if message["t"] == "steps" for step in steps_from_wire(message, "p")]

    assert [(step.t0_ns, step.t1_ns, len(step.members)) for step in arrived] == [
        (step.t0_ns, step.t1_ns, len(step.members)) for step in steps
    ]
    assert arrived[-1].members == tuple((f"p:{name}", *rest) for name, *rest in steps[-1].members)
    assert sum(record.end_ns is not None for record in records) == len(ended) > 20
    assert {record.tenant for record in records} == {"chatty", "reader"}


def test_the_example_in_the_documents_runs() -> None:
    """What docs/simulate.md shows of the library prints the truth of a request and the active energy."""
    example = next(text for text in blocks(DOCS / "simulate.md", "python"))
    run = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    one, active = map(float, run.stdout.split())

    assert 0 < one < active


@contextmanager
def simulated(port: int) -> Iterator["subprocess.Popen[str]"]:
    """Run `inferwatt simulate --live` with its page at a port, and end it."""
    command = [sys.executable, "-m", "inferwatt", "simulate", "--live", "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def page(port: int) -> str:
    """Return the metrics page, empty while there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return ""
    return text


@pytest.mark.skipif(sys.platform != "linux", reason="the agent's socket and its view of processes are Linux's")
def test_a_simulated_server_is_metered_live() -> None:
    """One command: an agent shows requests of both tenants with their joules, all of them simulated."""
    port = free_port()
    with simulated(port) as process:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "inferwatt_request_energy_joules_count" not in (text := page(port)):
            assert process.poll() is None
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
    joules = [line for line in text.splitlines() if "joules" in line and not line.startswith("#") and "{" in line]

    assert 'tenant="chatty"' in text
    assert 'model_name="sim-8b"' in text
    assert [line for line in joules if "provenance=" in line and 'provenance="simulated"' not in line] == []
    assert process.returncode == 0
