"""Which watched process an accelerator's process descends from: a server's workers hold the GPU, and are its children.

A driver names the processes that hold a device; an inference server is known by another process, the one that answers.
Of vLLM's, for one, the parent listens, its child computes the schedule, and its grandchildren hold a GPU each.

A process is its pid and its start time, and its ancestors are what they were when it was first seen: a worker whose
parent has ended is given to init by the kernel, and stays in the family here. So does one that has itself ended, until
its number is taken by another.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from inferwatt.records import HOST, Usage
from inferwatt.sources import Emitted
from inferwatt.units import NS_PER_SECOND

MOST_LEVELS = 32
"""How far up a process's ancestors are followed."""
MOST_KNOWN = 4096
"""How many processes are remembered; the one that was looked up longest ago is forgotten first."""
RECHECK_NS = NS_PER_SECOND
"""How long a pid is taken for the process that had it, before its start time is read again."""
_STAT_BYTES = 1024


@dataclass(frozen=True, slots=True)
class _Identity:
    """One process: its number, and when it started, in ticks since boot."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class _Lineage:
    """A process, its ancestors from the nearest on, and when its start time was read last."""

    own: _Identity
    ancestors: tuple[_Identity, ...]
    checked_ns: int


class Families:
    """Replaces pids by those of the watched processes that they descend from; what has no such ancestor stays itself.

    `watch` may be called from any thread, `resolve` from one.
    """

    def __init__(self, proc_root: str) -> None:
        self._proc_root = proc_root
        self._watched: dict[int, _Identity | None] = {}
        self._known: dict[int, _Lineage] = {}

    def watch(self, pids: Collection[int]) -> None:
        """Make these the heads of families, and no others."""
        before = self._watched
        self._watched = {pid: self._identity(pid) or before.get(pid) for pid in pids}

    def resolve(self, usage: Usage) -> Usage:
        """Return the usage with the shares of each family summed under its watched process; never raises."""
        watched = self._watched
        shares: dict[int, float] = {}
        for pid, ratio in usage.shares.items():
            head = pid if pid in watched else self._head(pid, watched, usage.t1_ns)
            shares[head] = shares.get(head, 0.0) + ratio
        return replace(usage, shares=shares) if shares.keys() != usage.shares.keys() else usage

    def before(self, put: Callable[[Emitted], None]) -> Callable[[Emitted], None]:
        """Return what hands each record on to `put`, an accelerator's usage by families.

        The host's is left as it is: whoever read it has added up the descendants already.
        """

        def taken(record: Emitted) -> None:
            put(self.resolve(record) if isinstance(record, Usage) and record.device != HOST else record)

        return taken

    def _head(self, pid: int, watched: dict[int, _Identity | None], now_ns: int) -> int:
        """Return the nearest watched ancestor of a process, itself where it has none."""
        lineage = self._lineage(pid, now_ns)
        for ancestor in lineage.ancestors if lineage is not None else ():
            if ancestor.pid in watched and watched[ancestor.pid] in (ancestor, None):
                return ancestor.pid
        return pid

    def _lineage(self, pid: int, now_ns: int) -> _Lineage | None:
        known = self._known.pop(pid, None)
        if known is not None and 0 <= now_ns - known.checked_ns < RECHECK_NS:
            self._known[pid] = known
            return known
        stat = self._stat(pid)
        if stat is not None:
            own, parent = stat
            ancestors = known.ancestors if known is not None and known.own == own else self._ancestors(own, parent)
            known = _Lineage(own, ancestors, now_ns)
        if known is not None:
            self._remember(pid, known)
        return known

    def _remember(self, pid: int, lineage: _Lineage) -> None:
        if len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[pid] = lineage

    def _ancestors(self, own: _Identity, parent: int) -> tuple[_Identity, ...]:
        """Walk up from a process; one that started after its child is not its parent, but has the number of one."""
        found: list[_Identity] = []
        child = own
        while parent > 0 and len(found) < MOST_LEVELS:
            stat = self._stat(parent)
            if stat is None or stat[0].start_ticks > child.start_ticks:
                break
            child, parent = stat
            found.append(child)
        return tuple(found)

    def _identity(self, pid: int) -> _Identity | None:
        stat = self._stat(pid)
        return stat[0] if stat is not None else None

    def _stat(self, pid: int) -> tuple[_Identity, int] | None:
        """Return a process and its parent's pid, None where it cannot be read (it has ended, or is another user's)."""
        try:
            fd = os.open(f"{self._proc_root}/{pid}/stat", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                text = os.read(fd, _STAT_BYTES)
            finally:
                os.close(fd)
            fields = text[text.rindex(b")") + 2 :].split()
            return _Identity(pid, int(fields[19])), int(fields[1])
        except (OSError, ValueError, IndexError):
            return None
