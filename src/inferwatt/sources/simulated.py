"""A simulated accelerator: a folder in which a simulator keeps a counter, as a driver keeps one in sysfs.

`inferwatt simulate --live` writes it; nothing is here unless `sources.simulated` names the folder. Each device is a
folder with two files, each replaced whole: `device.json`, a `records.Device`, whose provenance is `simulated` whatever
it says; and `state.json`, what the device shows now. Every joule from here is labelled `simulated`.
"""

from dataclasses import replace
from pathlib import Path

import msgspec

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Condition, Device, Provenance, Reading, Usage
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, Said, SourcesConfig
from inferwatt.units import NS_PER_SECOND

DEVICE, STATE = "device.json", "state.json"
FIX = "inferwatt simulate --live"
_USAGE_NS = NS_PER_SECOND // 5
_PERIOD_NS = NS_PER_SECOND // 100


class State(msgspec.Struct, frozen=True):
    """What a simulated device shows: its counter, which process holds it, and how busy that keeps it (0 to 1)."""

    counter_uj: int
    pid: int
    busy_ratio: float


_state = msgspec.json.Decoder(State)


class SimulatedSource:
    """One simulated device."""

    name = "simulated"
    period_ns = _PERIOD_NS

    def __init__(self, folder: Path, device: Device) -> None:
        self.device = device
        self._path = folder / STATE
        self._used_ns: int | None = None

    def read(self, now_ns: int) -> Said:
        """Return the counter, and a few times a second who used the device and how busy it was."""
        state = self._now()
        reading = Reading(now_ns, self.device.device, counter_uj=state.counter_uj)
        if self._used_ns is None:
            self._used_ns = now_ns
        if now_ns - self._used_ns < _USAGE_NS:
            return reading
        busy = min(max(state.busy_ratio, 0.0), 1.0)
        usage = Usage(self._used_ns, now_ns, self.device.device, {state.pid: busy}, other_ratio=0.0)
        self._used_ns = now_ns
        return reading, usage, Condition(now_ns, self.device.device, utilization_ratio=busy)

    def _now(self) -> State:
        try:
            return _state.decode(self._path.read_bytes())
        except FileNotFoundError as exc:
            raise SourceGone("the simulated device is not there any more", where=self._path, fix=FIX) from exc
        except (OSError, msgspec.DecodeError) as exc:
            raise SourceRetry(f"the simulated device cannot be read: {exc}", where=self._path, fix=FIX) from exc

    def close(self) -> None:
        """Nothing to close."""


def discover(settings: SourcesConfig) -> Found:
    """Return the devices in the folder that the configuration names; none where it names none."""
    if not settings.simulated:
        return Found()
    folder = Path(settings.simulated)
    sources, lacks = [], []
    for path in sorted(folder.glob(f"*/{DEVICE}")):
        try:
            device = replace(msgspec.json.decode(path.read_bytes(), type=Device), provenance=Provenance.SIMULATED)
        except (OSError, msgspec.DecodeError) as exc:
            lacks.append(Lack(f"a simulated device cannot be read: {exc}", str(path), FIX, component="accelerator"))
        else:
            sources.append(SimulatedSource(path.parent, replace(device, source=SimulatedSource.name)))
    if not sources and not lacks:
        lacks.append(Lack("there is no simulated device", str(folder), FIX, component="accelerator"))
    return Found(tuple(sources), tuple(lacks))
