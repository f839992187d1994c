"""Which processes hold a GPU, and how much of it each one used, by what the driver itself samples.

Traps that are handled here, each seen on real drivers:

- ``nvmlProcessInfo_t`` changed its size without a new name in drivers 530 to 534 (nvitop issues 75 and 226): entries
  after the first are shifted garbage. Without MIG all entries name the same (no) instance: one that names another is
  dropped, and so is a pid above the kernel's ``pid_max``.
- ``nvmlDeviceGetProcessUtilization`` takes and gives **microseconds**, and returns samples, not a mean: the whole
  history for 0, several for each pid, none for a process that did nothing. NOT_FOUND means that nobody did anything.
- A sample can claim more than 100% or name no process (zombies; nvtop issue 110): that use is unknown, never smeared.
"""

import ctypes
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from inferwatt.sources.nvml_api import Call, Handle, Session
from inferwatt.sources.nvml_condition import ASK_AGAIN_NS
from inferwatt.sources.nvml_errors import INSUFFICIENT_SIZE, NOT_FOUND, SUCCESS

_LISTS = (
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
)
_SELDOM = 5
"""The compute list is read each time, the others each fifth: clients of MPS are in the first one too."""
_ROOM, _MOST = 32, 4096
_SAME_INSTANT_US = 20_000
"""Samples of one instant carry stamps some µs apart; the driver samples at most every 1/6 s."""
LONGEST_PERIOD_US = 1_000_000
_SHORTEST_PERIOD_US = 50_000
_GAPS_KEPT = 32
_ONE_PERIOD = 1.5
"""A gap of up to so many periods is one period that came late."""
UNKNOWN_PID = -1


class _Entry(ctypes.Structure):
    """nvmlProcessInfo_v2_t, which v3 is too: 24 bytes."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used_bytes", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class _Sample(ctypes.Structure):
    """nvmlProcessUtilizationSample_t: 32 bytes."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("time_us", ctypes.c_ulonglong),
        ("sm", ctypes.c_uint),
        ("memory", ctypes.c_uint),
        ("encoder", ctypes.c_uint),
        ("decoder", ctypes.c_uint),
    )


@dataclass(frozen=True, slots=True)
class Use:
    """One sample: how much of the GPU a process used until `time_us` of the driver's clock."""

    time_us: int
    pid: int
    ratio: float


@dataclass(frozen=True, slots=True)
class Shares:
    """The mean use by pid since it was last asked, until when that is known, and the last gaps between samples."""

    ratios: Mapping[int, float]
    until_us: int
    gaps_us: tuple[int, ...] = ()

    @property
    def period_us(self) -> int:
        """How often the driver samples: a low quartile of the gaps, as some span time in which nobody did anything."""
        if not self.gaps_us:
            return LONGEST_PERIOD_US
        quartile_us = sorted(self.gaps_us)[len(self.gaps_us) // 4]
        return min(max(quartile_us, _SHORTEST_PERIOD_US), LONGEST_PERIOD_US)


class ProcessList:
    """The processes on a GPU or a MIG device: those that compute, draw, or compute under MPS."""

    def __init__(self, session: Session, handle: Handle, pid_max: int, *, mig: bool = False) -> None:
        self._handle = handle
        self._pid_max = pid_max
        self._mig = mig
        self._calls: list[Call] = [session.bind(name) for name in _LISTS]
        self._retry_ns = [0] * len(_LISTS)
        self._found: list[frozenset[tuple[int, int]] | None] = [None] * len(_LISTS)
        self._reads = 0
        self._entries = (_Entry * _ROOM)()

    def read(self, now_ns: int) -> frozenset[tuple[int, int]] | None:
        """Return (pid, GPU instance) of each process, None where the driver lists none of the kinds."""
        for at in range(1 if self._reads % _SELDOM else len(_LISTS)):
            if now_ns >= self._retry_ns[at]:
                self._look(at, now_ns)
        self._reads += 1
        known = [found for found in self._found if found is not None]
        return frozenset[tuple[int, int]]().union(*known) if known else None

    def _look(self, at: int, now_ns: int) -> None:
        entries = self._ask(self._calls[at])
        if entries is None:
            self._retry_ns[at] = now_ns + ASK_AGAIN_NS
            self._found[at] = None
        else:
            self._found[at] = frozenset(_sound(entries, self._pid_max, mig=self._mig))

    def _ask(self, call: Call) -> Sequence[_Entry] | None:
        count = ctypes.c_uint(len(self._entries))
        code = call(self._handle, ctypes.byref(count), self._entries)
        if code == INSUFFICIENT_SIZE and count.value < _MOST:
            self._entries = (_Entry * (2 * count.value + 5))()
            count.value = len(self._entries)
            code = call(self._handle, ctypes.byref(count), self._entries)
        return self._entries[: count.value] if code == SUCCESS else None


def _sound(entries: Sequence[_Entry], pid_max: int, *, mig: bool) -> Iterable[tuple[int, int]]:
    """Yield the entries that can be one; the first is never shifted, so without MIG each must name what it names."""
    first = (entries[0].gpu_instance, entries[0].compute_instance) if entries else ()
    for entry in entries:
        is_like_first = (entry.gpu_instance, entry.compute_instance) == first
        if 0 < entry.pid <= pid_max and (mig or is_like_first):
            yield entry.pid, entry.gpu_instance


class ProcessUse:
    """What each process used of a GPU since it was last asked."""

    def __init__(self, session: Session, handle: Handle, pid_max: int) -> None:
        self._handle = handle
        self._pid_max = pid_max
        self._call = session.bind("nvmlDeviceGetProcessUtilization")
        self._samples = (_Sample * _ROOM)()
        self._last_seen_us = ctypes.c_ulonglong(0)
        self._shares: Shares | None = None

    def begin(self) -> bool:
        """Leave the history of before behind; return whether the GPU samples its processes at all."""
        uses = self._ask()
        self._shares = Shares({}, int(self._last_seen_us.value))
        return uses is not None

    def read(self) -> Mapping[int, float] | None:
        """Return the mean use since the last answer, empty where the driver has no new sample, None on a failure."""
        uses = self._ask()
        if not uses or self._shares is None:
            return uses if uses is None else {}
        self._shares = integrated(uses, self._shares)
        return self._shares.ratios

    def quiet(self, elapsed_us: int) -> None:
        """Take note that nobody did anything for so long, as no sample came."""
        if self._shares is not None and self._shares.until_us:
            self._shares = Shares({}, self._shares.until_us + elapsed_us, self._shares.gaps_us)

    def _ask(self) -> list[Use] | None:
        """Return the samples since the last ones; None where the call fails."""
        count = ctypes.c_uint(len(self._samples))
        code = self._call(self._handle, self._samples, ctypes.byref(count), self._last_seen_us)
        if code == INSUFFICIENT_SIZE:
            code = self._call(self._handle, None, ctypes.byref(count), self._last_seen_us)
            if code == INSUFFICIENT_SIZE and count.value <= _MOST:
                self._samples = (_Sample * (2 * count.value + 5))()
                count.value = len(self._samples)
                code = self._call(self._handle, self._samples, ctypes.byref(count), self._last_seen_us)
        if code == NOT_FOUND:
            return []
        if code != SUCCESS:
            return None
        uses = [self._use(sample) for sample in self._samples[: count.value]]
        self._last_seen_us.value = max([self._last_seen_us.value, *(use.time_us for use in uses)])
        return uses

    def _use(self, sample: _Sample) -> Use:
        is_sound = 0 < sample.pid <= self._pid_max and sample.sm <= 100
        return Use(sample.time_us, sample.pid if is_sound else UNKNOWN_PID, min(sample.sm, 100) / 100)


def integrated(uses: Collection[Use], before: Shares) -> Shares:
    """Return the mean use by pid from where `before` ends to the newest sample, weighted by time.

    A sample says what was used in the driver's own sample period before it; who did nothing in a period has no sample.
    So an instant counts for one period, and what lies between is time in which nobody did anything.

    Args:
        uses: the samples, at least one.
        before: the answer before; its `until_us` is 0 where nothing is known yet.
    """
    instants = _instants(uses)
    times_us = [time_us for time_us, _ in instants]
    since_us = before.until_us or times_us[0] - before.period_us
    spans_us = [after - earlier for earlier, after in zip([since_us, *times_us], times_us, strict=False)]
    gaps_us = (*before.gaps_us, *(span_us for span_us in spans_us if span_us > 0))[-_GAPS_KEPT:]
    period_us = Shares({}, 0, gaps_us).period_us
    used_us: dict[int, float] = {}
    for span_us, (_, ratios) in zip(spans_us, instants, strict=True):
        weight_us = span_us if 0 < span_us <= _ONE_PERIOD * period_us else period_us
        for pid, ratio in ratios.items():
            used_us[pid] = used_us.get(pid, 0.0) + ratio * weight_us
    whole_us = times_us[-1] - since_us if spans_us[0] > 0 else max(times_us[-1] - since_us, period_us)
    newest_us = max(use.time_us for use in uses)
    beyond = max(sum(used_us.values()) / whole_us, 1.0)
    shares = {pid: used / whole_us / beyond for pid, used in used_us.items()}
    return Shares(shares, max(newest_us, before.until_us), gaps_us)


def _instants(uses: Iterable[Use]) -> list[tuple[int, dict[int, float]]]:
    """Return the samples by instant: the stamps of one are some µs apart."""
    instants: list[tuple[int, dict[int, float]]] = []
    for use in sorted(uses, key=lambda use: use.time_us):
        if not instants or use.time_us - instants[-1][0] >= _SAME_INSTANT_US:
            instants.append((use.time_us, {}))
        ratios = instants[-1][1]
        known = use.pid != UNKNOWN_PID
        ratios[use.pid] = use.ratio if known else min(ratios.get(use.pid, 0.0) + use.ratio, 1.0)
    return instants
