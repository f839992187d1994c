"""NVIDIA GPUs by NVML: the driver's own energy counter where there is one, else its power, integrated later.

Read in NVIDIA's words (nvml.h): ``nvmlDeviceGetTotalEnergyConsumption`` counts millijoules since the driver was loaded,
in 64 bits, on Volta and newer. It never wraps in practice, so every decrease is a reset; the timeline says so. Where it
is not supported the newest power is read: instant (field 186), else the average of a second (185), else
``nvmlDeviceGetPowerUsage``; each field has a return code of its own, and a 0 beside an error is no power.

**Domain.** On a superchip (GH200, GB200) the counter was found to cover the whole module, Grace and its memory included
(ml-energy/zeus pull request 172). Its GPU alone is read where one of its counters is below that of the scope MODULE;
else the domain is ``module``, and no CPU or DRAM of that module may be added to it. Everywhere else it is ``gpu``.

A GPU that is lost, or whose driver was loaded anew, is `SourceGone`; the search finds it again by its UUID, with NVML
initialized anew where that is needed. Processes and condition of a GPU come with the reading, when they are due.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Condition, Device, Provenance, Reading, Usage
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.nvml_api import SESSION, Handle, NoBinding, NvmlError, Session
from inferwatt.sources.nvml_condition import PERIOD_NS as CONDITION_NS
from inferwatt.sources.nvml_condition import ConditionReader
from inferwatt.sources.nvml_errors import failure, meaning
from inferwatt.sources.nvml_meters import Meter, choose, max_watts
from inferwatt.sources.nvml_products import peak, systematic_ratio
from inferwatt.sources.nvml_signs import SOURCE, gpu_lack, no_binding, not_opened, signs
from inferwatt.sources.nvml_usage import PERIOD_NS as USAGE_NS
from inferwatt.sources.nvml_usage import Gpu, UsageReader
from inferwatt.units import NS_PER_MS

PERIOD_NS = 10 * NS_PER_MS
"""The counter was seen to move every 10 to 100 ms (gpuopenanalytics/pynvml 18, kokkos-tools 295); never faster."""
LASTING = 30
"""After so many failed reads in a row an error that could have passed has not: the GPU is gone, and looked for."""
_PID_MAX = 4_194_304
_SEARCHES_APART = 64


class NvmlGpu:
    """One open GPU. It only reads: the timeline tells reset from stall."""

    name = SOURCE
    period_ns = PERIOD_NS

    def __init__(self, session: Session, handle: Handle, gpu: Gpu, meter: Meter) -> None:
        self.device = gpu.device
        self.index = gpu.index
        self.busy = False
        self._session = session
        self._gpu = gpu
        self._meter = meter
        self._failures = 0
        self._due_ns = self._usage_ns = self._condition_ns = 0
        self._is_open = True
        self._open(handle)
        session.join(self)

    def read(self, now_ns: int) -> Reading | tuple[Reading | Usage | Condition, ...]:
        """Return the counter (or power) at `now_ns`, with the shares of processes and the condition when they are due.

        Raises:
            SourceRetry: the driver did not answer this time.
            SourceGone: the GPU is lost, or the driver was unloaded.
        """
        self.busy = True
        try:
            reading = self._measure(now_ns)
            self._failures = 0
            return reading if now_ns < self._due_ns else self._with_more(reading, now_ns)
        except NvmlError as exc:
            raise self._failed(exc.code) from exc
        finally:
            self.busy = False

    def close(self) -> None:
        """Let go of NVML; a second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._usage.close()
            self._session.leave(self)

    def rebind(self) -> None:
        """Take a new handle of the same GPU: NVML was initialized anew. A lost one is told by the next read."""
        self._usage.close()
        self._open(self._session.handle_of(self.device.uuid))

    def _open(self, handle: Handle) -> None:
        name = self.device.device
        self._meter.bind(self._session, handle)
        self._measure = self._meter.read
        self._condition = ConditionReader(self._session, handle, name)
        self._usage = UsageReader(self._session, handle, self._gpu, self._condition)

    def _with_more(self, reading: Reading, now_ns: int) -> Reading | tuple[Reading | Usage | Condition, ...]:
        """Return what else is due: of all GPUs in the same beat, where each after the first costs a quarter of it."""
        if not self._due_ns:
            self._usage_ns = self._condition_ns = now_ns
        said: list[Reading | Usage | Condition] = [reading]
        if now_ns >= self._usage_ns:
            self._usage_ns = _next(self._usage_ns, USAGE_NS, now_ns)
            usage = self._usage.read(now_ns)
            if usage is not None:
                said.append(usage)
        if now_ns >= self._condition_ns:
            self._condition_ns = _next(self._condition_ns, CONDITION_NS, now_ns)
            said.append(self._condition.read(now_ns))
        self._due_ns = min(self._usage_ns, self._condition_ns)
        return tuple(said) if len(said) > 1 else reading

    def _failed(self, code: int) -> SourceRetry | SourceGone:
        self._failures += 1
        return failure(code, self.device.device, self._gpu.index, SOURCE, lasting=self._failures >= LASTING)


def _next(due_ns: int, period_ns: int, now_ns: int) -> int:
    """Return the first multiple of the period after `due_ns` that is still to come."""
    return due_ns + period_ns * ((now_ns - due_ns) // period_ns + 1)


def discover(settings: SourcesConfig) -> Found:
    """Return the GPUs that can be read; each one that is there but cannot be is a lack that says why."""
    return find(settings, SESSION)


def find(settings: SourcesConfig, session: Session, *, dev_root: str = "/dev") -> Found:
    """Return the GPUs of a session; see `discover`."""
    there = signs(settings.sysfs_root, dev_root)
    if not there:
        return Found()
    try:
        session.open()
    except NoBinding as exc:
        return Found(lacks=(no_binding(exc, there),))
    except NvmlError as exc:
        return Found(lacks=(not_opened(exc, there, settings.proc_root),))
    try:
        found = _gpus(session, settings)
        if _is_missing(session, found) and _may_restart(session):
            for source in found.sources:
                source.close()
            session.restart()
            found = _gpus(session, settings)
        return found
    finally:
        session.close()


def _is_missing(session: Session, found: Found) -> bool:
    """Tell whether a GPU that was read before is not there now, and count the searches that ended so."""
    missing = session.names.keys() - {source.device.uuid for source in found.sources}
    session.searches = session.searches + 1 if missing else 0
    return bool(missing)


def _may_restart(session: Session) -> bool:
    """Tell whether it is time to initialize NVML anew: at the 1st, 2nd, 4th, ... search in vain, then at each 64th.

    It can take a second on a machine with eight GPUs, during which none is read.
    """
    searches = session.searches
    return searches & (searches - 1) == 0 or searches % _SEARCHES_APART == 0


def _gpus(session: Session, settings: SourcesConfig) -> Found:
    """Open every GPU and read it once."""
    sources: list[NvmlGpu] = []
    reasons: list[tuple[str, str, str]] = []
    pid_max = _pid_max(settings.proc_root)
    try:
        count = session.count()
    except NvmlError as exc:
        means = meaning(exc.code)
        return Found(lacks=(gpu_lack("no NVIDIA GPU can be read", means.what, means.fix.format(index=0)),))
    for index in sorted(set(range(count)) - session.in_flight()):
        try:
            sources.append(_opened(session, index, pid_max))
        except NvmlError as exc:
            means = meaning(exc.code)
            reasons.append((f"gpu-{index}", f"cannot be read: {means.what}", means.fix.format(index=index)))
    return Found(tuple(sources), (*_together(reasons), *_persistence(session, sources)))


def _opened(session: Session, index: int, pid_max: int) -> NvmlGpu:
    handle = session.handle(index)
    uuid = session.text("nvmlDeviceGetUUID", handle)
    device = _name(session, uuid, index)
    meter = choose(session, handle, device)
    described = _describe(session, handle, device, uuid, meter)
    session.names[uuid] = device
    return NvmlGpu(session, handle, Gpu(index, described, pid_max), meter)


def _describe(session: Session, handle: Handle, device: str, uuid: str, meter: Meter) -> Device:
    product = session.text("nvmlDeviceGetName", handle)
    rates = peak(product)
    return Device(
        device=device,
        kind=product,
        domain=meter.domain,
        provenance=meter.provenance,
        systematic_ratio=systematic_ratio(product, integrated=meter.provenance is Provenance.SAMPLED),
        peak_flops=rates.flops if rates else None,
        peak_bytes_per_second=rates.bytes_per_second if rates else None,
        max_watts=max_watts(session, handle, meter.domain),
        vendor="NVIDIA",
        model=product.removeprefix("NVIDIA "),
        driver=session.text("nvmlSystemGetDriverVersion"),
        uuid=uuid,
        source=SOURCE,
    )


def _name(session: Session, uuid: str, index: int) -> str:
    """Return the GPU's name: the one that it had before, else that of its index, else the first that is free."""
    known = session.names.get(uuid)
    if known is not None:
        return known
    taken = set(session.names.values())
    return next(name for number in (index, *range(len(taken) + 1)) if (name := f"gpu-{number}") not in taken)


def _together(reasons: Iterable[tuple[str, str, str]]) -> Iterator[Lack]:
    """Yield one lack for all GPUs that have the same trouble and the same remedy."""
    devices: dict[tuple[str, str], list[str]] = {}
    for device, what, fix in reasons:
        devices.setdefault((what, fix), []).append(device)
    for (what, fix), names in devices.items():
        yield gpu_lack(", ".join(names), what, fix)


def _persistence(session: Session, sources: Iterable[NvmlGpu]) -> Iterator[Lack]:
    off = [
        source.device.device
        for source in sources
        if session.number("nvmlDeviceGetPersistenceMode", session.handle_of(source.device.uuid)) == 0
    ]
    if off:
        what = "persistence mode is off: the counter may begin anew whenever nobody holds the GPU"
        yield gpu_lack(", ".join(off), what, "sudo nvidia-smi -pm 1")


def _pid_max(proc_root: str) -> int:
    """Return the highest pid that the kernel gives: what is above it in a driver's answer is no process."""
    try:
        return int((Path(proc_root) / "sys" / "kernel" / "pid_max").read_text())
    except (OSError, ValueError):
        return _PID_MAX
