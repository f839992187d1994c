"""Which server a vLLM process belongs to: by the nearest of its ancestors that listens on a port."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from inferwatt.engines.listeners import Listener, command_line
from inferwatt.engines.networks import addresses, everywhere, host_of
from inferwatt.engines.servers import server_kinds
from inferwatt.engines.watch import TargetHealth

MOST_LEVELS = 8
_HERE = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})


class Found(NamedTuple):
    """A server by its name, the processes that listen for it, its port, and the host at which it is reached."""

    name: str
    pids: frozenset[int]
    port: int | None = None
    host: str = "127.0.0.1"


def server_of(
    pid: int,
    port: int | None,
    targets: Iterable[TargetHealth],
    *,
    find: Callable[[], Iterable[Listener]] = everywhere,
    proc: Path = Path("/proc"),
) -> Found | None:
    """Return the server of a process of vLLM's, None where nobody above it listens (vLLM inside a program).

    The launcher opens the port, also where several processes answer on it; the engines are its children.

    Args:
        pid: a process that computes the schedule.
        port: where its command line says that it will listen: it listens only when its model is loaded, and its
            launcher may listen elsewhere before, for its data-parallel engines.
        targets: the servers that are known.
        find: who listens now.
        proc: where processes are looked up.
    """
    sockets = tuple(find())
    names = _Names(targets, _HERE.union(addresses(proc)))
    starter = pid
    for ancestor in _line(pid, proc):
        held = [socket for socket in sockets if ancestor in socket.pids]
        known = [one for one in held if (names.knows(one.host, one.port) if port is None else one.port == port)]
        if not known and ancestor == pid:
            continue  # an engine's own ports are not for clients
        if not known and not _is_vllm(ancestor, proc):
            break
        for socket in known or (held if port is None else ()):
            return Found(names.of(socket.host, socket.port), socket.pids, socket.port, socket.host)
        starter = ancestor
    host = host_of(starter, proc)
    return None if port is None else Found(names.of(host, port), frozenset({starter}), port, host)


class _Names:
    """The names of servers by where they are reached; another network's port is another server's."""

    def __init__(self, targets: Iterable[TargetHealth], here: frozenset[str]) -> None:
        self._here = here
        places = ((urlsplit(target.url), target.name) for target in targets)
        self._names = {self._place(place.hostname or "", place.port): name for place, name in places}

    def knows(self, host: str, port: int) -> bool:
        return self._place(host, port) in self._names

    def of(self, host: str, port: int) -> str:
        is_near = host in {"127.0.0.1", "[::1]"}
        return self._names.get(self._place(host, port), f"vllm:{port}" if is_near else f"vllm:{host}:{port}")

    def _place(self, host: str, port: int | None) -> tuple[str, int | None]:
        host = host.strip("[]")
        return "" if host in self._here else host, port


def _is_vllm(pid: int, proc: Path) -> bool:
    command = command_line(pid, proc)
    return any(word in command for word in server_kinds()["vllm"].commands)


def _line(pid: int, proc: Path) -> Iterable[int]:
    """Return a process and its ancestors, the nearest first."""
    for _ in range(MOST_LEVELS):
        if pid <= 1:
            return
        yield pid
        try:
            pid = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return
