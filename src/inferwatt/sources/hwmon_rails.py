"""Which channel of which hwmon chip is whose energy: data, with where each row is from. Data and look-up only, no I/O.

**Grace** (chip ``power_meter``, Documentation/hwmon/acpi_power_meter.rst). Each socket has four meters. Module contains
Grace and the GPU; Grace contains the rails CPU and SysIO, its memory and losses (NVIDIA Grace Performance Tuning Guide,
"Power Telemetry"). Exactly one is read, Grace. Within 50 ms of reading one meter the firmware answers for the others
from memory: with what each said last (NVIDIA/edk2-nvidia, BpmpSsdtSocket0_TH500.asl, method TELM, commit ba0e47d2), in
earlier versions with what *the first one* said (commit 08844a3f). Who reads two of them reads one twice. It says
0xFFFFFFFF for what it cannot tell, and 0 for what was not asked before: no figures, both.

**Jetson** (chip ``ina3221``, Documentation/hwmon/ina3221.rst). NVIDIA Jetson Linux Developer Guide r36.4.3, "Platform
Power and Performance", says what each rail feeds; the labels are those of arch/arm64/boot/dts/nvidia. ``VDD_IN`` is the
whole module. ``VIN_SYS_5V0`` contains the memory's ``VDDQ_VDD2_1V8AO``, which is therefore not read. Boards before Orin
and Xavier NX have other labels, or drivers that are not in hwmon.

**AMD** (chip ``amd_energy``, Documentation/hwmon/amd_energy.rst; Linux 5.8 to 5.12, and AMD's own module). The RAPL
counter of each socket, which the driver makes 64 bits wide: it does not wrap. It has one for each core as well
(``Ecore000``): parts of the socket, and not read.

A server's own meter is a ``power_meter`` too, without such a label: its BMC's figure, which redfish and ipmi read.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from inferwatt.records import Component


class Quantity(Enum):
    """What a channel shows, in the units of Documentation/hwmon/sysfs-interface.rst."""

    ENERGY_UJ = auto()
    POWER_UW = auto()
    MILLIVOLTS_AND_MILLIAMPERES = auto()


@dataclass(frozen=True, slots=True)
class Chip:
    """How a kind of chip is read: the files of a channel's label and values, and of how often they change (ms).

    ``{}`` is the number of the channel. `is_never_zero`: 0 is what the chip says when it does not know.
    """

    label: str
    values: tuple[str, ...]
    quantity: Quantity
    interval: str = ""
    is_never_zero: bool = False


@dataclass(frozen=True, slots=True)
class Rail:
    """One row: a label of a chip, and what it is the energy of. ``{}`` is the number of the socket in the label.

    A rail `within` another is read only where the machine does not have that one.
    """

    chip: str
    label: str
    device: str
    kind: str
    domain: str
    component: Component
    within: str = ""


CHIPS = {
    "power_meter": Chip(
        "power{}_oem_info",
        ("power{}_average",),
        Quantity.POWER_UW,
        interval="power{}_average_interval",
        is_never_zero=True,
    ),
    "ina3221": Chip(
        "in{}_label",
        ("in{}_input", "curr{}_input"),
        Quantity.MILLIVOLTS_AND_MILLIAMPERES,
        interval="update_interval",
    ),
    "amd_energy": Chip("energy{}_label", ("energy{}_input",), Quantity.ENERGY_UJ),
}

_CPU, _GPU, _REST = Component.CPU, Component.ACCELERATOR, Component.OVERHEAD
_GRACE, _IN = "Grace Power Socket {}", "VDD_IN"

RAILS = (
    Rail("power_meter", _GRACE, "cpu-{}", "NVIDIA Grace, its memory and losses included", "socket", _CPU),
    Rail("power_meter", "CPU Power Socket {}", "cpu-{}", "NVIDIA Grace, the CPU rail alone", "rail", _CPU, _GRACE),
    Rail("ina3221", _IN, "gpu-0", "NVIDIA Jetson, the whole module", "module", _GPU),
    Rail("ina3221", "VDD_GPU_SOC", "gpu-0", "NVIDIA Jetson, GPU and SoC", "gpu", _GPU, _IN),
    Rail("ina3221", "VDD_GPU", "gpu-0", "NVIDIA Jetson, GPU", "gpu", _GPU, _IN),
    Rail("ina3221", "VDD_CPU_CV", "cpu-0", "NVIDIA Jetson, CPU, DLA and PVA", "rail", _CPU, _IN),
    Rail("ina3221", "VDD_CPU_SOC_MSS", "cpu-0", "NVIDIA Jetson, CPU, SoC and memory controller", "rail", _CPU, _IN),
    Rail("ina3221", "VIN_SYS_5V0", "board-0", "NVIDIA Jetson, memory and I/O", "board", _REST, _IN),
    Rail("amd_energy", "Esocket{}", "cpu-{}", "RAPL socket {}, a model", "package", _CPU),
)


def rail_of(chip: str, label: str) -> tuple[Rail, str] | None:
    """Return the row of a chip's label, with the number of the socket in it (empty where it has none)."""
    for rail in RAILS:
        match = re.fullmatch(rail.label.format(r"(\d+)"), label) if rail.chip == chip else None
        if match:
            return rail, "".join(match.groups())
    return None
