"""Which processes held the host's CPUs: each watched process with its descendants, and all others together.

A share is CPU time by capacity: logical CPUs times wall time, steal left out. ``/proc/stat`` and ``/proc/PID/stat``
count in 10 ms ticks that need not fall into the same interval, so the watched processes together are held to the
host's busy time; what they had beyond it is owed to them and given as soon as the host's count catches up (at most
one second of the capacity is owed, so that a wrong count cannot live for ever).

A pid alone is not a process: a process is its pid and its start time. One that has ended drops out, and its number is
not followed again, whoever has it now, before it was once left out of `watch`.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress

from inferwatt.errors import SourceGone
from inferwatt.records import Usage
from inferwatt.sources.procfs import HostTime, ProcessTime, children
from inferwatt.units import NS_PER_SECOND

RESCAN_NS = NS_PER_SECOND
"""How often new descendants are looked for."""


class _Member:
    """One process, watched or descendant of a watched one, and what it had used at the last read."""

    __slots__ = ("last_ns", "time", "watched")

    def __init__(self, time: ProcessTime, watched: int, last_ns: int) -> None:
        self.time = time
        self.watched = watched
        self.last_ns = last_ns


class CpuUsage:
    """Shares of the CPU's capacity since the last read; one `Usage` per device that they apply to."""

    def __init__(self, devices: Sequence[str], logical_cpus: int, *, proc_root: str = "/proc") -> None:
        """Open ``/proc/stat``.

        Args:
            devices: the CPU and DRAM devices to whose joules these shares apply.
            logical_cpus: the capacity.
            proc_root: where /proc is.

        Raises:
            OSError: there is no ``/proc/stat``.
        """
        self.devices = tuple(devices)
        self._proc_root = proc_root
        self._logical_cpus = logical_cpus
        self._host = HostTime(proc_root)
        self._wanted: frozenset[int] = frozenset()
        self._scanned: frozenset[int] = frozenset()
        self._members: dict[int, _Member] = {}
        self._ended: set[int] = set()
        self._owed_ns: dict[int, int] = {}
        self._rescan_ns = 0
        self._last_ns: int | None = None
        self._last_busy_ns = 0

    def watch(self, pids: Collection[int]) -> None:
        """Watch these processes from the next read on, and no others; may be called from any thread."""
        self._wanted = frozenset(pids)

    def read(self, now_ns: int) -> tuple[Usage, ...]:
        """Return the shares from the last read to `now_ns`; empty the first time and where no time has passed.

        Raises:
            SourceRetry: the host's CPU time cannot be read this time; the next read covers this interval too.
        """
        busy_ns = self._host.busy_ns()
        used_ns = self._collect()
        if self._wanted != self._scanned or now_ns >= self._rescan_ns:
            self._rescan(now_ns)
        t0_ns, self._last_ns = self._last_ns, now_ns
        worked_ns = max(0, busy_ns - self._last_busy_ns)
        self._last_busy_ns += worked_ns
        if t0_ns is None or now_ns <= t0_ns:
            return ()
        capacity_ns = self._logical_cpus * (now_ns - t0_ns)
        shares, other = self._share(used_ns, min(worked_ns, capacity_ns), capacity_ns)
        return tuple(Usage(t0_ns, now_ns, device, shares, other) for device in self.devices)

    def close(self) -> None:
        """Close every file; a second call does nothing."""
        for member in self._members.values():
            member.time.close()
        self._members = {}
        self._host.close()

    def _collect(self) -> dict[int, int]:
        """Return what each watched pid used since the last read, its descendants included, and drop the ended."""
        used_ns: dict[int, int] = {}
        for pid, member in list(self._members.items()):
            try:
                cpu_ns = member.time.cpu_ns()
            except SourceGone:
                del self._members[pid]
                self._ended.add(pid)
                continue
            used_ns[member.watched] = used_ns.get(member.watched, 0) + max(0, cpu_ns - member.last_ns)
            member.last_ns = cpu_ns
        return used_ns

    def _share(self, used_ns: dict[int, int], busy_ns: int, capacity_ns: int) -> tuple[dict[int, float], float]:
        """Divide the busy time: never more than it, never less than nothing, and remember what could not be given."""
        claims_ns = {pid: used_ns.get(pid, 0) + self._owed_ns.get(pid, 0) for pid in used_ns.keys() | self._owed_ns}
        total_ns = sum(claims_ns.values())
        given_ns = claims_ns
        if total_ns > busy_ns:
            given_ns = {pid: claim_ns * busy_ns // total_ns for pid, claim_ns in claims_ns.items()}
        limit_ns = self._logical_cpus * NS_PER_SECOND
        owed_ns = {pid: min(claim_ns - given_ns[pid], limit_ns) for pid, claim_ns in claims_ns.items()}
        self._owed_ns = {pid: owed for pid, owed in owed_ns.items() if owed and pid in self._wanted}
        shares = {pid: given / capacity_ns for pid, given in given_ns.items()}
        return shares, (busy_ns - sum(given_ns.values())) / capacity_ns

    def _rescan(self, now_ns: int) -> None:
        """Find the descendants of the watched processes; each belongs to its nearest watched ancestor."""
        self._rescan_ns = now_ns + RESCAN_NS
        wanted = self._scanned = self._wanted
        self._ended &= wanted
        tree: dict[int, int] = {}
        stack = [(pid, pid) for pid in wanted - self._ended]
        while stack:
            pid, watched = stack.pop()
            if pid in tree:
                continue
            tree[pid] = watched
            stack += [(child, watched) for child in children(self._proc_root, pid) if child not in wanted]
        for pid in self._members.keys() - tree.keys():
            self._members.pop(pid).time.close()
        for pid, watched in tree.items():
            self._admit(pid, watched)

    def _admit(self, pid: int, watched: int) -> None:
        """Begin to follow a process; one that is already followed keeps its count unless another took its pid."""
        member = self._members.get(pid)
        if member is not None:
            member.watched = watched
            return
        with suppress(SourceGone):
            time = ProcessTime(self._proc_root, pid)
            self._members[pid] = _Member(time, watched, time.cpu_ns())
