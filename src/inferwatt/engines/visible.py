"""Which accelerators a process was allowed to see, by its environment at its start. Pure.

CUDA_VISIBLE_DEVICES (CUDA C++ Programming Guide, "CUDA Environment Variables") is a list of numbers or of UUIDs, which
may be cut short as long as they are unique, up to the first that means nothing. A number means the same GPU to us only
where CUDA counts by the PCI bus (CUDA_DEVICE_ORDER=PCI_BUS_ID; by default it begins with the fastest) and where all
GPUs are there to be counted: not in a container. A MIG instance's old name has the GPU's UUID in it, its new one has
not. NVIDIA_VISIBLE_DEVICES is what a container was given (NVIDIA Container Toolkit, "Specialized Configurations").
What cannot be mapped is said, and never guessed by order.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

CUDA, NVIDIA, ORDER = "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
BY_BUS = "pci-bus-order:"
"""What an accelerator's number among all NVIDIA GPUs is written behind."""
_UUID = re.compile(r"GPU-[0-9a-fA-F-]{1,36}")
_OLD_MIG = re.compile(r"MIG-(GPU-[0-9a-fA-F-]{36})/\d+/\d+")
_NEW_MIG = re.compile(r"MIG-[0-9a-fA-F-]{1,36}")


@dataclass(frozen=True, slots=True)
class Visible:
    """The ids of the accelerators that a process may see, and why what it was told cannot be mapped; both may be empty.

    `is_told` is whether it was told at all: nothing visible is not the same as nothing said.
    """

    ids: tuple[str, ...] = ()
    why_not: str = ""
    is_told: bool = False


def visible_to(environ: Mapping[str, str], *, in_container: bool) -> Visible:
    """Return what a process may see.

    Args:
        environ: its environment.
        in_container: whether it is in a container, where numbers are the container's own.
    """
    told = environ.get(CUDA)
    if told is not None:
        return _read(CUDA, told, by_bus=environ.get(ORDER) == "PCI_BUS_ID", in_container=in_container)
    given = environ.get(NVIDIA, "")
    if in_container and given.startswith(("GPU-", "MIG-")):
        return _read(NVIDIA, given, by_bus=False, in_container=True)
    return Visible()


def _read(name: str, told: str, *, by_bus: bool, in_container: bool) -> Visible:
    ids: list[str] = []
    for word in (part.strip() for part in told.split(",")):
        if _UUID.fullmatch(word):
            ids.append(word)
        elif old := _OLD_MIG.fullmatch(word):
            ids.append(old.group(1))
        elif _NEW_MIG.fullmatch(word):
            return Visible(why_not=f"{name} names a MIG instance, which does not say its GPU", is_told=True)
        elif word.isdecimal() and (in_container or not by_bus):
            why = "numbers of a container's own" if in_container else f"numbers, and {ORDER} is not PCI_BUS_ID"
            return Visible(why_not=f"{name} has {why}", is_told=True)
        elif word.isdecimal():
            ids.append(BY_BUS + str(int(word)))
        else:
            break
    return Visible(tuple(dict.fromkeys(ids)), is_told=True)
