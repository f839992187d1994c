"""Devices as the sources name them, for tests of what is done with them."""

from inferwatt.records import Component, Device, Provenance, Reading, Usage
from inferwatt.sources import Said
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


class HeldGpu(ScriptedSource):
    """A GPU at 100 W that one process holds, as a driver tells it."""

    def __init__(self, pid: int) -> None:
        super().__init__(Device("gpu-0", source="scripted"), [])
        self._pid = pid
        self._last_ns = 0

    def read(self, now_ns: int) -> Said:  # type: ignore[override]
        """Return the counter, and who held the device since the last read."""
        self.reads += 1
        t0_ns, self._last_ns = self._last_ns or now_ns - 1, now_ns
        return (Reading(now_ns, "gpu-0", now_ns // 10), Usage(t0_ns, now_ns, "gpu-0", {self._pid: 1.0}, 0.0))
