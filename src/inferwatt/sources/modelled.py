"""The CPU's power by a model, where no counter can be read: a virtual machine, a container, a laptop without rights.

    watts = n * idle + (full - idle) * busy seconds of all n logical CPUs per second
          = n * (idle + (full - idle) * utilisation)

`idle` and `full` are watts per logical CPU of this microarchitecture (coefficients.py names the publication of each
row and what it leaves out), `n` is how many logical CPUs this host shows, so a virtual machine gets its share of the
real one. Busy is user + nice + system + irq + softirq: time stolen by the hypervisor is somebody else's. Which
processor it is says CPUID, else the cloud's instance type, which also tells where a logical CPU is a whole core
(instances.py).

Known errors, all in ``systematic_ratio``, +-40% at the very least: the line is straight where servers are not, the
load was Java and not matrix products, a thread is taken for half a core, the frequency is not known. An unknown
processor gets an interval over the rows that it could be, never a default in disguise.

Not modelled: DRAM, since the coefficients are those of whole servers with their memory in them; and a GPU, since its
use cannot be known without its driver, and anything between idle and its limit is not a figure.

The sum is exact: both terms are integers in femtojoules (µW times ns), and the remainder below a microjoule is carried.
"""

import os
import platform
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from inferwatt.records import Component, Device, Provenance, Reading
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.cloud import Instance, recognise
from inferwatt.sources.coefficients import PUBLICATION, Coefficients, Cpu, coefficients, describe_cpuinfo
from inferwatt.sources.instances import series_of
from inferwatt.sources.procfs import HostTime
from inferwatt.units import NS_PER_SECOND

DEVICE = "cpu"
PERIOD_NS = 100_000_000
"""The kernel counts CPU time in steps of 10 ms: shorter readings would be mostly rounding."""
FJ_PER_UJ = 1_000_000_000
_GPU_VENDORS = frozenset({"0x10de", "0x1002"})
_GPU_CLASSES = ("0x03", "0x12")
"""Display controllers and processing accelerators (PCI Code and ID Assignment Specification)."""


class BusyTime(Protocol):
    """Where the host's busy time comes from: /proc/stat, psutil, or a test."""

    def busy_ns(self) -> int:
        """Return the busy time of all logical CPUs together, cumulative nanoseconds."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class ModelledCpu:
    """A counter in µJ that a model drives; it starts at zero with the first read."""

    name = "modelled"
    period_ns = PERIOD_NS

    def __init__(self, cpu: Cpu, logical_cpus: int, table: Coefficients, host: BusyTime, where: str = "") -> None:
        self._host = host
        self._idle_uw = table.idle_uw * logical_cpus
        self._busy_uw = table.full_uw - table.idle_uw
        self._last_ns: int | None = None
        self._last_busy_ns = 0
        self._energy_fj = 0
        self.device = Device(
            device=DEVICE,
            kind=", ".join(filter(None, (table.kind, f"{logical_cpus} logical CPUs", where))),
            domain="package",
            component=Component.CPU,
            provenance=Provenance.MODELLED,
            systematic_ratio=table.systematic_ratio,
            idle_watts=self._idle_uw / 1e6,
            max_watts=table.full_uw * logical_cpus / 1e6,
            vendor=cpu.vendor,
            model=cpu.name,
            driver=PUBLICATION,
            source=self.name,
        )

    def read(self, now_ns: int) -> Reading:
        """Return the modelled counter at `now_ns`; SourceRetry where the busy time cannot be read."""
        busy_ns = self._host.busy_ns()
        if self._last_ns is None:
            self._last_ns, self._last_busy_ns = now_ns, busy_ns
        elapsed_ns = max(0, now_ns - self._last_ns)
        # the kernel's busy time can step back a little (a CPU taken off line): never count a negative or twice
        worked_ns = max(0, busy_ns - self._last_busy_ns)
        self._last_ns += elapsed_ns
        self._last_busy_ns += worked_ns
        self._energy_fj += self._idle_uw * elapsed_ns + self._busy_uw * worked_ns
        return Reading(now_ns, DEVICE, self._energy_fj // FJ_PER_UJ)

    def close(self) -> None:
        """Close what gives the busy time."""
        self._host.close()


class PsutilTime:
    """Busy time by psutil, where there is no /proc."""

    def __init__(self) -> None:
        """Import psutil, which comes with inferwatt on macOS and Windows; ImportError where it is missing."""
        import psutil

        self._cpu_times = psutil.cpu_times

    def busy_ns(self) -> int:
        """Return the busy time of all logical CPUs together since boot, nanoseconds."""
        times = self._cpu_times()
        names = ("user", "nice", "system", "irq", "softirq")
        return round(sum(getattr(times, name, 0.0) for name in names) * NS_PER_SECOND)

    def close(self) -> None:
        """Nothing to close."""


def discover(settings: SourcesConfig) -> Found:
    """Return the modelled CPU of this host; a processor without a row in the table is also named as a lack."""
    try:
        cpu, logical_cpus, host = _host(settings)
    except (OSError, ImportError) as exc:
        what = f"the CPU cannot be modelled: {exc}"
        return Found(lacks=(Lack(what, settings.proc_root, "pip install psutil", ModelledCpu.name, Component.CPU),))
    instance = recognise(settings.sysfs_root, is_guest=cpu.is_guest, may_ask=settings.cloud_metadata)
    series = series_of(instance)
    table = coefficients(cpu, series.microarchitecture)
    lacks = [] if table.known else [_unknown(cpu, table)]
    if series.accelerator and not _sees_accelerators(Path(settings.sysfs_root)):
        lacks.append(_unseen(instance, series.accelerator))
    table = replace(table, idle_uw=table.idle_uw * series.threads, full_uw=table.full_uw * series.threads)
    return Found((ModelledCpu(cpu, logical_cpus, table, host, instance.name),), tuple(lacks))


def _host(settings: SourcesConfig) -> tuple[Cpu, int, BusyTime]:
    if sys.platform != "linux":
        return identify(platform.processor()), os.cpu_count() or 1, PsutilTime()
    text = (Path(settings.proc_root) / "cpuinfo").read_text()
    logical_cpus = len(re.findall(r"^processor\s*:", text, re.MULTILINE))
    return describe_cpuinfo(text), logical_cpus or os.cpu_count() or 1, HostTime(settings.proc_root)


def identify(text: str) -> Cpu:
    """Return the processor that `platform.processor` names, as Windows does.

    For example ``AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD``; elsewhere only the name is kept.
    """
    match = re.search(r"Family (\d+) Model (\d+) Stepping (\d+), (\w+)", text)
    if match is None:
        return Cpu(name=text)
    family, model, stepping = (int(number) for number in match.groups()[:3])
    return Cpu(match[4], family, model, stepping, text)


def _sees_accelerators(sysfs_root: Path) -> bool:
    """Return whether a GPU of NVIDIA or AMD is on the PCI bus: then its own source says what there is to say."""
    return any(
        _text(function / "vendor") in _GPU_VENDORS and _text(function / "class").startswith(_GPU_CLASSES)
        for function in sysfs_root.glob("bus/pci/devices/*")
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _unseen(instance: Instance, accelerator: str) -> Lack:
    return Lack(
        what=f"{instance.name} has {accelerator} that cannot be seen from here; without their use there is no figure",
        where="/sys/bus/pci/devices",
        fix="give the agent /sys and the devices: docker run --gpus all -v /sys:/sys:ro",
        source=ModelledCpu.name,
        component=Component.ACCELERATOR,
    )


def _unknown(cpu: Cpu, table: Coefficients) -> Lack:
    return Lack(
        what=f"no published power for this processor: an interval of +-{table.systematic_ratio:.0%} is used",
        where=f"{cpu.vendor or 'unknown vendor'} family {cpu.family} model {cpu.model} {cpu.name}".strip(),
        fix="none needed; open an issue with these numbers, or measure with RAPL on bare metal",
        source=ModelledCpu.name,
        component=Component.CPU,
    )
