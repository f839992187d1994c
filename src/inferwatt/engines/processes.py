"""What /proc says of one process beyond its command line: its container, its environment, its numbers elsewhere.

A number means a process only within a PID namespace (pid_namespaces(7)). The kernel lists all numbers of a process, the
reader's own first and the innermost last (NSpid, proc_pid_status(5)), and names its namespace (/proc/PID/ns/pid).
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from inferwatt.engines.cgroups import Home, home_of

UNKNOWN_PID = -1
_ENVIRON_BYTES = 1 << 20


def home(pid: int, proc: Path = Path("/proc")) -> Home:
    """Return a process's container and pod, empty where it is in none, gone, or not ours to see."""
    try:
        return home_of((proc / str(pid) / "cgroup").read_text(errors="replace"))
    except OSError:
        return Home()


def environment(pid: int, proc: Path = Path("/proc")) -> Mapping[str, str]:
    """Return a process's environment at its start, empty where it is not ours to read.

    A process that has written a title over it (vLLM's) has none any more.
    """
    try:
        with (proc / str(pid) / "environ").open("rb") as stream:
            text = stream.read(_ENVIRON_BYTES).decode(errors="replace")
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in text.split("\0"))
    return {name: value for name, equals, value in pairs if name and equals}


def numbers(pid: int, proc: Path = Path("/proc")) -> tuple[int, ...]:
    """Return a process's numbers from the reader's namespace to its own, none where they are not shown."""
    try:
        for line in (proc / str(pid) / "status").read_text(errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return tuple(map(int, line.split()[1:]))
    except (OSError, ValueError):
        pass
    return ()


def namespace(pid: int | str = "self", proc: Path = Path("/proc")) -> int:
    """Return which PID namespace a process is in, by its inode; 0 where that is not shown."""
    try:
        return os.stat(proc / str(pid) / "ns" / "pid").st_ino
    except OSError:
        return 0


def here(told: int, in_namespace: int, proc: Path = Path("/proc")) -> int:
    """Return the number here of the process that has another one where it lives; UNKNOWN_PID where nobody can say.

    Args:
        told: the process's number in its own namespace.
        in_namespace: that namespace, by its inode; 0 where it is not known.
        proc: where processes are looked up.
    """
    if not in_namespace:
        return UNKNOWN_PID
    if in_namespace == namespace(proc=proc):
        return told
    found = [pid for pid in _pids(proc) if namespace(pid, proc) == in_namespace and numbers(pid, proc)[-1:] == (told,)]
    return found[0] if len(found) == 1 else UNKNOWN_PID


def peer_pid(by_kernel: int, told: object, in_namespace: object, proc: Path = Path("/proc")) -> int:
    """Return which process is at the other end of a socket, UNKNOWN_PID where nobody can say.

    Args:
        by_kernel: its number here by SO_PEERCRED (unix(7)): 0 where it lives in a namespace that is not shown here,
            -1 where the kernel does not say.
        told: the number that it gave itself.
        in_namespace: the PID namespace that it gave with that.
        proc: where processes are looked up.
    """
    if by_kernel > 0 or type(told) is not int:
        return by_kernel if by_kernel > 0 else UNKNOWN_PID
    return told if by_kernel < 0 else here(told, in_namespace if type(in_namespace) is int else 0, proc)


def _pids(proc: Path) -> Iterator[int]:
    try:
        yield from (int(entry) for entry in os.listdir(proc) if entry.isdecimal())
    except OSError:
        return
