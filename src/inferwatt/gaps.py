"""The gap of a restart: what a device used while no agent ran is booked once, unattributed. Pure."""

from collections.abc import Mapping

from inferwatt.ledger.rows import DeviceState
from inferwatt.records import Device, Event, EventKind, Provenance, Reading
from inferwatt.residual import OVERHEAD

_GOES_ON = frozenset({Provenance.MEASURED, Provenance.REPORTED, Provenance.SIMULATED})
"""Counters that live outside this process, and so go on without it."""
_GENEROUS_WATTS = 1000.0
"""What a device whose counter wraps may use at most: longer gaps could hide a whole turn, so they are not bridged."""


class Gaps:
    """Bridges each device's gap at its first reading, and says what the next agent has to know of the counters.

    Args:
        boot_id: names this boot; counters of another boot are never compared.
        before: what the last agent committed, by device.
    """

    def __init__(self, boot_id: str, before: Mapping[str, DeviceState]) -> None:
        self._boot_id = boot_id
        self._before = dict(before)
        self._wraps: dict[str, int | None] = {}

    def before(self, reading: Reading) -> tuple[Reading | Event, ...]:
        """Return what comes before a reading: what the last agent saw, where the counter went on from there."""
        self._wraps[reading.device] = reading.wraps_at_uj
        before = self._before.pop(reading.device, None) if self._before else None
        if before is None or not self._goes_on(before, reading):
            return ()
        seen = Reading(before.t_ns, reading.device, before.counter_uj, wraps_at_uj=before.wraps_at_uj)
        return seen, Event(reading.t_ns, EventKind.READ_FAILURE, reading.device, detail="no agent ran")

    def _goes_on(self, before: DeviceState, reading: Reading) -> bool:
        elapsed_ns = reading.t_ns - before.t_ns
        if before.boot_id != self._boot_id or elapsed_ns <= 0 or reading.counter_uj is None:
            return False
        return before.wraps_at_uj is None or before.wraps_at_uj > _GENEROUS_WATTS * elapsed_ns / 1000

    def states(self, devices: Mapping[str, Device], closed: Mapping[str, tuple[int, int]]) -> list[DeviceState]:
        """Return what the next agent has to know: the counters up to which joules are booked.

        Args:
            devices: the devices.
            closed: by device, until when its counter is settled, ns, and what it showed then, µJ.
        """
        return [
            DeviceState(name, self._boot_id, counter_uj, t_ns, self._wraps.get(name))
            for name, (t_ns, counter_uj) in closed.items()
            if name in devices and devices[name].provenance in _GOES_ON and devices[name].domain != OVERHEAD
        ]
