"""Real processes in real PID namespaces and control groups, as a container runtime would put them there (root)."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inferwatt.engines.cgroups import Home
from inferwatt.engines.processes import here, home, namespace, numbers
from tests.engines.ends import eventually
from tests.real.conftest import missing

pytestmark = pytest.mark.real

GROUPS = Path("/sys/fs/cgroup")
UID = "2c48913c-b29f-11e7-9350-020968147796"
CONTAINER = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961"
WAITS = "import sys; print(flush=True); sys.stdin.read()"

AGENT = """
import sys, threading
from inferwatt.clock import SystemClock
from inferwatt.engines.inbox import Inbox

heard = threading.Event()

def emit(item):
    print(item.pid, flush=True)
    heard.set()

inbox = Inbox(sys.argv[1], emit, clock=SystemClock(), allow=lambda peer: True)
inbox.start()
print("listening", flush=True)
heard.wait(60)
inbox.close()
"""
"""The agent's inbox in a PID namespace of its own, with the host's /proc: a container without the host's numbers."""

PLUGIN = """
import os, socket, sys
from inferwatt.link import Link
from inferwatt.outbox import Outbox

connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
Link(connection, "ab" * 16, kind="vllm", about={"role": "engine"}).flush(Outbox())
sys.stdin.read()
"""
"""What a plugin says first, from another PID namespace: its number there is 1."""


@contextmanager
def in_a_namespace(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program as the first process of a new PID namespace while the context lasts."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "--pid", "--fork", "true"], check=False).returncode:
        missing("a new PID namespace needs unshare and the right to it: root")
    arguments = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, *command]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def child_of(pid: int) -> int:
    """Return the child of a process that has one."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    assert eventually(lambda: bool(listing.read_text().split()))
    return int(listing.read_text().split()[0])


def test_a_process_is_found_by_the_number_that_it_has_in_its_namespace() -> None:
    """The first process of a new namespace is 1 there and another number here: both name it."""
    with in_a_namespace("-c", WAITS) as process:
        assert process.stdout is not None
        process.stdout.readline()
        outside = child_of(process.pid)

        assert numbers(outside) == (outside, 1)
        assert namespace(outside) not in {0, namespace()}
        assert here(1, namespace(outside)) == outside
        assert here(2, namespace(outside)) == -1


def test_an_agent_in_a_namespace_of_its_own_knows_who_speaks(tmp_path: Path) -> None:
    """The kernel cannot tell it the number (SO_PEERCRED is 0): what the client says is found in the host's /proc."""
    path = str(tmp_path / "agent.sock")
    with in_a_namespace("-c", AGENT, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        with in_a_namespace("-c", PLUGIN, path) as plugin:
            assert int(process.stdout.readline()) == child_of(plugin.pid) != 1


@pytest.mark.parametrize("folder", ["memory", "unified"])
def test_a_container_is_read_from_the_group_of_a_real_process(folder: str) -> None:
    """Of version 1 and of version 2, from the kernel's own text."""
    base = GROUPS / folder if (GROUPS / folder).is_dir() else GROUPS
    group = base / "kubepods" / f"pod{UID}" / CONTAINER
    try:
        group.mkdir(parents=True)
    except OSError as exc:
        missing(f"a control group cannot be made here: {exc.strerror}")
    try:
        with subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            (group / "cgroup.procs").write_text(str(process.pid))
            found = home(process.pid)
            process.communicate()
    finally:
        assert eventually(lambda: _removed(group))
    assert found == Home(CONTAINER, UID)


def _removed(group: Path) -> bool:
    """Remove a group and what was made above it; the kernel lets go of it once its last process has ended."""
    try:
        for each in (group, group.parent, group.parent.parent):
            each.rmdir()
    except OSError:
        return not group.parent.parent.exists()
    return True
