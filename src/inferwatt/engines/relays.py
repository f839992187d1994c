"""Who listens behind a port that a program only passes on into a container: docker-proxy says where to.

Its command line has the container's address and port. The process behind it listens on that port in a network of its
own that has that address; the kernel shows both in /proc, to root. Nothing else is taken for it.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from inferwatt.engines.listeners import holders_of, listening

_CONTAINER = re.compile(r"-container-ip (\S+) .*-container-port (\d+)")


def behind(command: str, proc: Path = Path("/proc")) -> frozenset[int]:
    """Return the processes that a relay with this command line leads to, none where that cannot be known.

    Args:
        command: docker-proxy's.
        proc: where /proc is.
    """
    match = _CONTAINER.search(command)
    if match is None:
        return frozenset()
    address, port = match.group(1), int(match.group(2))
    for pid in _networks(proc).values():
        if _has_address(proc / str(pid) / "net", address):
            inodes = frozenset(inode for _, other, inode in listening(proc / str(pid)) if other == port)
            return frozenset(pid for pids in holders_of(proc, inodes).values() for pid in pids)
    return frozenset()


def _networks(proc: Path) -> Mapping[str, int]:
    """Return one process of each network that is not ours."""
    found: dict[str, int] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.setdefault(os.readlink(entry / "ns" / "net"), int(entry.name))
    with contextlib.suppress(OSError):
        found.pop(os.readlink(proc / "self" / "ns" / "net"), None)
    return found


def _has_address(net: Path, address: str) -> bool:
    """Return whether a network has this address as one of its own."""
    try:
        lines = (net / "fib_trie").read_text().splitlines()
    except OSError:
        return False
    return any(line.endswith(f"|-- {address}") and "host LOCAL" in after for line, after in pairwise(lines))
