"""Who uses a GPU that is cut into MIG instances: the size of a slice times how active it was (GPM, Hopper and newer).

The driver samples no processes under MIG, and its energy counter is the whole GPU's. What it has is GPM: counters of
each GPU instance, read twice at least 100 ms apart (nvml.h, nvmlGpmMigSampleGet). So an instance used

    slices / all slices x activity

of the GPU, which belongs to its process if it has exactly one. Of an instance with several nobody can say who it was:
that is `unknown`, as is everything before Hopper or where GPM is not allowed. The idle rest of a slice is nobody's use.

Each look-up of a MIG device takes 50 to 100 ms (Kepler, docs/developer/proposal/mig-power-attribution.md), so that one
index is looked at in each call, never all seven.
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inferwatt.sources.nvml_api import Handle, Session
from inferwatt.sources.nvml_errors import SUCCESS
from inferwatt.sources.nvml_processes import ProcessList
from inferwatt.units import NS_PER_SECOND

LOOK_NS = NS_PER_SECOND
"""How often one index is looked at, once all were."""
_PROFILES = 0x12
_SM_UTIL, _GRAPHICS_UTIL = 2, 1
_VERSION = 1


@dataclass(slots=True)
class _Seen:
    """What was last found at one index: the GPU instance, its slices, and its processes by its own list."""

    gpu_instance: int
    slices: int
    pids: frozenset[int]


@dataclass(slots=True)
class _Gauge:
    """The GPM samples of one GPU instance: the one before and the one that is written next."""

    before: ctypes.c_void_p
    after: ctypes.c_void_p
    before_ns: int = 0


@dataclass(frozen=True, slots=True)
class MigShares:
    """Use by pid as a ratio of the whole GPU, what cannot be told apart, and every process that holds an instance."""

    ratios: Mapping[int, float] = field(default_factory=dict)
    unknown: float = 0.0


class MigUse:
    """Reads the instances of one GPU."""

    def __init__(self, session: Session, handle: Handle, pid_max: int) -> None:
        self._session = session
        self._handle = handle
        self._pid_max = pid_max
        self._list = ProcessList(session, handle, pid_max, mig=True)
        self._indices = session.number("nvmlDeviceGetMaxMigDeviceCount", handle) or 0
        self._all_slices = _all_slices(session, handle)
        self._at = 0
        self._look_ns = 0
        self._was_round = False
        self._seen: dict[int, _Seen] = {}
        self._gauges: dict[int, _Gauge] = {}
        self._sample = session.bind("nvmlGpmMigSampleGet")
        self._metrics = session.bind("nvmlGpmMetricsGet")
        self._asked: Any = _asked(session) if self._is_supported() else None

    def look(self, now_ns: int) -> None:
        """Look at the next index, if it is time."""
        if now_ns < self._look_ns or not self._indices:
            return
        found = self._found(self._at, now_ns)
        if found is None:
            self._seen.pop(self._at, None)
        else:
            self._seen[self._at] = found
        self._at = (self._at + 1) % self._indices
        self._was_round |= self._at == 0
        self._look_ns = now_ns + LOOK_NS if self._was_round else 0

    def read(self, now_ns: int) -> MigShares:
        """Return who used the GPU since the last read; before every index was seen once, nobody can say."""
        listed = self._list.read(now_ns)
        processes = self._by_instance(listed)
        everyone = {pid: 0.0 for pids in processes.values() for pid in pids}
        if not self._was_round or self._asked is None or not self._all_slices:
            is_idle = self._was_round and listed is not None and not everyone
            return MigShares(everyone, 0.0 if is_idle else 1.0)
        return self._shared(now_ns, processes, everyone)

    def close(self) -> None:
        """Free the samples; a second call does nothing."""
        for gauge in self._gauges.values():
            self._free(gauge)
        self._gauges = {}

    def _shared(self, now_ns: int, processes: Mapping[int, frozenset[int]], ratios: dict[int, float]) -> MigShares:
        unknown = 0.0
        slices = {seen.gpu_instance: seen.slices for seen in self._seen.values()}
        for gone in self._gauges.keys() - slices.keys():
            self._free(self._gauges.pop(gone))
        for gpu_instance, count in slices.items():
            activity = self._activity(gpu_instance, now_ns)
            part = count / self._all_slices
            pids = processes.get(gpu_instance, frozenset())
            if activity is None:
                unknown += part if pids else 0.0
            elif len(pids) == 1:
                ratios[next(iter(pids))] += part * activity
            else:
                unknown += part * activity
        return MigShares(ratios, min(unknown, 1.0))

    def _by_instance(self, listed: frozenset[tuple[int, int]] | None) -> dict[int, frozenset[int]]:
        """Return the processes of each GPU instance: by the GPU's list where we may see it, else by the instances'."""
        if listed:
            instances = {instance for _, instance in listed}
            return {one: frozenset(pid for pid, of in listed if of == one) for one in instances}
        processes: dict[int, frozenset[int]] = {}
        for seen in self._seen.values():
            processes[seen.gpu_instance] = processes.get(seen.gpu_instance, frozenset()) | seen.pids
        return processes

    def _found(self, at: int, now_ns: int) -> _Seen | None:
        """Return what is at one index, None where nothing is."""
        handle = Handle()
        code = self._session.bind("nvmlDeviceGetMigDeviceHandleByIndex")(
            self._handle, ctypes.c_uint(at), ctypes.byref(handle)
        )
        if code != SUCCESS:
            return None
        gpu_instance = self._session.number("nvmlDeviceGetGpuInstanceId", handle)
        attributes = self._session.binding.c_nvmlDeviceAttributes()
        code = self._session.bind("nvmlDeviceGetAttributes_v2")(handle, ctypes.byref(attributes))
        if gpu_instance is None or code != SUCCESS:
            return None
        pids = ProcessList(self._session, handle, self._pid_max, mig=True).read(now_ns) or frozenset()
        return _Seen(gpu_instance, int(attributes.gpuInstanceSliceCount), frozenset(pid for pid, _ in pids))

    def _is_supported(self) -> bool:
        support = self._session.binding.c_nvmlGpmSupport_t()
        support.version = _VERSION
        code = self._session.bind("nvmlGpmQueryDeviceSupport")(self._handle, ctypes.byref(support))
        return code == SUCCESS and bool(support.isSupportedDevice)

    def _activity(self, gpu_instance: int, now_ns: int) -> float | None:
        """Return how active an instance was since the last sample, a second ago; None where that is not known."""
        gauge = self._gauges.get(gpu_instance)
        if gauge is None:
            gauge = self._gauges[gpu_instance] = _Gauge(self._allocated(), self._allocated())
        if not gauge.after or self._sample(self._handle, ctypes.c_uint(gpu_instance), gauge.after) != SUCCESS:
            gauge.before_ns = 0
            return None
        had_before = bool(gauge.before_ns)
        activity = self._measured(gauge) if had_before else None
        gauge.before, gauge.after, gauge.before_ns = gauge.after, gauge.before, now_ns
        return activity

    def _measured(self, gauge: _Gauge) -> float | None:
        asked = self._asked
        asked.sample1 = ctypes.cast(gauge.before, type(asked.sample1))
        asked.sample2 = ctypes.cast(gauge.after, type(asked.sample2))
        if self._metrics(ctypes.byref(asked)) != SUCCESS:
            return None
        for at in range(asked.numMetrics):
            metric = asked.metrics[at]
            if metric.nvmlReturn == SUCCESS and 0.0 <= metric.value <= 100.5:
                return min(float(metric.value) / 100, 1.0)
        return None

    def _allocated(self) -> ctypes.c_void_p:
        sample = ctypes.c_void_p()
        self._session.bind("nvmlGpmSampleAlloc")(ctypes.byref(sample))
        return sample

    def _free(self, gauge: _Gauge) -> None:
        for sample in (gauge.before, gauge.after):
            self._session.bind("nvmlGpmSampleFree")(sample)


def _all_slices(session: Session, handle: Handle) -> int:
    """Return how many slices the whole GPU has: those of its largest profile; 0 where it does not say."""
    info = session.binding.c_nvmlGpuInstanceProfileInfo_t()
    call = session.bind("nvmlDeviceGetGpuInstanceProfileInfo")
    sizes = [
        int(info.sliceCount)
        for profile in range(_PROFILES)
        if call(handle, ctypes.c_uint(profile), ctypes.byref(info)) == SUCCESS
    ]
    return max(sizes, default=0)


def _asked(session: Session) -> Any:  # noqa: ANN401 - a structure of the untyped binding
    asked = session.binding.c_nvmlGpmMetricsGet_t()
    asked.version = _VERSION
    asked.numMetrics = 2
    asked.metrics[0].metricId, asked.metrics[1].metricId = _SM_UTIL, _GRAPHICS_UTIL
    return asked
