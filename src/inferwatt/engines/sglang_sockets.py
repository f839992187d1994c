"""Where an SGLang server publishes its forward passes: by its command line, and by the Unix sockets that it listens on.

`--enable-forward-pass-metrics` switches them on. The hidden `--forward-pass-metrics-ipc-name ADDRESS` says where
(ADDRESS.RANK, one for each data-parallel rank); without it that is a temporary file, which only the log names and the
kernel: a listening socket of the scheduler's whose name ends with a rank (SGLang, srt/managers/scheduler_components/
metrics_reporter.py, _init_fpm, at c9cbe8f2). Older proposals, and vLLM's, have `--forward-pass-metrics-port PORT`:
PORT + RANK on loopback.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from inferwatt.engines.listeners import command_line, holders_of
from inferwatt.engines.processes import home
from inferwatt.engines.servers import Target
from inferwatt.engines.trees import ancestors

SGLANG = "sglang"
FLAG = "--enable-forward-pass-metrics"
_PORT = re.compile(r"--forward-pass-metrics-port[ =](\d{1,5})\b")
_NAME = re.compile(r"--forward-pass-metrics-ipc-name[ =](\S+)")
_RANKS = re.compile(r"--(?:dp-size|dp|data-parallel-size)[ =](\d{1,3})\b")
_RANKED = re.compile(r".+\.\d{1,3}")
_LISTENS = "00010000"
"""__SO_ACCEPTCON among the flags of /proc/net/unix (proc_net(5))."""
_LONGEST_PATH_BYTES = 107


def published(target: Target) -> tuple[str, ...]:
    """Return where a server publishes its passes: as it is configured, else as its processes show."""
    return target.passes or (publishers(target.pids) if target.kind == SGLANG else ())


def publishers(pids: Iterable[int], proc: Path = Path("/proc")) -> tuple[str, ...]:
    """Return the addresses of ZeroMQ at which a server publishes its passes, none where it does not.

    Args:
        pids: the server's processes.
        proc: where processes are looked up.
    """
    pids = sorted(pids)
    commands = {pid: command_line(pid, proc) for pid in pids}
    for pid, command in commands.items():
        ranks = range(int(found.group(1)) if (found := _RANKS.search(command)) else 1)
        if port := _PORT.search(command):
            return tuple(f"tcp://127.0.0.1:{int(port.group(1)) + rank}" for rank in ranks)
        if FLAG in command and (named := _NAME.search(command)):
            return tuple(_seen(f"{named.group(1)}.{rank}", pid, proc) for rank in ranks)
    if not any(FLAG in command for command in commands.values()):
        return ()
    return tuple(dict.fromkeys(_seen(f"ipc://{path}", pid, proc) for path, pid in _listening(frozenset(pids), proc)))


def _listening(heads: frozenset[int], proc: Path) -> Iterator[tuple[str, int]]:
    """Yield each Unix socket with a rank behind its name that a server or a descendant of its listens on."""
    inodes: dict[str, str] = {}
    for head in heads:  # a container has a network, and so a list of its own
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (proc / str(head) / "net" / "unix").read_text().splitlines()[1:]:
                fields = line.split(None, 7)
                if len(fields) == 8 and fields[3] == _LISTENS and _RANKED.fullmatch(fields[7]):
                    inodes[fields[6]] = fields[7]
    held = holders_of(proc, frozenset(inodes)) if inodes else {}
    for inode, path in sorted(inodes.items(), key=lambda item: item[1]):
        for pid in held.get(inode, ()):
            if pid in heads or heads & frozenset(ancestors(pid, proc)):
                yield path, pid
                break


def _seen(address: str, pid: int, proc: Path) -> str:
    """Return an address as it is reached from here: a container's files are below its process's root."""
    path = address.removeprefix("ipc://")
    root = f"{proc}/{pid}/root"
    is_elsewhere = path != address and not os.path.exists(path) and home(pid, proc).container_id
    fits = len(os.fsencode(root + path)) <= _LONGEST_PATH_BYTES
    return f"ipc://{root}{path}" if is_elsewhere and fits else address
