"""Which engine runs on which devices, and whose processes held them: pids meet engines here. Pure.

An engine runs on the devices that its server's configuration names, on those that its container holds alone, on the
accelerators that its processes hold, and on every part of the host. Where no driver lists an accelerator's processes,
what a process was allowed to see is taken for it. A process of no engine is another process. One that serves several
models is each one's by what the server last counted of it, and all of theirs alike while it counts nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from inferwatt.records import HOST, NOWHERE, Activity, Component, Device, Engine, Place, Request, Sums, Usage

HOST_COMPONENTS = frozenset({Component.CPU, Component.DRAM, Component.OVERHEAD})
_BY_BUS = "pci-bus-order:"
"""engines/visible.py writes an accelerator's number among all NVIDIA GPUs behind this."""


class Placement:
    """Knows the devices, the engines' processes, and which process is inferwatt itself."""

    def __init__(self) -> None:
        self._devices: dict[str, Device] = {}
        self._engines_of: dict[int, tuple[str, ...]] = {}
        self._servers: dict[str, str] = {}
        self._worked: dict[str, int] = {}
        self._named: dict[str, tuple[str, ...]] = {}
        self._places: dict[str, Place] = {}
        self._listed: set[str] = set()
        self._held: dict[str, set[str]] = {}
        self._moved: set[str] = set()
        self._own_pid = -1
        self._own_parts: dict[str, float] = {}

    def add_device(self, device: Device) -> None:
        """Make a device known."""
        self._devices[device.device] = device

    def own_process(self, pid: int) -> None:
        """Say which process is inferwatt itself."""
        self._own_pid = pid

    def seen(self, engine: Engine, pids: Iterable[int], place: Place | None = None) -> None:
        """Take what is known of an engine: the devices that it names, its processes now, and where its server runs."""
        name = engine.engine
        if place is not None:
            self._settle_at(engine, place)
        self._named[name], self._servers[name] = engine.devices, engine.server
        others = {pid: tuple(e for e in engines if e != name) for pid, engines in self._engines_of.items()}
        self._engines_of = {pid: engines for pid, engines in others.items() if engines}
        for pid in pids:
            same = (e for e in self._engines_of.get(pid, ()) if engine.server and self._servers[e] == engine.server)
            self._engines_of[pid] = (*same, name)

    def worked(self, sums: Sums) -> None:
        """Take what a server last counted of an engine: tokens, else what it counts instead, else what is running."""
        if sums.steps is not None:
            return
        tokens = (sums.prompt_tokens or 0) + (sums.output_tokens or 0)
        self._worked[sums.engine] = tokens or sum(sums.units.values()) or sums.running or 0

    @property
    def pids(self) -> frozenset[int]:
        """The processes whose use of the devices is to be watched."""
        return frozenset(self._engines_of) | ({self._own_pid} if self._own_pid >= 0 else frozenset())

    def placed(self, engine: Engine) -> Engine:
        """Return the engine with the devices that it runs on."""
        host = {name for name, device in self._devices.items() if device.component in HOST_COMPONENTS}
        named, held = self._owned(engine.engine), self._held.get(engine.engine, set())
        sees = devices_of(self.place_of(engine).sees, self._devices.values()) - self._listed
        return replace(engine, devices=tuple(sorted({*named, *held, *sees, *host})))

    def place_of(self, engine: Engine) -> Place:
        """Return where an engine's server runs, empty where that is not known."""
        return self._places.get(engine.server or engine.engine, NOWHERE)

    def stamped(self, request: Request) -> Request:
        """Return the request with the names of where it was served, where they are known."""
        place = self._places.get(self._servers.get(request.engine) or request.engine, NOWHERE)
        if not place.pod:
            return request
        return replace(request, namespace=place.namespace, pod=place.pod, container=place.container)

    def _owned(self, name: str) -> set[str]:
        """Return the devices that are named for an engine, and those that its container holds alone."""
        place = self._places.get(self._servers.get(name) or name, NOWHERE)
        return {*self._named.get(name, ()), *devices_of(place.holds, self._devices.values())}

    def _settle_at(self, engine: Engine, place: Place) -> None:
        """Note where a server runs; all of its engines are placed anew where that is new."""
        server = engine.server or engine.engine
        if self._places.get(server) != place:
            self._places[server] = place
            self._moved |= {name for name, of in self._servers.items() if of == server and name != engine.engine}

    def take_moved(self) -> set[str]:
        """Return the engines that were found on another accelerator since the last call."""
        moved, self._moved = self._moved, set()
        return moved

    def joined(self, usage: Usage) -> Activity:
        """Return the usage with engines in place of pids; what belongs to no engine is another process.

        A process that cannot be known is one of the engines that name the device, where any does.
        """
        named = [name for name in self._named if usage.device in self._owned(name)]
        shares = dict.fromkeys(named, 0.0)
        other = usage.other_ratio
        for pid, ratio in usage.shares.items():
            owners = self._engines_of.get(pid, tuple(named))
            other += 0.0 if owners else ratio
            for name, part in self._parts(owners).items():
                shares[name] = shares.get(name, 0.0) + ratio * part
        self._own_parts[usage.device] = usage.shares.get(self._own_pid, 0.0) / other if other > 0 else 0.0
        device = self._devices.get(usage.device)
        if device is not None and device.component is Component.ACCELERATOR:
            self._list(usage.device)
            self._hold(usage.device, shares)
        return Activity(usage.t0_ns, usage.t1_ns, usage.device, shares, other, usage.unknown_ratio)

    def _parts(self, owners: tuple[str, ...]) -> dict[str, float]:
        """Return each owner's part of one process: by its newest work, equal where none of them worked."""
        work = {name: self._worked.get(name, 0) for name in owners}
        total = sum(work.values())
        return {name: amount / total if total else 1 / len(owners) for name, amount in work.items()}

    def own_part(self, device: str) -> float:
        """Return inferwatt's own part of what other processes used of a device, by the newest shares."""
        by_host = self._own_parts.get(HOST, 0.0) if self._devices[device].component in HOST_COMPONENTS else 0.0
        return self._own_parts.get(device, by_host)

    def _list(self, device: str) -> None:
        """Note that a driver lists who holds a device: who was only allowed to see it does not count any more."""
        if device not in self._listed:
            self._listed.add(device)
            self._moved |= {name for name in self._named if self._places.get(self._servers[name] or name, NOWHERE).sees}

    def _hold(self, device: str, shares: Mapping[str, float]) -> None:
        for name in shares:
            held = self._held.setdefault(name, set())
            if device not in held:
                held.add(device)
                self._moved.add(name)


def devices_of(ids: Iterable[str], devices: Iterable[Device]) -> set[str]:
    """Return the names of the accelerators that these ids mean; one that means none, or several, is left out.

    Args:
        ids: UUIDs, which may be cut short, or numbers in the order of the PCI bus (engines/visible.py).
        devices: what there is.
    """
    accelerators = [device for device in devices if device.component is Component.ACCELERATOR]
    found = set()
    for each in ids:
        if each.startswith(_BY_BUS):
            number = each.removeprefix(_BY_BUS)
            fits = [d for d in accelerators if d.device == f"gpu-{number}" and d.vendor == "NVIDIA" and d.uuid]
        else:
            fits = [d for d in accelerators if d.uuid and d.uuid.casefold().startswith(each.casefold())]
        if len(fits) == 1:
            found.add(fits[0].device)
    return found
