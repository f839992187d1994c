"""Devices as the sources name them, for tests of what is done with them."""

from inferwatt.records import Component, Device, Provenance
from inferwatt.testing import ScriptedSource

ACCELERATOR, CPU, DRAM, OVERHEAD = Component
MEASURED, SAMPLED, REPORTED, MODELLED, *_ = Provenance


def device(
    name: str,
    component: Component = ACCELERATOR,
    provenance: Provenance = MEASURED,
    *,
    domain: str = "",
    uuid: str = "",
    source: str = "",
    ratio: float = 0.05,
) -> Device:
    """Return a device; its domain is the usual one of its component."""
    usual = {ACCELERATOR: "gpu", CPU: "package", DRAM: "dram", OVERHEAD: "server"}
    return Device(
        name,
        domain=domain or usual[component],
        component=component,
        provenance=provenance,
        systematic_ratio=ratio,
        uuid=uuid,
        source=source,
    )


class NamedSource(ScriptedSource):
    """A source of a given kind, with one device."""

    def __init__(self, name: str, of: Device, *counters_uj: int) -> None:
        super().__init__(of, counters_uj)
        self.name = name


def gpu(source: str, number: int, uuid: str = "", **more: object) -> NamedSource:
    """Return a GPU as `source` reads it: NVML and amdsmi measure, others report."""
    provenance = MEASURED if source in {"nvml", "amdsmi"} else REPORTED
    return read_by(source, f"gpu-{number}", ACCELERATOR, **{"provenance": provenance, "uuid": uuid, **more})


def read_by(source: str, name: str, component: Component, **more: object) -> NamedSource:
    """Return a device as `source` reads it."""
    return NamedSource(source, device(name, component, source=source, **more))  # type: ignore[arg-type]
