"""`inferwatt run`: the command always runs, and everything of it passes through."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from inferwatt.run import Report, run

SRC = str(Path(__file__).resolve().parent.parent / "src")


def command_line(
    *arguments: str, environment: dict[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `inferwatt run ARGUMENTS` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "inferwatt", "run", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": SRC, **(environment or {})},
        timeout=60,
        check=False,
    )


def lacks(report: Report) -> str:
    """Return what a report says is missing, as text."""
    return "\n".join(f"{lack.what}: {lack.fix}" for lack in report.lacks)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 128 + 9),
        (["sh", "-c", "kill -TERM $$"], 128 + 15),
        (["inferwatt-no-such-command"], 127),
        (["/dev/null"], 126),
    ],
)
def test_the_exit_status_is_the_commands(command: Sequence[str], status: int) -> None:
    """The status is what a shell would tell: the command's own, 128 + N for signal N, 127 and 126."""
    assert status == run(command, sources=[]).exit_status


def test_standard_streams_pass_through() -> None:
    """The command reads our input and writes our output; the summary goes to standard error alone."""
    done = command_line("--", "sh", "-c", "cat; echo from-the-command >&2", stdin="some input")

    assert done.stdout == "some input"
    assert done.stderr.startswith("from-the-command\ninferwatt: sh -c ")


def test_options_of_the_command_are_its_own() -> None:
    """What follows the command's name is never read as an option of ours, with and without `--`."""
    for separator in ([], ["--"]):
        assert command_line(*separator, "echo", "--json", "--help").stdout == "--json --help\n"


def test_the_command_runs_where_the_meter_cannot_even_be_imported(tmp_path: Path) -> None:
    """A broken import in the meter is a line in the summary, not the end of the command."""
    (tmp_path / "numpy.py").write_text("raise ImportError('broken on purpose')")
    (tmp_path / "msgspec.py").write_text("raise ImportError('broken on purpose')")

    done = command_line("--", "sh", "-c", "echo ran; exit 5", environment={"PYTHONPATH": f"{tmp_path}:{SRC}"})

    assert (done.stdout, done.returncode) == ("ran\n", 5)
    assert "the meter failed: ImportError: broken on purpose" in done.stderr


def test_where_nothing_can_be_measured_it_says_so() -> None:
    """Without a device the summary names what is missing and what to do, and no figure."""
    report = run(["true"], sources=[])

    assert report.devices == []
    assert lacks(report) == "no device of this machine can be read: inferwatt sources"


def test_cpu_time_is_that_of_the_whole_tree() -> None:
    """CPU time of children that ended counts, because the command waited for them."""
    busy = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"

    assert run([sys.executable, "-c", nested], sources=[]).cpu_seconds >= 0.2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_command(number: int) -> None:
    """A signal sent to us reaches the command once; its exit status and the summary still come."""
    script = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "inferwatt", "run", "--", sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SRC},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # whoever runs the tests may ignore it (nohup)
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        summary = process.stderr.read()

        assert process.wait(30) == 42
    assert b"exit status 42" in summary


def test_an_ignored_signal_stays_ignored() -> None:
    """Under nohup, where SIGHUP is ignored, the command ignores it too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        status = run(["sh", "-c", "kill -HUP $$; exit 3"], sources=[]).exit_status
    finally:
        signal.signal(signal.SIGHUP, before)

    assert status == 3


def test_a_summary_that_cannot_be_written_is_said_and_costs_nothing(tmp_path: Path) -> None:
    """The command's status stands, whatever becomes of the file that the summary was to go to."""
    done = command_line("--json", "--output", str(tmp_path / "no" / "folder.json"), "--", "sh", "-c", "exit 9")

    assert done.returncode == 9
    assert "cannot write the summary" in done.stderr
