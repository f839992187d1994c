"""What is known of one device beside its counter. Pure."""

from collections import deque
from dataclasses import dataclass, field

from inferwatt.attribution.idle import BaselinePower, IdlePower
from inferwatt.attribution.lag import Lag
from inferwatt.records import Activity, Device


@dataclass(slots=True)
class Power:
    """What is known of one device beside its counter: its idle power, its baseline, and who was seen holding it."""

    device: Device
    idle: IdlePower
    baseline: BaselinePower
    lag: Lag = field(default_factory=Lag)
    activity: deque[Activity] = field(default_factory=deque)

    @classmethod
    def of(cls, device: Device) -> "Power":
        """Return what is known of a device at first."""
        return cls(device, IdlePower(device), BaselinePower(device))
