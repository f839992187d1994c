"""Which processes a server is: those that listen, and the parents that started it and are of its kind.

Who answers is often not who works. Of vLLM's, the launcher's other children compute; of TGI's, the router is a sister
of the shards. So a server's processes are named from the highest parent on that smells of its kind, and whoever reads
the host's or an accelerator's use counts the descendants in. What only passes connections on is no server: who is
behind it is looked for in its container.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from inferwatt.engines.listeners import command_line
from inferwatt.engines.processes import home
from inferwatt.engines.relays import behind

RELAYS = frozenset({"docker-proxy", "rootlessport", "rootlesskit", "slirp4netns", "pasta", "kubectl", "ssh", "sshd"})
"""Programs that hold a port for a server that is somewhere else: in a container, or on another machine."""
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "sudo", "su", "env", "nohup", "tmux", "screen", "timeout"})
"""Programs whose command line may hold another's: what else they started is no part of it."""
MOST_LEVELS = 16


def processes_of(pids: Iterable[int], commands: Collection[str], proc: Path = Path("/proc")) -> frozenset[int]:
    """Return the processes of a server that listens by `pids`: who is behind relays, and the parents of its kind.

    Args:
        pids: who holds its socket.
        commands: parts of a command line that smell of its kind.
        proc: where /proc is.
    """
    own: set[int] = set()
    for pid in pids:
        command = command_line(pid, proc)
        own |= behind(command, proc) if is_relay(command) else {pid}
    parents = {parent for pid in own for parent in ancestors(pid, proc) if _is_server(parent, commands, proc)}
    return frozenset(own | parents)


def python_of(pids: Iterable[int], proc: Path = Path("/proc")) -> str:
    """Return the interpreter that runs a server, by its path where it is on this machine's own disk."""
    for pid in sorted(pids):
        program = command_line(pid, proc).partition(" ")[0]
        if (
            program.startswith("/")
            and os.path.basename(program).startswith("python")
            and not home(pid, proc).container_id
        ):
            return program
    return "python"


def ancestors(pid: int, proc: Path = Path("/proc")) -> Iterator[int]:
    """Yield the parents of a process, the nearest first, without init."""
    for _ in range(MOST_LEVELS):
        pid = _parent(pid, proc)
        if pid <= 1:
            return
        yield pid


def smells(command: str, commands: Iterable[str]) -> bool:
    """Return whether a command line or process title is of a kind that is known by parts of it."""
    return any(word in command for word in commands)


def is_relay(command: str) -> bool:
    """Return whether a program only passes connections on."""
    return _program(command) in RELAYS


def _is_server(pid: int, commands: Iterable[str], proc: Path) -> bool:
    command = command_line(pid, proc)
    return smells(command, commands) and _program(command) not in SHELLS


def _program(command: str) -> str:
    """Return the name of the program that a command line or process title begins with."""
    first = command.split(maxsplit=1)[0] if command.strip() else ""
    return os.path.basename(first).rstrip(":").lstrip("-")


def _parent(pid: int, proc: Path) -> int:
    """Return a process's parent, 0 where it has ended or is not ours to see; its name may hold any bracket."""
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
        return int(stat[stat.rindex(")") + 2 :].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
