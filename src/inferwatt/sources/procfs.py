"""The few lines of /proc that the sources need, read through kept file descriptors (3.8 µs against 13 µs by open).

In ``/proc/stat`` (proc_stat(5)) guest time is already inside user time, and steal is time that the hypervisor gave to
others: busy here is user + nice + system + irq + softirq, so neither is counted. The kernel counts in ticks of
1/sysconf(SC_CLK_TCK) s, 10 ms on every common build.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.units import NS_PER_SECOND

TICK_NS = NS_PER_SECOND // (os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)
_FIRST_LINE_BYTES = 256


class HostTime:
    """The first line of ``/proc/stat``: how long the host's logical CPUs were busy."""

    def __init__(self, proc_root: str) -> None:
        """Open the file; OSError where there is none."""
        self._path = Path(proc_root) / "stat"
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def busy_ns(self) -> int:
        """Return the busy time of all logical CPUs together since boot, nanoseconds.

        Raises:
            SourceRetry: the line cannot be read or understood this time.
        """
        try:
            fields = os.pread(self._fd, _FIRST_LINE_BYTES, 0).split(b"\n", 1)[0].split()
            user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[1:8])
        except (OSError, ValueError) as exc:
            raise SourceRetry(
                f"cannot read the host's CPU time: {exc}", where=self._path, fix="none needed: counted as a lost sample"
            ) from exc
        return (user + nice + system + irq + softirq) * TICK_NS

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class ProcessTime:
    """``/proc/PID/stat`` of one process: CPU time of all its threads, and when it started (its identity)."""

    __slots__ = ("_fd", "_path", "pid", "start_ticks")

    def __init__(self, proc_root: str, pid: int) -> None:
        """Open the file; SourceGone where there is no such process."""
        self.pid = pid
        self._path = f"{proc_root}/{pid}/stat"
        self.start_ticks = b""
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            self._fd = -1
            raise self._gone(exc) from exc
        self.start_ticks = self._fields()[19]

    def cpu_ns(self) -> int:
        """Return user and system time of its threads since its start, nanoseconds; SourceGone when it has ended.

        Another process with the same pid is told by its start time.
        """
        fields = self._fields()
        return (int(fields[11]) + int(fields[12])) * TICK_NS

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _fields(self) -> list[bytes]:
        """Return the fields from the third on: the second, the name in brackets, may hold blanks and brackets."""
        try:
            text = os.pread(self._fd, 1024, 0)
            fields = text[text.rindex(b")") + 2 :].split()
            if fields[0] in (b"Z", b"X") or fields[19] != (self.start_ticks or fields[19]):
                raise ProcessLookupError("another process has its number, or none")
        except (OSError, ValueError, IndexError) as exc:
            self.close()
            raise self._gone(exc) from exc
        return fields

    def _gone(self, exc: Exception) -> SourceGone:
        return SourceGone(
            f"process {self.pid} has ended: {exc}", where=self._path, fix="none needed: no longer watched"
        )


def children(proc_root: str, pid: int) -> Iterator[int]:
    """Yield the children of a process, from each thread's list where the kernel keeps one, else by a scan."""
    folder = f"{proc_root}/{pid}/task"
    try:
        threads = os.listdir(folder)
    except OSError:
        return
    for thread in threads:
        try:
            with open(f"{folder}/{thread}/children", "rb") as listing:
                yield from map(int, listing.read().split())
        except FileNotFoundError:
            if os.path.isdir(f"{folder}/{thread}"):
                yield from _children_by_scan(proc_root, pid)
                return
        except (OSError, ValueError):
            continue


def _children_by_scan(proc_root: str, pid: int) -> Iterator[int]:
    """Yield the processes whose parent is `pid`: for kernels without CONFIG_PROC_CHILDREN."""
    for entry in os.listdir(proc_root):
        if not entry.isdecimal():
            continue
        try:
            text = Path(f"{proc_root}/{entry}/stat").read_bytes()
            if int(text[text.rindex(b")") + 2 :].split()[1]) == pid:
                yield int(entry)
        except (OSError, ValueError, IndexError):
            continue
