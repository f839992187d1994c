"""Who used a GPU: which source of it the GPU offers at the moment, at most five times a second.

Best first: the driver's own samples of processes; slices times activity under MIG; the GPU's utilisation where exactly
one process holds it; else all of the use is unknown, which ends as unattributed: nothing is smeared.
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

from inferwatt.records import Device, Usage
from inferwatt.sources.nvml_api import Handle, Session
from inferwatt.sources.nvml_condition import ASK_AGAIN_NS, ConditionReader, Optional
from inferwatt.sources.nvml_mig import MigUse
from inferwatt.sources.nvml_processes import UNKNOWN_PID, ProcessList, ProcessUse
from inferwatt.units import NS_PER_SECOND

PERIOD_NS = NS_PER_SECOND // 5
LIST_NS = NS_PER_SECOND
"""How often it is asked who holds the GPU: a list takes up to 4.5 ms of a real driver (MangoHud pull request 2104)."""
_TURNS = 5
"""So GPUs take turns within that second: eight lists in one beat would hold up every reading after them."""
QUIET_NS = NS_PER_SECOND
"""Without a new sample for so long nobody did anything: the driver samples at least once a second."""
_NS_PER_US = 1000


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as it was found: its index then, its device, and where pids end."""

    index: int
    device: Device
    pid_max: int


class UsageReader:
    """The shares of a GPU's processes since the last answer."""

    def __init__(self, session: Session, handle: Handle, gpu: Gpu, condition: ConditionReader) -> None:
        self._session = session
        self._handle = handle
        self._device = gpu.device.device
        self._pid_max = pid_max = gpu.pid_max
        self._turn_ns = gpu.index % _TURNS * LIST_NS // _TURNS
        self._condition = condition
        self._mode = (ctypes.c_uint(), ctypes.c_uint())
        self._ask_mode = Optional(session.bind("nvmlDeviceGetMigMode"), handle, *map(ctypes.byref, self._mode))
        self._list = ProcessList(session, handle, pid_max)
        self._use = ProcessUse(session, handle, pid_max)
        self._mig: MigUse | None = None
        self._pids: frozenset[int] | None = frozenset()
        self._list_ns = 0
        self._is_sampled = False
        self._retry_use_ns = 0
        self._t0_ns: int | None = None

    def read(self, now_ns: int) -> Usage | None:
        """Return the shares since the last answer, None where there is nothing new to say yet."""
        if self._t0_ns is None:
            self._t0_ns = now_ns
        if now_ns >= self._list_ns:
            self._look(now_ns)
        t0_ns = self._t0_ns
        usage = self._of_mig(self._mig, t0_ns, now_ns) if self._mig else self._of_processes(t0_ns, now_ns)
        if usage is not None:
            self._t0_ns = now_ns
        return usage

    def close(self) -> None:
        """Let go of what the driver allocated; a second call does nothing."""
        if self._mig is not None:
            self._mig.close()
            self._mig = None

    def _look(self, now_ns: int) -> None:
        """Look who holds the GPU, and whether it is cut into instances."""
        self._list_ns = now_ns + LIST_NS + self._turn_ns
        self._turn_ns = 0
        is_mig = self._ask_mode(now_ns) and bool(self._mode[0].value)
        if is_mig and self._mig is None:
            self._mig = MigUse(self._session, self._handle, self._pid_max)
        elif not is_mig and self._mig is not None:
            self.close()
            self._is_sampled = False
        if not is_mig:
            listed = self._list.read(now_ns)
            self._pids = None if listed is None else frozenset(pid for pid, _ in listed)

    def _of_mig(self, mig: MigUse, t0_ns: int, now_ns: int) -> Usage | None:
        mig.look(now_ns)
        if now_ns - t0_ns < QUIET_NS:
            return None
        shares = mig.read(now_ns)
        return Usage(t0_ns, now_ns, self._device, shares.ratios, 0.0, shares.unknown)

    def _of_processes(self, t0_ns: int, now_ns: int) -> Usage | None:
        sampled = self._sampled(now_ns)
        if not sampled and now_ns - t0_ns < QUIET_NS:
            return None
        if sampled is None:
            return self._by_utilization(t0_ns, now_ns)
        if not sampled:
            self._use.quiet((now_ns - t0_ns) // _NS_PER_US)
        ratios = dict.fromkeys(self._pids or (), 0.0) | dict(sampled)
        unknown = ratios.pop(UNKNOWN_PID, 0.0)
        return Usage(t0_ns, now_ns, self._device, ratios, 0.0, unknown)

    def _sampled(self, now_ns: int) -> Mapping[int, float] | None:
        """Return the use by the driver's samples, empty without a new one, None where it has none to give."""
        if now_ns < self._retry_use_ns:
            return None
        if not self._is_sampled and self._use.begin():
            self._is_sampled = True  # from now on: the samples of before are not of this window
            return None
        sampled = self._use.read() if self._is_sampled else None
        if sampled is None:
            self._is_sampled = False
            self._retry_use_ns = now_ns + ASK_AGAIN_NS
        return sampled

    def _by_utilization(self, t0_ns: int, now_ns: int) -> Usage:
        """Give the GPU's own utilisation to the one process that holds it; of several nobody can say who it was."""
        pids = self._pids
        busy = self._condition.utilization_ratio(now_ns)
        if pids is not None and not pids:
            return Usage(t0_ns, now_ns, self._device, {}, 0.0, busy or 0.0)
        if pids is not None and len(pids) == 1 and busy is not None:
            return Usage(t0_ns, now_ns, self._device, {next(iter(pids)): busy}, 0.0)
        return Usage(t0_ns, now_ns, self._device, dict.fromkeys(pids or (), 0.0), 0.0, 1.0 if busy is None else busy)
