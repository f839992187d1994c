"""Who listens beyond loopback: on this machine's own addresses, and in the networks of containers and pods.

A container has a network of its own: its sockets are in no list of ours, and no port of ours leads to it unless it is
published. To root the kernel shows each network's sockets and addresses by any process in it (proc_pid_net(5)).
Nothing is asked here, and nobody is found in a network whose processes are not ours to see.
"""

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from inferwatt.engines.listeners import Listener, holders_of, listeners, listening
from inferwatt.loopback import is_loopback

_LOOPBACK = "127.0.0.1"
_GLOBAL = "00"
"""An address's scope in /proc/net/if_inet6: one that reaches beyond its link."""
_ANY = frozenset({"0.0.0.0", "::"})
_PORTS = {"http": 80, "https": 443}


def beyond(proc: Path = Path("/proc")) -> tuple[Listener, ...]:
    """Return the sockets that no loopback of ours reaches, each at an address at which it is reached from here."""
    found = [(address, port, inode) for address, port, inode in listening(proc) if _is_own(address)]
    for pid in networks(proc).values():
        net = proc / str(pid)
        own = next(addresses(net), "")
        for address, port, inode in listening(net):
            if reached := own if address in _ANY else address if _is_own(address) else "":
                found.append((reached, port, inode))
    holders = holders_of(proc, frozenset(inode for _, _, inode in found)) if found else {}
    pids: dict[tuple[str, int], set[int]] = {}
    for address, port, inode in found:
        pids.setdefault((address, port), set()).update(holders.get(inode, ()))
    return tuple(Listener(_host(address), port, frozenset(held)) for (address, port), held in sorted(pids.items()))


def pids_behind(url: str, proc: Path = Path("/proc")) -> frozenset[int]:
    """Return the processes that listen where `url` points, none where that is another machine."""
    return holders_at(url, listeners(proc), beyond(proc), proc)


def holders_at(
    url: str, near: Iterable[Listener], far: Iterable[Listener], proc: Path = Path("/proc")
) -> frozenset[int]:
    """Return the processes that listen where `url` points, among the sockets that loopback reaches and those beyond."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    found = [one for one in far if (one.host.strip("[]"), one.port) == (host, port)]
    if is_loopback(host) or host in addresses(proc):
        found += [one for one in near if one.port == port]
    return frozenset(pid for one in found for pid in one.pids)


def everywhere(proc: Path = Path("/proc")) -> tuple[Listener, ...]:
    """Return all who listen: where loopback reaches them, and beyond."""
    return (*listeners(proc), *beyond(proc))


def host_of(pid: int, proc: Path = Path("/proc")) -> str:
    """Return where a process's network is reached from here, as addresses are written: loopback where it is ours."""
    with contextlib.suppress(OSError):
        if os.readlink(proc / str(pid) / "ns" / "net") != os.readlink(proc / "self" / "ns" / "net"):
            return _host(next(addresses(proc / str(pid)), _LOOPBACK))
    return _LOOPBACK


def networks(proc: Path) -> Mapping[str, int]:
    """Return one process of each network that is not ours."""
    found: dict[str, int] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.setdefault(os.readlink(entry / "ns" / "net"), int(entry.name))
    with contextlib.suppress(OSError):
        found.pop(os.readlink(proc / "self" / "ns" / "net"), None)
    return found


def addresses(process: Path) -> Iterator[str]:
    """Yield the addresses of a process's network that reach beyond it, those of IPv4 first."""
    with contextlib.suppress(OSError):
        lines = (process / "net" / "fib_trie").read_text().splitlines()
        local = (line.rpartition(" ")[2] for line, after in pairwise(lines) if "host LOCAL" in after)
        yield from dict.fromkeys(address for address in local if not is_loopback(address))
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (process / "net" / "if_inet6").read_text().splitlines():
            fields = line.split()
            if fields[3] == _GLOBAL:
                yield socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))


def _is_own(address: str) -> bool:
    """Whether a socket's address is one of the machine's or container's own, which others reach it by."""
    return address not in _ANY and not is_loopback(address) and not ipaddress.ip_address(address).is_link_local


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
