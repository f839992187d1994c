"""Who listens behind a port that a program only passes on into a container: docker-proxy says where to.

Its command line has the container's address and port. The process behind it listens on that port in a network of its
own that has that address; the kernel shows both in /proc, to root. Nothing else is taken for it.
"""

import re
from pathlib import Path

from inferwatt.engines.listeners import holders_of, listening
from inferwatt.engines.networks import addresses, networks

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
    for pid in networks(proc).values():
        if address in addresses(proc / str(pid)):
            inodes = frozenset(inode for _, other, inode in listening(proc / str(pid)) if other == port)
            return frozenset(pid for pids in holders_of(proc, inodes).values() for pid in pids)
    return frozenset()
