"""Which engine runs on which devices, and whose processes held them: pids meet engines here. Pure.

An engine runs on the devices that its server's configuration names, on the accelerators that its processes hold, and
on every part of the host. A process of no engine is another process. One that serves several models is each one's by
what the server last counted of it, and all of theirs alike while it counts nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from inferwatt.records import HOST, Activity, Component, Device, Engine, Sums, Usage

HOST_COMPONENTS = frozenset({Component.CPU, Component.DRAM, Component.OVERHEAD})


class Placement:
    """Knows the devices, the engines' processes, and which process is inferwatt itself."""

    def __init__(self) -> None:
        self._devices: dict[str, Device] = {}
        self._engines_of: dict[int, tuple[str, ...]] = {}
        self._servers: dict[str, str] = {}
        self._worked: dict[str, int] = {}
        self._named: dict[str, tuple[str, ...]] = {}
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

    def seen(self, engine: Engine, pids: Iterable[int]) -> None:
        """Take what is known of an engine: the devices that it names, and its processes now."""
        name = engine.engine
        self._named[name], self._servers[name] = engine.devices, engine.server
        others = {pid: tuple(e for e in engines if e != name) for pid, engines in self._engines_of.items()}
        self._engines_of = {pid: engines for pid, engines in others.items() if engines}
        for pid in pids:
            same = (e for e in self._engines_of.get(pid, ()) if engine.server and self._servers[e] == engine.server)
            self._engines_of[pid] = (*same, name)

    def worked(self, sums: Sums) -> None:
        """Take what a server last counted of an engine: tokens, else what it counts instead, else what is running."""
        tokens = (sums.prompt_tokens or 0) + (sums.output_tokens or 0)
        self._worked[sums.engine] = tokens or sum(sums.units.values()) or sums.running or 0

    @property
    def pids(self) -> frozenset[int]:
        """The processes whose use of the devices is to be watched."""
        return frozenset(self._engines_of) | ({self._own_pid} if self._own_pid >= 0 else frozenset())

    def placed(self, engine: Engine) -> Engine:
        """Return the engine with the devices that it runs on."""
        host = {name for name, device in self._devices.items() if device.component in HOST_COMPONENTS}
        named, held = self._named.get(engine.engine, ()), self._held.get(engine.engine, set())
        return replace(engine, devices=tuple(sorted({*named, *held, *host})))

    def take_moved(self) -> set[str]:
        """Return the engines that were found on another accelerator since the last call."""
        moved, self._moved = self._moved, set()
        return moved

    def joined(self, usage: Usage) -> Activity:
        """Return the usage with engines in place of pids; what belongs to no engine is another process.

        A process that cannot be known is one of the engines that name the device, where any does.
        """
        named = [name for name, devices in self._named.items() if usage.device in devices]
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

    def _hold(self, device: str, shares: Mapping[str, float]) -> None:
        for name in shares:
            held = self._held.setdefault(name, set())
            if device not in held:
                held.add(device)
                self._moved.add(name)
