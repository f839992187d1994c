"""Is there NVIDIA hardware at all, and if NVML cannot be opened, why not: each reason with one thing to do.

A machine without any sign of it lacks nothing. Signs are device nodes (also what a container gets), a display or 3D
controller of vendor 0x10de on the PCI bus, and the library that WSL 2 brings for its /dev/dxg.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inferwatt.records import Component
from inferwatt.snapshot import Lack
from inferwatt.sources.nvml_api import NoBinding, NvmlError
from inferwatt.sources.nvml_errors import DRIVER_NOT_LOADED, VERSION_MISMATCH, meaning

SOURCE = "nvml"
NVIDIA = "0x10de"
_DISPLAY = ("0x0300", "0x0302")
"""PCI classes: VGA compatible controller, 3D controller; not the audio function or the bridge of the same card."""
_WSL_LIBRARY = "/usr/lib/wsl/lib/libnvidia-ml.so.1"
_ELSEWHERE = {
    "vfio-pci": ("it is passed through to a virtual machine", "run inferwatt inside that virtual machine"),
    "nouveau": ("it is driven by nouveau, which reports no energy", "install NVIDIA's driver"),
}


@dataclass(frozen=True, slots=True)
class Signs:
    """What points to NVIDIA hardware: device nodes, and PCI functions with the kernel driver that holds each."""

    nodes: tuple[str, ...] = ()
    functions: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self.nodes or self.functions)


def signs(sysfs_root: str, dev_root: str = "/dev") -> Signs:
    """Return what points to NVIDIA hardware."""
    nodes = [str(node) for node in Path(dev_root).glob("nvidia*") if re.fullmatch(r"nvidia(ctl|\d+)", node.name)]
    if (Path(dev_root) / "dxg").exists() and Path(_WSL_LIBRARY).exists():
        nodes.append(_WSL_LIBRARY)
    return Signs(tuple(sorted(nodes)), tuple(_functions(Path(sysfs_root) / "bus" / "pci" / "devices")))


def _functions(folder: Path) -> Iterator[tuple[str, str]]:
    for function in sorted(folder.glob("*")):
        try:
            vendor = (function / "vendor").read_text().strip()
            kind = (function / "class").read_text().strip()
        except OSError:
            continue
        if vendor == NVIDIA and kind.startswith(_DISPLAY):
            driver = function / "driver"
            yield function.name, driver.resolve().name if driver.exists() else ""


def no_binding(exc: NoBinding, found: Signs) -> Lack:
    """Return the lack of a usable binding."""
    fix = "pip install nvidia-ml-py"
    if "hides" in str(exc):
        fix = "pip uninstall --yes pynvml && pip install --force-reinstall nvidia-ml-py"
    return _lack(str(exc), _where(found), fix)


def not_opened(exc: NvmlError, found: Signs, proc_root: str) -> Lack:
    """Return why NVML cannot be opened on a machine that has NVIDIA hardware."""
    means = meaning(exc.code)
    what, fix = means.what, means.fix.format(index=0)
    if exc.code == DRIVER_NOT_LOADED:
        drivers = {driver for _, driver in found.functions}
        if len(drivers) == 1 and (known := _ELSEWHERE.get(drivers.pop())):
            what, fix = known
    if exc.code == VERSION_MISMATCH:
        what += _module_version(proc_root)
    return _lack(f"no NVIDIA GPU can be read: {what}", _where(found), fix)


def _module_version(proc_root: str) -> str:
    """Return the version of the loaded kernel module, by what it says of itself."""
    try:
        text = (Path(proc_root) / "driver" / "nvidia" / "version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)", text)
    return f": the kernel module is {found[1]}" if found else ""


def gpu_lack(device: str, what: str, fix: str) -> Lack:
    """Return the lack of one GPU, or of something about it."""
    return _lack(f"{device}: {what}", SOURCE, fix)


def _where(found: Signs) -> str:
    return ", ".join((*found.nodes, *(f"PCI {name}" for name, _ in found.functions))[:4]) or SOURCE


def _lack(what: str, where: str, fix: str) -> Lack:
    return Lack(what, where, fix, source=SOURCE, component=Component.ACCELERATOR.value)
