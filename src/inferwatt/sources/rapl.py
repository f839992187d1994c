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
- A zone's name is not unique (two sockets may both be ``package-0``): a device is known by its number in the tree.
- ``energy_uj`` is readable by root only since CVE-2020-8694 (PLATYPUS): no permission is a lack with its remedy,
  never a zero.

The hardware updates about every millisecond; reading faster than 100 Hz brings nothing.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inferwatt.errors import InferwattError, SourceGone, SourceRetry
from inferwatt.records import Component, Device, Reading
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, SourcesConfig

PERIOD_NS = 10_000_000
OPEN_FIX = (
    "sudo chmod a+r /sys/class/powercap/*/energy_uj  # until reboot; for good, in /etc/udev/rules.d/70-rapl.rules: "
    'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"'
)
_GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.EBADF})


@dataclass(frozen=True, slots=True)
class Zone:
    """One powercap zone: its folder (symlinks resolved), its number in the tree (``0`` or ``0:2``) and its name."""

    folder: Path
    control: str
    number: str
    name: str

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

    def __init__(self, zone: Zone, device: str) -> None:
        """Open the counter.

        Raises:
            OSError: it cannot be opened, or is not a regular file (a FIFO would hang every read).
        """
        self._path = zone.folder / "energy_uj"
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._last_uj = -1
        try:
            _check_regular(self._fd)
            self._wraps_at_uj = _wraps_at_uj(zone.folder)
        except OSError:
            self.close()
            raise
        self.device = Device(
            device=device,
            kind=f"RAPL {zone.name}",
            domain=zone.domain,
            component=Component.DRAM if zone.domain == "dram" else Component.CPU,
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


def discover(settings: SourcesConfig) -> Found:
    """Return the readable zones under ``sysfs_root``; each one that is there but not readable is a lack."""
    root = Path(settings.sysfs_root) / "class" / "powercap"
    zones = [zone for zone in _zones(root) if zone.domain]
    if not zones:
        return Found(lacks=(_no_zones(root),))
    lacks: list[Lack] = []
    packages = _open(zones, "package", lacks)
    if not packages:
        platforms = _open(zones, "psys", lacks)
        if platforms:
            return Found(tuple(platforms), tuple(lacks))
    return Found((*packages, *_open(zones, "dram", lacks)), tuple(lacks))


def _open(zones: list[Zone], domain: str, lacks: list[Lack]) -> list[RaplZone]:
    """Open the zones of one domain and read each once; what cannot be read is added to `lacks`."""
    opened: list[RaplZone] = []
    for zone in zones:
        if zone.domain != domain:
            continue
        try:
            source = RaplZone(zone, _device_name(zone, opened))
        except OSError as exc:
            lacks.append(_unreadable(zone, exc))
            continue
        try:
            source.read(0)
        except InferwattError as exc:
            source.close()
            lacks.append(Lack(exc.what, exc.where, "none: this zone is left out"))
        else:
            opened.append(source)
    return opened


def _zones(root: Path) -> Iterator[Zone]:
    """Yield the zones of the tree once each, those of ``intel-rapl-mmio`` only where no other zone has their name."""
    seen: set[Path] = set()
    names: set[str] = set()
    for link in sorted(root.glob("*rapl*:*"), key=lambda link: ("mmio" in link.name, link.name)):
        control, _, number = link.name.partition(":")
        folder = link.resolve()
        try:
            name = (folder / "name").read_text().strip()
        except OSError:
            continue
        if folder in seen or ("mmio" in control and name in names):
            continue
        seen.add(folder)
        names.add(name)
        yield Zone(folder, control, number, name)


def _device_name(zone: Zone, taken: list[RaplZone]) -> str:
    """Name the device by its place in the tree: ``cpu-0``, ``dram-0``; the full number where that is not enough."""
    kind = {"package": "cpu", "dram": "dram", "psys": "psys"}[zone.domain]
    short = f"{kind}-{zone.number.partition(':')[0]}"
    names = {source.device.device for source in taken}
    return short if short not in names else f"{kind}-{zone.control}:{zone.number}"


def _check_regular(fd: int) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "is not a regular file")


def _wraps_at_uj(folder: Path) -> int | None:
    try:
        return int((folder / "max_energy_range_uj").read_text()) + 1
    except (OSError, ValueError):
        return None


def _no_zones(root: Path) -> Lack:
    return Lack(
        what="no RAPL energy counter (a virtual machine, a container, or a kernel without intel_rapl)",
        where=str(root),
        fix="on bare metal: sudo modprobe intel_rapl_msr; in a container mount /sys/class/powercap and /sys/devices",
    )


def _unreadable(zone: Zone, exc: OSError) -> Lack:
    denied = isinstance(exc, PermissionError)
    return Lack(
        what=f"cannot read the energy counter of {zone.name}: {exc.strerror or exc}",
        where=str(zone.folder / "energy_uj"),
        fix=OPEN_FIX if denied else "none: this zone is left out",
    )
