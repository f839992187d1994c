"""What is lacking, sorted by what its remedy would change: a better figure, a figure at all, or nothing. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from inferwatt.records import Component, Device, Provenance
from inferwatt.snapshot import Lack
from inferwatt.sources import Found
from inferwatt.sources.choice import COVERS, provenance_rank

_CAN_BE = {
    "nvml": Provenance.MEASURED,
    "amdsmi": Provenance.MEASURED,
    "rapl": Provenance.MEASURED,
    "hwmon": Provenance.SAMPLED,
    "redfish": Provenance.SAMPLED,
    "ipmi": Provenance.SAMPLED,
    "reported": Provenance.REPORTED,
    "modelled": Provenance.MODELLED,
}
"""The best that a source can give; of another package's the best is assumed."""
_VENDORS = {"nvml": "nvidia", "amdsmi": "amd"}
_COMPONENTS = tuple(component.value for component in Component)
_WITHIN = frozenset({Component.CPU, Component.DRAM})


@dataclass(frozen=True, slots=True)
class Advice:
    """Lacks by what their remedy would change.

    `better` is by device: its figure would be a better one. `missing` is what no device covers, or not all of it.
    `moot` would bring nothing that is not there already.
    """

    better: Mapping[str, tuple[Lack, ...]]
    missing: tuple[Lack, ...]
    moot: tuple[Lack, ...]


def worth_telling(found: Found) -> tuple[Lack, ...]:
    """Return the lacks whose remedy changes something, in their order."""
    moot = advise([source.device for source in found.sources], found.lacks).moot
    return tuple(lack for lack in found.lacks if lack not in moot)


def advise(devices: Sequence[Device], lacks: Iterable[Lack]) -> Advice:
    """Return what each lack stands for, beside the devices that are read."""
    better: dict[str, list[Lack]] = {}
    missing: list[Lack] = []
    moot: list[Lack] = []
    for lack in lacks:
        covered = [device for device in devices if lack.component in _tells_of(device)]
        worse = [device for device in covered if device.component == lack.component and _would_improve(lack, device)]
        for device in worse:
            better.setdefault(device.device, []).append(lack)
        if not worse:
            (moot if _is_moot(lack, covered) else missing).append(lack)
    return Advice({name: tuple(of_device) for name, of_device in better.items()}, tuple(missing), tuple(moot))


def uncovered(devices: Iterable[Device]) -> tuple[str, ...]:
    """Return the parts of a server of which no device tells anything."""
    covered: set[str] = set().union(*map(_tells_of, devices))
    return tuple(component for component in _COMPONENTS if component not in covered)


def _tells_of(device: Device) -> frozenset[str]:
    """Return the parts of a server that are in a device's figure; a module has its CPU and memory in it."""
    return frozenset({device.component.value, *(COVERS.get(device.domain, frozenset()) & _WITHIN)})


def _would_improve(lack: Lack, device: Device) -> bool:
    """Tell whether the source that lacks something could read `device` better than it is read now."""
    vendor = _VENDORS.get(lack.source, "")
    if vendor and device.vendor and vendor not in device.vendor.casefold():
        return False
    rank = provenance_rank(device.provenance)
    if lack.source == device.source:
        return rank > provenance_rank(Provenance.MEASURED)
    return rank > provenance_rank(_CAN_BE.get(lack.source, Provenance.MEASURED))


def _is_moot(lack: Lack, covered: Sequence[Device]) -> bool:
    """Tell whether the component is read as well as the lacking source could: then its remedy brings nothing.

    Accelerators are things apart: one that is lacking is missing, whatever is read of another.
    """
    if not covered or lack.component == Component.ACCELERATOR:
        return False
    return all(device.source != lack.source for device in covered)
