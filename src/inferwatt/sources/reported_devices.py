"""Which devices a page tells of, and what they are called.

A device has the number that its exporter gives it (``gpu-0``, ``cpu-1``). Without one it gets the next that is free, in
the order of the UUIDs. Two that would have one name are two only where both have a UUID; else they are the same
hardware by two roads, and the better one is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inferwatt.records import Device, Provenance
from inferwatt.sources import nvml_products, rapl
from inferwatt.sources.coefficients import Cpu
from inferwatt.sources.reported_page import Place, Row
from inferwatt.sources.reported_table import DeviceRows, Exporter, Figure

MOST_DEVICES = 256
_NUMBER_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Named:
    """A device of a page: its record, the places of its figures (best first), and whether its counter wraps."""

    device: Device
    places: tuple[Place, ...]
    wraps: bool


@dataclass(frozen=True, slots=True)
class Names:
    """The devices of a page, and what was left out, in words."""

    devices: tuple[Named, ...]
    left_out: tuple[str, ...]


def named(rows: Mapping[Place, Row], exporter: Exporter, cpu: Cpu) -> Names:
    """Return the devices of a page; `cpu` is the processor behind RAPL, as far as it is known."""
    taken: dict[str, Named] = {}
    left_out: list[str] = []
    for sort, devices in enumerate(exporter.device):
        of_sort = {place.identity: row for place, row in sorted(rows.items(), reverse=True) if place.sort == sort}
        if devices.only_one and len(of_sort) > 1:
            left_out.append(f"{len(of_sort)} figures of a {devices.domain}, which the page does not tell apart")
            continue
        for identity, row in sorted(of_sort.items(), key=_order):
            name = _name(devices, row, taken)
            if name in taken:
                continue
            places = tuple(Place(sort, figure, identity) for figure in range(len(devices.figures)))
            known = [devices.figures[p.figure] for p in places if p in rows and rows[p].amount is not None]
            taken[name] = Named(_device(name, row, devices, exporter, cpu, known), places, devices.wraps)
    kept = tuple(taken.values())[:MOST_DEVICES]
    if len(taken) > MOST_DEVICES:
        left_out.append(f"{len(taken) - MOST_DEVICES} devices beyond the first {MOST_DEVICES}")
    return Names(kept, tuple(left_out))


def _device(name: str, row: Row, rows: DeviceRows, exporter: Exporter, cpu: Cpu, known: Sequence[Figure]) -> Device:
    """Return a device's record; `known` are the figures that the page has of it, the best first."""
    ratio, is_energy = rows.systematic_ratio, any(figure.unit.is_energy for figure in known)
    whole = known[0].superchip if known and nvml_products.is_superchip(row.model) else ""
    if rows.vendor == "NVIDIA":
        ratio = nvml_products.systematic_ratio(row.model, integrated=not is_energy)
    elif rows.rapl:
        ratio = rapl.systematic_ratio(cpu, rows.domain)
    return Device(
        device=name,
        kind=row.model or f"{rows.domain}, by {exporter.title}",
        domain=whole or rows.domain,
        component=rows.component,
        provenance=Provenance.REPORTED,
        systematic_ratio=ratio,
        max_watts=rapl.MOST_WATTS if rows.wraps and rows.domain != "psys" and row.uuid else None,
        vendor=rows.vendor,
        model=row.model,
        uuid=row.uuid,
        source=exporter.title,
    )


def _order(item: tuple[str, Row]) -> tuple[int, str]:
    identity, row = item
    return int(row.number) if _is_number(row) else 10**_NUMBER_DIGITS, identity


def _name(rows: DeviceRows, row: Row, taken: Mapping[str, Named]) -> str:
    """Return what a device is called: a name that is taken already where it is the same hardware by another road."""
    if _is_number(row):
        name = f"{rows.device}-{int(row.number)}"
        is_another = name in taken and row.uuid and taken[name].device.uuid
        return _free(rows.device, taken) if is_another else name
    if row.uuid:
        return _free(rows.device, taken)
    return next((name for name, each in taken.items() if each.device.domain == rows.domain), rows.device)


def _free(device: str, taken: Mapping[str, Named]) -> str:
    return next(f"{device}-{number}" for number in range(len(taken) + 1) if f"{device}-{number}" not in taken)


def _is_number(row: Row) -> bool:
    return row.number.isascii() and row.number.isdecimal() and len(row.number) <= _NUMBER_DIGITS
