"""Fake /sys and /proc trees: real files and symlinks, no mocks."""

from pathlib import Path

from inferwatt.records import Reading
from inferwatt.sources import Source, reading_in

RANGE_UJ = 262_143_328_850
"""What an Intel package with units of 2^-14 J shows as max_energy_range_uj."""


def read(source: Source, now_ns: int) -> Reading:
    """Return the reading that one read brings; there must be one."""
    reading = reading_in(source.read(now_ns))
    assert reading is not None
    return reading


def cpuinfo(vendor: str, family: int, model: int, *, stepping: int = 1, flags: str = "fpu lm", cpus: int = 1) -> str:
    """Return /proc/cpuinfo of an x86 machine with `cpus` logical processors."""
    block = (
        f"vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: a processor\n"
        f"stepping\t: {stepping}\nflags\t\t: {flags}\n\n"
    )
    return "".join(f"processor\t: {number}\n{block}" for number in range(cpus))


class Powercap:
    """A tree like /sys/devices/virtual/powercap with the symlinks of /sys/class/powercap."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.links = root / "class" / "powercap"
        self.links.mkdir(parents=True)

    def zone(
        self,
        number: str,
        name: str,
        energy_uj: int | str | None,
        *,
        control: str = "intel-rapl",
        range_uj: int = RANGE_UJ,
    ) -> Path:
        """Add a zone (``0``, or ``0:2`` inside ``0``) with its link; `energy_uj` None leaves the counter out."""
        folder = self.root / "devices" / "virtual" / "powercap" / control
        parts = number.split(":")
        for depth in range(len(parts)):
            folder = folder / f"{control}:{':'.join(parts[: depth + 1])}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        if energy_uj is not None:
            (folder / "energy_uj").write_text(f"{energy_uj}\n" if energy_uj != "" else "")
        (self.links / f"{control}:{number}").symlink_to(folder)
        return folder


class Hwmon:
    """A tree like /sys/class/hwmon: numbered links to chips, each below the device that it is of."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.links = root / "class" / "hwmon"
        self.links.mkdir(parents=True)

    def chip(self, number: int, name: str, device: str, *, with_device: bool = False) -> Path:
        """Add chip `hwmonN` of a device, and return the folder of its files: its own, or as of old the device's."""
        behind = self.root / "devices" / device
        folder = behind / "hwmon" / f"hwmon{number}"
        folder.mkdir(parents=True)
        (folder / "device").symlink_to(behind)
        (self.links / f"hwmon{number}").symlink_to(folder)
        files = behind if with_device else folder
        (files / "name").write_text(f"{name}\n")
        return files

    def grace(self, number: int, meter: str, power_uw: int | str, *, interval_ms: int = 50) -> Path:
        """Add one ACPI power meter of a Grace socket, as drivers/hwmon/acpi_power_meter.c lays out its files."""
        files = self.chip(number, "power_meter", f"ACPI000D:{number:02x}", with_device=True)
        (files / "power1_oem_info").write_text(f"{meter}\n")
        (files / "power1_average").write_text(f"{power_uw}\n")
        (files / "power1_average_interval").write_text(f"{interval_ms}\n")
        return files

    def ina3221(self, number: int, device: str, rails: dict[int, tuple[str, int, int]]) -> Path:
        """Add a power monitor with these channels: label, mV and mA; as drivers/hwmon/ina3221.c shows them."""
        files = self.chip(number, "ina3221", device)
        (files / "in7_label").write_text("sum of shunt voltages\n")
        (files / "in7_input").write_text("760\n")
        (files / "curr4_input").write_text("360\n")
        for channel, (label, millivolts, milliamperes) in rails.items():
            (files / f"in{channel}_label").write_text(f"{label}\n")
            (files / f"in{channel}_input").write_text(f"{millivolts}\n")
            (files / f"curr{channel}_input").write_text(f"{milliamperes}\n")
        return files


class Dmi:
    """What the firmware says of the machine, as /sys/class/dmi/id shows it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "class" / "dmi" / "id"

    def says(self, **words: str) -> None:
        """Set files, e.g. ``sys_vendor="Amazon EC2"``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in words.items():
            (self.folder / name).write_text(f"{text}\n")


class Proc:
    """A /proc of our own making."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host(0)

    def host(self, user: int, *, idle: int = 0, steal: int = 0, guest: int = 0, iowait: int = 0) -> None:
        """Write /proc/stat; all in ticks."""
        (self.root / "stat").write_text(
            f"cpu  {user} 0 0 {idle} {iowait} 0 0 {steal} {guest} 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5 0 0\n"
        )

    def process(
        self, pid: int, ticks: int, *, start: int = 7, ppid: int = 1, name: str = "a) (b", state: str = "S"
    ) -> None:
        """Write /proc/PID/stat with `ticks` of user time, and one thread."""
        folder = self.root / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        before = " ".join(["0"] * 9)
        after = " ".join(["0"] * 6)
        text = f"{pid} ({name}) {state} {ppid} {before} {ticks} 0 {after} {start} 0 0\n"
        (folder / "stat").write_text(text)

    def children(self, pid: int, *children: int) -> None:
        """Write the children of the process's only thread."""
        (self.root / str(pid) / "task" / str(pid) / "children").write_text(" ".join(map(str, children)))

    def cpuinfo(self, text: str) -> None:
        """Write /proc/cpuinfo."""
        (self.root / "cpuinfo").write_text(text)
