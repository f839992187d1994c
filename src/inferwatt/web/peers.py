"""Who is at the other end of a connection of this machine: by the kernel's own table (Linux, /proc/net/tcp)."""

import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
LISTEN: Final = "0A"
OVERFLOW_UID: Final = 65534
"""What the kernel shows for a user outside this user namespace: nobody in particular."""

Address = tuple[str, int]


def peer_uid(client: Address, server: Address, proc: Path = PROC) -> int | None:
    """Return the user whose socket is at `client`, connected to ours at `server`; None where it is not known.

    A socket that its process has closed has no inode and is shown as root's: it is nobody's.
    """
    for local, remote in _written(client, server):
        for name in ("tcp", "tcp6"):
            for fields in _rows(proc / "net" / name, f" {local} {remote} "):
                uid, inode = int(fields[7]), int(fields[9])
                if inode and uid != OVERFLOW_UID:
                    return uid
    return None


def holder(port: int, proc: Path = PROC) -> str:
    """Name the process that listens on `port`, e.g. `inferwatt (pid 12)`; empty where it cannot be known."""
    inodes = {
        f"socket:[{fields[9]}]"
        for name in ("tcp", "tcp6")
        for fields in _rows(proc / "net" / name, f":{port:04X} ")
        if fields[3] == LISTEN and fields[1].endswith(f":{port:04X}")
    }
    for folder in sorted(proc.glob("[0-9]*")) if inodes else ():
        if inodes & set(_open_files(folder / "fd")):
            return f"{_name(folder)} (pid {folder.name})"
    return ""


def _rows(table: Path, having: str) -> Iterator[list[str]]:
    try:
        text = table.read_text()
    except OSError:
        return
    yield from (line.split() for line in text.splitlines() if having in line)


def _open_files(folder: Path) -> Iterator[str]:
    try:
        links = os.listdir(folder)
    except OSError:
        return
    for link in links:
        try:
            yield os.readlink(folder / link)
        except OSError:
            continue


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text().strip()
    except OSError:
        return "a process"


def _written(client: Address, server: Address) -> Iterator[tuple[str, str]]:
    """Yield both ends as the kernel writes them: as they are, and an IPv4 end seen through an IPv6 socket."""
    ends = [ipaddress.ip_address(host.partition("%")[0]) for host, _ in (client, server)]
    plain = [getattr(end, "ipv4_mapped", None) or end for end in ends]
    forms = [plain]
    if all(end.version == 4 for end in plain):
        forms.append([ipaddress.ip_address(f"::ffff:{end}") for end in plain])
    for first, second in forms:
        yield _hex(first.packed, client[1]), _hex(second.packed, server[1])


def _hex(packed: bytes, port: int) -> str:
    """Return an address in words of 32 bits, each in the machine's own order, as /proc/net/tcp has it."""
    words = [int.from_bytes(packed[start : start + 4], sys.byteorder) for start in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
