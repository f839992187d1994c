"""Who listens on this machine's TCP ports: /proc on Linux, psutil elsewhere, nobody where neither is there."""

import contextlib
import importlib
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"
_LOOPBACK_OR_ANY = frozenset({"127.0.0.1", "0.0.0.0", "::1", "::"})


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket, where it is reached, and the processes that hold it open (those we may look into)."""

    host: str
    port: int
    pids: frozenset[int]

    @property
    def is_near(self) -> bool:
        """Whether loopback reaches it."""
        return self.host in {"127.0.0.1", "[::1]"}


def listeners(proc: Path = Path("/proc")) -> tuple[Listener, ...]:
    """Return the sockets that listen on loopback or on every address, by port."""
    if not (proc / "net/tcp").exists():
        return _by_psutil()
    sockets = tuple(found for found in listening(proc) if found[0] in _LOOPBACK_OR_ANY)
    holders = holders_of(proc, frozenset(inode for _, _, inode in sockets)) if sockets else {}
    return _by_port((address, port, holders.get(inode, set())) for address, port, inode in sockets)


def command_line(pid: int, proc: Path = Path("/proc")) -> str:
    """Return a process's command line, empty where it is gone or not ours to read."""
    try:
        return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def mapped_files(pid: int, proc: Path = Path("/proc")) -> frozenset[str]:
    """Return the paths of the files that a process has mapped, its libraries among them."""
    try:
        text = (proc / str(pid) / "maps").read_text(errors="replace")
    except OSError:
        return frozenset()
    return frozenset(fields[5] for line in text.splitlines() if len(fields := line.split(None, 5)) == 6)


def _by_port(sockets: Iterable[tuple[str, int, set[int]]]) -> tuple[Listener, ...]:
    """Join the sockets of one port; IPv4 loopback reaches all but those that listen on ::1 alone."""
    addresses: dict[int, set[str]] = {}
    pids: dict[int, set[int]] = {}
    for address, port, holders in sockets:
        addresses.setdefault(port, set()).add(address)
        pids.setdefault(port, set()).update(holders)
    return tuple(
        Listener("[::1]" if addresses[port] == {"::1"} else "127.0.0.1", port, frozenset(pids[port]))
        for port in sorted(addresses)
    )


def listening(proc: Path) -> Iterator[tuple[str, int, str]]:
    """Yield (address, port, inode) of each listening socket of a network."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (proc / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                address, port = fields[1].split(":")
                if fields[3] == _LISTEN:
                    yield _address(address), int(port, 16), fields[9]


def _address(text: str) -> str:
    """Return the address that /proc writes as 32-bit words in the machine's byte order."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))


def holders_of(proc: Path, inodes: frozenset[str]) -> Mapping[str, set[int]]:
    """Return which processes hold each socket, among those whose open files we may see."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    holders: dict[str, set[int]] = {}
    for pid in (int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()):
        with contextlib.suppress(OSError):
            for link in _links(proc / str(pid) / "fd"):
                if (inode := wanted.get(link)) is not None:
                    holders.setdefault(inode, set()).add(pid)
    return holders


def _links(folder: Path) -> Iterable[str]:
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            yield os.readlink(entry.path)


def _by_psutil() -> tuple[Listener, ...]:
    try:
        psutil = importlib.import_module("psutil")
        connections = psutil.net_connections("tcp")
    except Exception:  # noqa: BLE001 - not installed, or not allowed on this system: then only configured servers
        return ()
    return _by_port(
        (connection.laddr.ip, connection.laddr.port, {connection.pid} - {None})
        for connection in connections
        if connection.status == "LISTEN" and connection.laddr.ip in _LOOPBACK_OR_ANY
    )
