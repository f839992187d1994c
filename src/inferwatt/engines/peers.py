"""Which process talks to which server of this machine: by its open TCP connections (Linux, /proc)."""

import os
from pathlib import Path

_ESTABLISHED = "01"


def is_connected(pid: int, port: int, proc: Path = Path("/proc")) -> bool:
    """Return whether process `pid` holds an established TCP connection to `port` on this machine.

    A process that may not be looked into (another user's) counts as not connected.
    """
    inodes = _connections_to(port, proc)
    if not inodes:
        return False
    folder = proc / str(pid) / "fd"
    try:
        links = os.listdir(folder)
    except OSError:
        return False
    return any(_link(folder / link) in inodes for link in links)


def talks_to(pid: int, url: str) -> bool:
    """Return whether process `pid` holds a connection to the server at `url` on this machine."""
    port = url.rpartition(":")[2].strip("/")
    return port.isdigit() and is_connected(pid, int(port))


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _connections_to(port: int, proc: Path) -> set[str]:
    wanted = f":{port:04X}"
    inodes = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[2].endswith(wanted) and fields[3] == _ESTABLISHED:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes
