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
