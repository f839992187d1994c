"""No child outlives the demo, however the demo ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inferwatt.demo.tree import Child
from inferwatt.errors import Unavailable

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


def started(command: list[str], folder: Path) -> Child:
    """Return a child that says that it is up."""
    child = Child("child", command, folder=folder, environment=os.environ)
    assert child.output.readline() == b"up\n"
    return child


def test_a_child_ends_when_it_is_asked(tmp_path: Path) -> None:
    """SIGTERM is enough for most."""
    child = started(SLEEP, tmp_path)
    child.end(10)

    assert child.process.returncode == -signal.SIGTERM


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    """Nothing is left behind, whatever a child does with its signals."""
    child = started(STUBBORN, tmp_path)
    child.end(0.1)

    assert child.process.returncode == -signal.SIGKILL


def test_a_child_that_ended_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """What it wrote to standard error is the error's place."""
    child = Child("server", ["sh", "-c", "echo out of memory >&2; exit 3"], folder=tmp_path, environment=os.environ)
    child.process.wait(10)

    with pytest.raises(Unavailable, match=r"server ended with status 3(.|\n)*out of memory"):
        child.check()
    child.end(1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Kill -9 of the demo leaves no server behind."""
    script = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from inferwatt.demo.tree import Child\n"
        f"child = Child('c', {STUBBORN!r}, folder=Path(sys.argv[1]), environment=os.environ)\n"
        "child.output.readline()\n"
        "print(child.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    source = str(Path(__file__).resolve().parent.parent.parent / "src")
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source}
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    until = time.monotonic() + 30
    while _runs(pid) and time.monotonic() < until:
        time.sleep(0.01)

    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
