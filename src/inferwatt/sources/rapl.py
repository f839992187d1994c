"""RAPL by powercap: package and DRAM energy in µJ, counted by the processor itself.

Read in the kernel's own words (Documentation/power/powercap/powercap.rst, ABI/testing/sysfs-class-powercap,
drivers/powercap/intel_rapl_common.c):

- ``energy_uj`` is the counter, ``max_energy_range_uj`` the highest value that it can show. So it takes
  ``max_energy_range_uj + 1`` values, which is our ``wraps_at_uj``. The hardware counts 2^32 units and the kernel shows
  ``(2^32 - 1)`` of them as the range, so the exact modulus is one unit above the range: each wrap loses up to one unit
  (61 µJ of 262 kJ for the usual 2^-14 J), never gains one.
- A package (``intel-rapl:N``) contains its ``core`` and ``uncore`` subzones: they are never read, their joules are in
  the package. ``dram`` is a subzone in the tree but energy of its own. ``psys`` contains everything and is used only
  where no package can be read, and then alone.
- ``intel-rapl-mmio`` shows the same counters by another road: its zones are dropped where ``intel-rapl`` has them.
- A package may have several zones, ``package-0-die-1``. On Intel each die counts its own energy. On AMD and Hygon all
  of them show the counter of the whole package: kernels 6.9 to 6.11 list it once for each core complex, eight times on
  a Zen 4 server (mended by commit 26096aed255f). There the first one is read, and the others are dropped.
- The number of a zone is not that of its socket, and a name is not unique: a device goes by the socket in its zone's
  name, and by its number in the tree where that is taken.
- ``energy_uj`` is readable by root only since CVE-2020-8694 (PLATYPUS): no permission is a lack with its remedy,
  never a zero.

The hardware updates about every millisecond; reading faster than 100 Hz brings nothing. The counter wraps after 65.7 kJ
at the finest common unit, 2^-16 J: 94 s at 700 W. The sampler reads at least every 10 s (`sampling.idle_hz`). Whether a
longer gap hides a wrap is for the timeline to judge: `MOST_WATTS` tells it how much energy there can have been.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inferwatt.errors import InferwattError, SourceGone, SourceRetry
from inferwatt.records import Component, Device, Reading
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.coefficients import AMD, ARM, HYGON, INTEL, Cpu, describe_cpuinfo
from inferwatt.sources.trial import check_regular, tried

PERIOD_NS = 10_000_000
MOST_WATTS = 1000.0
"""More than a package or its DRAM draws (the largest processors are sold with 500 W): what is faster is no energy."""
MEASURED_RATIO = 0.05
"""A package of Intel's from Haswell on, which measures: with DRAM, one function maps it to the power at the wall
(Hackenberg et al. 2015, doi:10.1109/IPDPSW.2015.70; again in Schöne et al. 2021, VII-A). Intel publishes no bound, so
this is our setting."""
COMPUTED_RATIO = 0.20
"""What is computed from the processor's activity, or wired up by others. Our setting, in view of these:

- AMD: "modeled, not measured". Data alone changed a server's power by 7.6% (21 W) and RAPL by 0.08%, and memory access
  is not fully in it (Schöne et al. 2021, arXiv:2108.00808, VII-A and VII-B: Zen 2; of later ones nothing is published).
- Intel before Haswell: the same kind of model (same place).
- DRAM: right in its course, off by a constant, which weighs most when idle (Desrochers et al. 2016,
  doi:10.1145/2989081.2989088).
- `psys`: what it covers is up to who made the board.
"""
OPEN_FIX = (
    "sudo chmod a+r /sys/class/powercap/*/energy_uj  # until reboot; for good, in /etc/udev/rules.d/70-rapl.rules: "
    'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"'
)
_GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.EBADF})
_PACKAGE = re.compile(r"package-(\d+(?:-die-\d+)?)")
_PER_PACKAGE = frozenset({AMD, HYGON})
_BEFORE_HASWELL = frozenset({0x2A, 0x2D, 0x3A, 0x3E})
"""Sandy Bridge and Ivy Bridge (arch/x86/include/asm/intel-family.h)."""
_COMPONENTS = {"package": Component.CPU, "dram": Component.DRAM, "psys": Component.CPU}
_KINDS = {"package": "cpu", "dram": "dram", "psys": "psys"}
_CPUINFO_BYTES = 16384


@dataclass(frozen=True, slots=True)
class Zone:
    """One powercap zone: its folder (symlinks resolved), its number in the tree (``0`` or ``0:2``) and its name.

    `place` is the socket and the die that its package is of, as in the package's name: ``1`` or ``0-die-1``.
    """

    folder: Path
    control: str
    number: str
    name: str
    place: str

    @property
    def domain(self) -> str:
        """Return what it covers, in the words of `records.Device`; empty for what is part of another zone."""
        if self.name.startswith("package"):
            return "package"
        return self.name if self.name in {"dram", "psys"} else ""


class RaplZone:
    """An open zone. It only reads: the timeline tells wrap from reset."""

    name = "rapl"
    period_ns = PERIOD_NS

    def __init__(self, zone: Zone, device: str, cpu: Cpu) -> None:
        """Open the counter.

        Raises:
            OSError: it cannot be opened, or is not a regular file (a FIFO would hang every read).
        """
        self._path = zone.folder / "energy_uj"
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._last_uj = -1
        try:
            check_regular(self._fd)
            self._wraps_at_uj = _wraps_at_uj(zone.folder)
        except OSError:
            self.close()
            raise
        self.device = Device(
            device=device,
            kind=f"RAPL {zone.name}" + (", a model" if zone.domain == "package" and _computes(cpu) else ""),
            domain=zone.domain,
            component=_COMPONENTS[zone.domain],
            systematic_ratio=systematic_ratio(cpu, zone.domain),
            max_watts=None if zone.domain == "psys" else MOST_WATTS,
            vendor=cpu.vendor,
            uuid=f"{zone.control}:{zone.number}",
            model=zone.name,
            source=self.name,
        )
        self._device = device

    def read(self, now_ns: int) -> Reading:
        """Return the counter at `now_ns`.

        Raises:
            SourceRetry: the text is not a number, or the kernel asks to try again.
            SourceGone: the zone was removed.
        """
        try:
            counter_uj = int(os.pread(self._fd, 32, 0))
        except ValueError as exc:
            raise self._retry("the counter's text is not a number") from exc
        except OSError as exc:
            if exc.errno in _GONE:
                raise self._gone() from exc
            raise self._retry(exc.strerror or str(exc)) from exc
        if counter_uj < 0:
            raise self._retry(f"the counter shows {counter_uj}")
        if counter_uj == self._last_uj and os.fstat(self._fd).st_nlink == 0:
            raise self._gone()
        self._last_uj = counter_uj
        return Reading(now_ns, self._device, counter_uj, None, self._wraps_at_uj)

    def close(self) -> None:
        """Close the counter; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _retry(self, why: str) -> SourceRetry:
        return SourceRetry(
            f"cannot read the energy counter of {self._device}: {why}",
            where=self._path,
            fix="none needed: counted as a lost sample",
        )

    def _gone(self) -> SourceGone:
        return SourceGone(
            f"the energy counter of {self._device} is gone", where=self._path, fix="none needed: looked for every 10 s"
        )


def systematic_ratio(cpu: Cpu, domain: str) -> float:
    """Return how far a zone of this processor can be off (90%); who is not known is taken for the worst."""
    measures = cpu.vendor == INTEL and not _computes(cpu)
    return MEASURED_RATIO if measures and domain == "package" else COMPUTED_RATIO


def _computes(cpu: Cpu) -> bool:
    return cpu.vendor in _PER_PACKAGE or (cpu.vendor == INTEL and cpu.family == 6 and cpu.model in _BEFORE_HASWELL)


def discover(settings: SourcesConfig) -> Found:
    """Return the readable zones under ``sysfs_root``; each one that is there but not readable is a lack."""
    root = Path(settings.sysfs_root) / "class" / "powercap"
    cpu = _cpu(Path(settings.proc_root) / "cpuinfo")
    zones = [zone for zone in _once(_zones(root), cpu) if zone.domain]
    if not zones:
        return Found(lacks=() if cpu.vendor == ARM else (_no_zones(root, cpu),))
    lacks: list[Lack] = []
    packages = _open(zones, "package", cpu, lacks)
    if not packages:
        platforms = _open(zones, "psys", cpu, lacks)
        if platforms:
            return Found(tuple(platforms), tuple(lacks))
    return Found((*packages, *_open(zones, "dram", cpu, lacks)), tuple(lacks))


def _cpu(path: Path) -> Cpu:
    """Return the first processor of ``/proc/cpuinfo``, which is long on a large machine."""
    try:
        with path.open(encoding="utf-8", errors="replace") as text:
            return describe_cpuinfo(text.read(_CPUINFO_BYTES))
    except OSError:
        return Cpu()


def _open(zones: list[Zone], domain: str, cpu: Cpu, lacks: list[Lack]) -> list[RaplZone]:
    """Open the zones of one domain and read each once; what cannot be read is added to `lacks`."""
    wanted = [zone for zone in zones if zone.domain == domain]
    opened, unread = tried(wanted, lambda zone, taken: RaplZone(zone, _device_name(zone, taken), cpu), _unreadable)
    lacks += unread
    return opened


def _zones(root: Path) -> Iterator[Zone]:
    """Yield the zones of the tree once each, those of ``intel-rapl-mmio`` only where no other zone has their name."""
    seen: set[Path] = set()
    names: set[str] = set()
    for link in sorted(root.glob("*rapl*:*"), key=lambda link: ("mmio" in link.name, len(link.name), link.name)):
        control, _, number = link.name.partition(":")
        folder = link.resolve()
        name = _name(folder)
        if not name or folder in seen or ("mmio" in control and name in names):
            continue
        seen.add(folder)
        names.add(name)
        place = _PACKAGE.fullmatch(name) or _PACKAGE.fullmatch(_name(folder.parent))
        yield Zone(folder, control, number, name, place[1] if place else "")


def _once(zones: Iterable[Zone], cpu: Cpu) -> Iterator[Zone]:
    """Yield the zones without those that show the counter of another: an AMD package listed once for each die."""
    seen: set[tuple[str, str]] = set()
    for zone in zones:
        socket, is_die, _ = zone.place.partition("-die-")
        if is_die and cpu.vendor in _PER_PACKAGE:
            if (socket, zone.domain) in seen:
                continue
            seen.add((socket, zone.domain))
            zone = replace(zone, place=socket)
        yield zone


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text().strip()
    except OSError:
        return ""


def _device_name(zone: Zone, taken: Sequence[RaplZone]) -> str:
    """Name the device by its socket, ``cpu-0``, else by its place in the tree; the full number where both are taken."""
    kind = _KINDS[zone.domain]
    names = {source.device.device for source in taken}
    numbers = [number for number in (zone.place, zone.number.partition(":")[0]) if number]
    free = [f"{kind}-{number}" for number in numbers if f"{kind}-{number}" not in names]
    return free[0] if free else f"{kind}-{zone.control}:{zone.number}"


def _wraps_at_uj(folder: Path) -> int | None:
    try:
        return int((folder / "max_energy_range_uj").read_text()) + 1
    except (OSError, ValueError):
        return None


def _no_zones(root: Path, cpu: Cpu) -> Lack:
    if cpu.is_guest:
        what = "no RAPL energy counter: a hypervisor does not pass it on to a virtual machine"
        return _lack(what, str(root), "none here: bare metal (an instance type sold as metal) has it", "package")
    what = "no RAPL energy counter (a container, or a kernel without intel_rapl)"
    fix = "sudo modprobe intel_rapl_msr; in a container mount /sys/class/powercap and /sys/devices"
    return _lack(what, str(root), fix, "package")


def _unreadable(zone: Zone, exc: OSError | InferwattError) -> Lack:
    if isinstance(exc, InferwattError):
        return _lack(exc.what, exc.where, "none: this zone is left out", zone.domain)
    what = f"cannot read the energy counter of {zone.name}: {exc.strerror or exc}"
    fix = OPEN_FIX if isinstance(exc, PermissionError) else "none: this zone is left out"
    return _lack(what, str(zone.folder / "energy_uj"), fix, zone.domain)


def _lack(what: str, where: str, fix: str, domain: str) -> Lack:
    return Lack(what, where, fix, source=RaplZone.name, component=_COMPONENTS[domain])
