"""What the whole server draws beyond its devices: fans, memory, network, conversion losses. Pure.

    overhead = energy of the server - energy of every device that is counted by itself, over the same window

The server's meter (a BMC) is slow and coarse, so a window is the time between two of its readings. What the devices
used in it is taken from their own counters as far as they were read by then: the windows follow each other without a
gap, so a moment's difference at a border is made up in the next window.

The overhead's counter never falls and never exceeds the server's: where the devices seem to use more than the server,
nothing is added until that is made up, and an event says so. It is an alarm, not a zero: one of the meters is wrong, or
a device is counted that this server does not feed.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from inferwatt.attribution.timeline import Timeline
from inferwatt.records import Component, Device, Event, EventKind, Provenance, Reading

OVERHEAD = "overhead"
SERVER_DOMAIN = "server"
_RANK = {provenance: rank for rank, provenance in enumerate(Provenance)}
_LEAST_RATIO = 0.05
_MOST_RATIO = 1.0


class Residual:
    """Makes a counter of what is left of the server's energy.

    Args:
        server: the device that measures the whole server (`domain` is "server").
        devices: the devices that are counted by themselves.
        timelines: gives their timelines.
    """

    def __init__(
        self, server: Device, devices: Mapping[str, Device], timelines: Callable[[], Mapping[str, Timeline]]
    ) -> None:
        self.server = server
        self.device: Device | None = None
        self._devices = devices
        self._timelines = timelines
        self._timeline = Timeline(server)
        self._before: Mapping[str, int] = {}
        self._left_uj = 0
        self._shown_uj = 0

    def failed(self, event: Event) -> None:
        """Note that a read of the server's meter failed."""
        self._timeline.failed(event)

    def take(self, reading: Reading) -> tuple[Reading | Event, ...]:
        """Take a reading of the server's meter; return the overhead's counter where a window has ended.

        `device` is set from the first such reading on.
        """
        opened_ns = self._timeline.open_since_ns
        tick = self._timeline.add(reading)
        if tick is None:
            if self._timeline.open_since_ns != opened_ns:  # it began anew: what went before is not known
                self._before = self._measured_uj()
            return ()
        now_uj = self._measured_uj()
        used = {name: now_uj[name] - self._before.get(name, 0) for name in now_uj}
        self._before = now_uj
        left_uj = tick.energy_uj - sum(used.values())
        error_uj = self.server.systematic_ratio * tick.energy_uj + sum(
            self._devices[name].systematic_ratio * uj for name, uj in used.items()
        )
        self._left_uj += left_uj
        first: tuple[Reading | Event, ...] = ()
        if self.device is None:
            self.device = self._described(error_uj / left_uj if left_uj > 0 else _MOST_RATIO)
            first = (Reading(tick.t0_ns, OVERHEAD, 0),)
        self._shown_uj = max(self._shown_uj, self._left_uj)
        counter = Reading(tick.t1_ns, OVERHEAD, self._shown_uj)
        if left_uj + error_uj >= 0:
            return (*first, counter)
        detail = f"the devices used {-left_uj / 1e6:.0f} J more than the server"
        return (*first, counter, Event(tick.t1_ns, EventKind.NEGATIVE_RESIDUAL, OVERHEAD, detail=detail))

    def _measured_uj(self) -> dict[str, int]:
        return {name: timeline.measured_uj for name, timeline in self._timelines().items() if name != OVERHEAD}

    def _described(self, error_ratio: float) -> Device:
        """Return what the overhead is: as sure as the least sure of its terms, with all their bounds together."""
        known = [self.server, *self._devices.values()]
        provenance = max((device.provenance for device in known), key=_RANK.__getitem__)
        return replace(
            self.server,
            device=OVERHEAD,
            kind=f"{self.server.kind or 'server'} less its devices",
            domain=OVERHEAD,
            component=Component.OVERHEAD,
            provenance=provenance,
            systematic_ratio=min(max(error_ratio, _LEAST_RATIO), _MOST_RATIO),
            idle_watts=None,
        )
