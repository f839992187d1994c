"""The command line: quick help, errors in words, exit statuses that scripts can use."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from inferwatt import recording
from inferwatt.cli import cli
from inferwatt.listing import told_by_plugins
from inferwatt.recording import Meta
from inferwatt.records import Component, Device, Engine, Outcome, Reading, Request
from inferwatt.sources import Found
from inferwatt.testing import ScriptedSource
from tests.serving import serving

SRC = str(Path(__file__).resolve().parent.parent / "src")
HEAVY = {"numpy", "starlette", "uvicorn", "rich", "msgspec", "asyncio"}
SECOND_NS = 1_000_000_000


def inferwatt(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "inferwatt", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": SRC, **environment},
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording of one request on one device."""
    readings = [Reading(t * SECOND_NS // 10, "cpu", counter_uj=t * 1_000_000) for t in range(1, 31)]
    request = Request(
        "r1",
        engine="e0",
        model="m",
        tenant="t",
        arrival_ns=SECOND_NS,
        first_token_ns=SECOND_NS * 3 // 2,
        end_ns=2 * SECOND_NS,
        prompt_tokens=10,
        cached_tokens=0,
        output_tokens=5,
        outcome=Outcome.FINISHED,
    )
    meta = Meta(engines=(Engine("e0", "m", ("cpu",)),), devices=(Device("cpu", component=Component.CPU),))
    recording.write(tmp_path / "r", meta, [*readings, request])
    return tmp_path / "r"


class _Agent(BaseHTTPRequestHandler):
    """Answers as an agent would, and keeps what it was asked."""

    body: ClassVar[bytes] = b""
    status: ClassVar[int] = 200
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def agent() -> Iterator[tuple[type[_Agent], str]]:
    """An agent's address, and what it will answer."""
    handler = type("Handler", (_Agent,), {"asked": []})
    with serving(handler) as url:
        yield handler, url


def test_help_loads_nothing_heavy() -> None:
    """`--help` is quick because it imports click and little else."""
    script = f"import sys, inferwatt.cli; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": SRC},
        check=True,
    )

    assert done.stdout == "[]\n"


def test_every_command_is_described_with_an_example() -> None:
    """Each command has a help text, and shows how it is called."""
    for name, command in cli.commands.items():
        text = CliRunner().invoke(cli, [name, "--help"]).output

        assert command.short_help, name
        assert f"Example: inferwatt {name}" in text, name


def test_a_wrong_configuration_stops_with_status_2_and_no_traceback(tmp_path: Path) -> None:
    """The error says where and what; a script can tell it from other failures."""
    (tmp_path / "inferwatt.toml").write_text("[web]\nlistn = 'x'\n")
    done = inferwatt("config", "--config", str(tmp_path / "inferwatt.toml"))

    assert done.returncode == 2
    assert "web.listn" in done.stderr
    assert "Traceback" not in done.stderr


def test_something_missing_stops_with_status_1(tmp_path: Path) -> None:
    """A folder without a recording is said to be one."""
    done = inferwatt("replay", str(tmp_path))

    assert done.returncode == 1
    assert done.stderr.startswith("inferwatt: no recording here")


def test_a_wrong_option_stops_with_status_2() -> None:
    """As every command line does."""
    assert inferwatt("replay", "--no-such-option").returncode == 2


def test_config_prints_defaults_that_can_be_loaded(tmp_path: Path) -> None:
    """The output of `config --defaults` is a configuration file that changes nothing."""
    file = tmp_path / "inferwatt.toml"
    file.write_text(inferwatt("config", "--defaults").stdout)
    done = inferwatt("config", "--config", str(file))

    assert done.returncode == 0
    assert 'listen = "127.0.0.1:9595"' in done.stdout


def test_a_replay_prints_the_same_each_time(folder: Path) -> None:
    """One JSON line a request, then one a device whose parts are all of it."""
    first, second = (inferwatt("replay", str(folder), "--json").stdout for _ in range(2))
    request, device = (json.loads(line) for line in first.splitlines())

    assert first == second
    assert (request["request"], request["tenant"]) == ("r1", "t")
    assert (device["device"], device["measured_joules"]) == ("cpu", 29.0)


def test_a_replay_is_shown_as_a_table(folder: Path) -> None:
    """Without `--json` the same is for people."""
    done = CliRunner().invoke(cli, ["replay", str(folder), "--rule", "equal"])

    assert done.exit_code == 0
    assert "r1" in done.output
    assert "29.000000" in done.output


def test_a_reader_that_leaves_is_no_error(folder: Path) -> None:
    """`inferwatt replay ... | head -0` says nothing."""
    process = subprocess.Popen(
        [sys.executable, "-m", "inferwatt", "replay", str(folder), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SRC},
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()

        assert process.stderr.read() == b""


def test_ctrl_c_ends_with_status_130(folder: Path) -> None:
    """An interrupted command says nothing but its status."""
    script = (
        "import os, signal, inferwatt.listing as listing\n"
        "listing.print_replay = lambda result: os.kill(os.getpid(), signal.SIGINT)\n"
        "import sys; sys.argv = ['inferwatt', 'replay', sys.argv[1]]\n"
        "from inferwatt.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": SRC},
        check=False,
    )

    assert (done.returncode, done.stderr.strip()) == (128 + signal.SIGINT, "")


def test_requests_come_from_the_running_agent(agent: tuple[type[_Agent], str]) -> None:
    """What is asked for goes to the agent, what it answers is shown as it is."""
    handler, url = agent
    handler.body = json.dumps({"requests": [{"request": "r1", "energy_joules": 1.5}]}).encode()
    done = CliRunner().invoke(cli, ["requests", "--url", url, "--tenant", "a b", "--limit", "3", "--json"])

    assert json.loads(done.output) == {"request": "r1", "energy_joules": 1.5}
    assert handler.asked == ["/v1/requests?limit=3&tenant=a+b"]


def test_what_plugins_have_told_comes_from_the_running_agent(agent: tuple[type[_Agent], str]) -> None:
    """Whatever answers at the agent's address, the listing is printed; an older agent knows nothing of plugins."""
    handler, url = agent
    told = []
    for body in (b'{"engines":[{"server":"s","kind":"vllm","version":"9","tier":"step_exact"}]}', b"{}", b"[[]", b"[]"):
        handler.body = body
        told.append([engine.tier for engine in told_by_plugins(url)[0]])

    assert (told, handler.asked) == ([["step_exact"], [], [], []], ["/v1/snapshot"] * 4)


def test_an_unknown_figure_is_not_shown_as_zero(agent: tuple[type[_Agent], str]) -> None:
    """A request without joules has a dash in the table."""
    handler, url = agent
    handler.body = json.dumps({"requests": [{"request": "r1", "energy_joules": None, "model_name": "m"}]}).encode()
    done = CliRunner().invoke(cli, ["requests", "--url", url])

    assert done.output.split("\n")[1].split() == ["r1", "m", *"--", "-/-/-", *"---", "-,", "-"]


@pytest.mark.parametrize(("status", "body"), [(403, b"no"), (200, b"<html>"), (200, b'{"a": 1}'), (200, b"[[]")])
def test_an_answer_that_is_none_is_an_error_in_words(agent: tuple[type[_Agent], str], status: int, body: bytes) -> None:
    """A refusal, a web page or other JSON at the agent's address ends with a word, not a traceback."""
    handler, url = agent
    handler.status, handler.body = status, body
    done = inferwatt("requests", "--url", url, HOME="/nonexistent", XDG_STATE_HOME="/nonexistent")

    assert done.returncode == 1
    assert done.stderr.startswith("inferwatt: ")
    assert "Traceback" not in done.stderr


def test_without_agent_and_ledger_it_says_what_to_start(tmp_path: Path) -> None:
    """Nothing to read is said with the command that helps."""
    done = inferwatt("requests", "--url", "http://127.0.0.1:9", XDG_STATE_HOME=str(tmp_path))

    assert done.returncode == 1
    assert "start one: inferwatt agent" in done.stderr


def test_sources_names_each_device_with_its_provenance() -> None:
    """On any machine the list comes, in both forms."""
    done = inferwatt("sources", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]

    assert done.returncode == 0
    assert all(row["provenance"] for row in rows if row["record"] == "device")
    assert rows[-1]["record"] == "asked"


def test_sources_follows_the_configuration(tmp_path: Path) -> None:
    """What is configured is asked, at the roots that are configured; nothing there is no error, and no traceback."""
    (tmp_path / "c.toml").write_text(f'[sources]\nsysfs_root = "{tmp_path}"\nproc_root = "{tmp_path}"\n')
    done = inferwatt("sources", "--config", str(tmp_path / "c.toml"), "--measure", "0.1", COLUMNS="80")

    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "no device can be read")
    assert f"({tmp_path}" in done.stdout.replace("\n", "")
    assert done.stderr == "reading every source for 0.1 s\n"


def test_sources_are_closed_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that fails, or Ctrl-C, leaves no device open."""
    cpu = ScriptedSource("cpu", [1])

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("inferwatt.sources.discover_all", lambda _settings: Found((cpu,)))
    monkeypatch.setattr("inferwatt.listing_sources.print_sources", interrupted)

    assert CliRunner().invoke(cli, ["sources"]).exit_code != 0
    assert cpu.closed


def test_sources_shows_what_it_sees_when_it_is_told_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device is read for so long, by the sampler of the agent."""
    cpu = ScriptedSource(Device("cpu", component=Component.CPU), range(0, 10_000_000, 1000))
    monkeypatch.setattr("inferwatt.sources.discover_all", lambda _settings: Found((cpu,)))
    (row, *_) = CliRunner().invoke(cli, ["sources", "--measure", "0.2", "--json"]).stdout.splitlines()

    assert json.loads(row)["seen_readings"] == cpu.reads > 2
    assert cpu.closed
