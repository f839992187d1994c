"""What a meter inside a process says of its window: all devices, and the process's own share of them."""

from dataclasses import dataclass

from inferwatt.records import Component, Provenance
from inferwatt.snapshot import Lack
from inferwatt.units import joules


@dataclass(frozen=True, slots=True)
class DeviceEnergy:
    """What one device used in the window, µJ, whoever caused it; None where it never answered."""

    device: str
    component: Component
    provenance: Provenance
    energy_uj: int | None
    systematic_ratio: float


@dataclass(frozen=True, slots=True)
class MeterEnergy:
    """A window of a meter: the devices' totals, and this process's share with its bounds (µJ).

    `own_uj` is None where nothing could be measured, and `lacks` then says what is missing and what would help.
    `low_uj` and `high_uj` are the 90% interval of the split, `systematic_ratio` the 90% bound of the sensors.
    """

    devices: tuple[DeviceEnergy, ...] = ()
    own_uj: int | None = None
    low_uj: int | None = None
    high_uj: int | None = None
    provenance: Provenance | None = None
    systematic_ratio: float = 0.0
    window_ns: int = 0
    lacks: tuple[Lack, ...] = ()

    @property
    def own_joules(self) -> float | None:
        """This process's share, joules."""
        return None if self.own_uj is None else joules(self.own_uj)
