"""Power rails by hwmon: the CPU of NVIDIA Grace, a Jetson module, AMD's energy counters where there is no powercap.

hwmon numbers its chips anew at each boot and shows whatever a chip measures, a battery as well as a processor. So a
rail is known by the name of its chip and its own label, as hwmon_rails.py has them, and by the device behind it; what
is not there is not read. GPUs have sources of their own.
"""

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inferwatt.errors import InferwattError, SourceGone, SourceRetry
from inferwatt.records import Component, Device, Provenance, Reading
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.cloud import Instance, by_dmi
from inferwatt.sources.coefficients import describe_cpuinfo
from inferwatt.sources.hwmon_rails import CHIPS, Chip, Quantity, Rail, rail_of
from inferwatt.sources.rapl import COMPUTED_RATIO, MOST_WATTS, PERIOD_NS
from inferwatt.sources.trial import check_regular, tried
from inferwatt.units import NS_PER_MS

SAMPLED_RATIO = 0.10
"""Our setting. Of Grace nothing is published (its ``power1_accuracy`` says 100%). An INA3221 is within 0.25% in voltage
and in current, but for ±80 µV over the shunt (TI SBOS576, 6.5 Electrical Characteristics): 40 mA over the 2 mOhm of a
Jetson AGX Orin, 2% of 10 W at 5 V and more of less; its resistors are 1% (NVIDIA DG-09840-001, figure 5-14)."""
MOST_MW = 100_000_000
"""No rail that we know draws more: the figure is a code for "unknown"."""
OPEN_FIX = (
    "sudo sh -c 'chmod a+r /sys/class/hwmon/*/energy*'  # until reboot; "
    "for good, in /etc/udev/rules.d/70-rapl.rules: "
    'SUBSYSTEM=="hwmon", ATTR{name}=="amd_energy", RUN+="/bin/sh -c \'chmod a+r /sys%p/energy*\'"'
)
_NEOVERSE_V2 = 0xD4F
"""MIDR part number (Arm Neoverse V2 Technical Reference Manual, MIDR_EL1)."""
_FIRST_BLOCK = 4096
"""Characters of ``/proc/cpuinfo`` that hold an Arm processor's first block; all of it is long on a large machine."""
_USUAL_PERIOD_NS = 100 * NS_PER_MS
_LEAST_PERIOD_NS = {Quantity.POWER_UW: 50 * NS_PER_MS, Quantity.MILLIVOLTS_AND_MILLIAMPERES: _USUAL_PERIOD_NS}
"""A read of either takes long, by firmware or by I2C (two transfers of about half a millisecond)."""
_GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.EBADF})


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a chip that is there: its files, the device behind it, its number, and which rail it is."""

    folder: Path
    identity: str
    number: str
    chip: Chip
    rail: Rail
    socket: str

    @property
    def label(self) -> str:
        """Return what the chip calls it."""
        return self.rail.label.format(self.socket)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the files of its values."""
        return tuple(self.folder / name.format(self.number) for name in self.chip.values)


class HwmonRail:
    """An open channel."""

    name = "hwmon"

    def __init__(self, channel: Channel) -> None:
        """Open its files.

        Raises:
            OSError: one cannot be opened, or is not a regular file (a FIFO would hang every read).
        """
        self._chip, self._paths = channel.chip, channel.paths
        self._fds: list[int] = []
        self.period_ns = _period_ns(channel)
        self.device = _device(channel)
        try:
            for path in self._paths:
                self._fds.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
                check_regular(self._fds[-1])
        except OSError:
            self.close()
            raise

    def read(self, now_ns: int) -> Reading:
        """Return the power or the counter at `now_ns`.

        Raises:
            SourceRetry: there is no figure this time.
            SourceGone: the chip was removed.
        """
        try:
            values = [int(os.pread(fd, 32, 0)) for fd in self._fds]
        except ValueError as exc:
            raise self._retry("its text is not a number") from exc
        except OSError as exc:
            # the ACPI driver also says ENODEV when one evaluation failed: gone is what has no file any more
            if exc.errno in _GONE and not all(map(os.path.exists, self._paths)):
                raise self._gone() from exc
            raise self._retry(exc.strerror or str(exc)) from exc
        if not values:
            raise self._gone()
        if self._chip.quantity is Quantity.ENERGY_UJ:
            return Reading(now_ns, self.device.device, self._checked(values[0]))
        return Reading(now_ns, self.device.device, power_mw=self._power_mw(values))

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        while self._fds:
            os.close(self._fds.pop())

    def _power_mw(self, values: list[int]) -> int:
        if self._chip.quantity is Quantity.POWER_UW:
            power_mw = round(self._checked(values[0]) / 1000)
        else:  # a current within the sensor's offset of nothing may show as a negative one
            power_mw = max(0, round(values[0] * values[1] / 1000))
        if power_mw > MOST_MW or (self._chip.is_never_zero and power_mw == 0):
            raise self._retry(f"it shows {power_mw / 1000:g} W, which is its word for unknown")
        return power_mw

    def _checked(self, value: int) -> int:
        if value < 0:
            raise self._retry(f"it shows {value}")
        return value

    def _retry(self, why: str) -> SourceRetry:
        return SourceRetry(
            f"cannot read the rail of {self.device.device}: {why}",
            where=self._paths[0],
            fix="none needed: counted as a lost sample",
        )

    def _gone(self) -> SourceGone:
        return SourceGone(
            f"the rail of {self.device.device} is gone", where=self._paths[0], fix="none needed: looked for every 10 s"
        )


def discover(settings: SourcesConfig) -> Found:
    """Return the rails of the table that this machine has; one that is there and cannot be read is a lack."""
    root = Path(settings.sysfs_root)
    channels = channels_in(root)
    labels = {channel.label for channel in channels}
    whole = [channel for channel in channels if channel.rail.within.format(channel.socket) not in labels]
    sources, lacks = tried(whole, lambda channel, _taken: HwmonRail(channel), _unreadable)
    lacks += _closed(root)
    if not channels:
        lacks += _grace_without_meters(settings)
    return Found(tuple(sources), tuple(lacks))


def channels_in(root: Path) -> list[Channel]:
    """Return the channels under `root`, a sysfs, that are in the table, ordered by device and channel."""
    found = (channel for hwmon in root.glob("class/hwmon/hwmon*") for channel in _channels(hwmon))
    return sorted(found, key=lambda channel: channel.identity)


def _channels(hwmon: Path) -> Iterator[Channel]:
    """Yield the channels of one chip that are in the table; older drivers keep their files with the device."""
    device = hwmon / "device"
    name = _text(hwmon / "name") or _text(device / "name")
    chip = CHIPS.get(name)
    if chip is None:
        return
    for path in (*hwmon.glob(chip.label.format("*")), *device.glob(chip.label.format("*"))):
        number = re.fullmatch(chip.label.format(r"(\d+)"), path.name)
        known = rail_of(name, _text(path))
        if number and known:
            rail, socket = known
            yield Channel(path.parent, f"{name}:{device.resolve().name}:{number[1]}", number[1], chip, rail, socket)


def _device(channel: Channel) -> Device:
    rail, counts = channel.rail, channel.chip.quantity is Quantity.ENERGY_UJ
    return Device(
        device=rail.device.format(channel.socket),
        kind=rail.kind.format(channel.socket),
        domain=rail.domain,
        component=rail.component,
        provenance=Provenance.MEASURED if counts else Provenance.SAMPLED,
        systematic_ratio=COMPUTED_RATIO if counts else SAMPLED_RATIO,
        max_watts=MOST_WATTS if counts else None,
        vendor="AMD" if counts else "NVIDIA",
        model=channel.label,
        # a GPU goes by its name: no other source would know it by a chip's
        uuid="" if rail.component is Component.ACCELERATOR else channel.identity,
        source=HwmonRail.name,
    )


def _period_ns(channel: Channel) -> int:
    """Return how often a channel can show something new, as far as the chip says."""
    least_ns = _LEAST_PERIOD_NS.get(channel.chip.quantity)
    if least_ns is None:
        return PERIOD_NS
    interval_ms = _text(channel.folder / channel.chip.interval.format(channel.number))
    return max(least_ns, int(interval_ms) * NS_PER_MS if interval_ms.isdecimal() else _USUAL_PERIOD_NS)


def _closed(root: Path) -> Iterator[Lack]:
    """Yield a lack for each chip whose labels may not be read: amd_energy opens nothing to users (CVE-2020-12912)."""
    for hwmon in sorted(root.glob("class/hwmon/hwmon*")):
        name = _text(hwmon / "name")
        labels = sorted(hwmon.glob(CHIPS[name].label.format("*"))) if name in CHIPS else []
        closed = [label for label in labels if not os.access(label, os.R_OK, effective_ids=True)]
        if closed:
            yield _lack(f"cannot read the rails of {name}: Permission denied", closed[0], OPEN_FIX, Component.CPU)


def _grace_without_meters(settings: SourcesConfig) -> Iterator[Lack]:
    """Yield a lack where the processor is Grace's, on a machine of one's own, and shows no meter."""
    root = Path(settings.sysfs_root)
    cpuinfo = _text(Path(settings.proc_root) / "cpuinfo", _FIRST_BLOCK)
    if describe_cpuinfo(cpuinfo).part == _NEOVERSE_V2 and by_dmi(root / "class" / "dmi" / "id") == Instance():
        what = "NVIDIA Grace shows no power meters (kernel option CONFIG_SENSORS_ACPI_POWER)"
        yield _lack(what, root / "class" / "hwmon", "sudo modprobe acpi_power_meter", Component.CPU)


def _unreadable(channel: Channel, exc: OSError | InferwattError) -> Lack:
    if isinstance(exc, InferwattError):
        return _lack(exc.what, exc.where, "none: this rail is left out", channel.rail.component)
    fix = OPEN_FIX if isinstance(exc, PermissionError) else "none: this rail is left out"
    what = f"cannot read the rail {channel.label}: {exc.strerror or exc}"
    return _lack(what, channel.paths[0], fix, channel.rail.component)


def _lack(what: str, where: object, fix: str, component: Component) -> Lack:
    return Lack(what, str(where), fix, source=HwmonRail.name, component=component)


def _text(path: Path, most: int = -1) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(most).strip()
    except OSError:
        return ""
