"""Which accelerators a server's processes hold: the drivers' own lists of processes, joined with who listens.

An accelerator's process is a server's if it is one of the server's or descends from one. Beside that stands what the
kubelet gave to a server's container alone, and, for accelerators of which no driver lists the processes, what a server
was allowed to see. What is not known by any of these is not mapped: never guessed, least of all by order.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from inferwatt.clock import Clock
from inferwatt.engines.places import Found
from inferwatt.engines.servers import Target
from inferwatt.errors import InferwattError
from inferwatt.placement import devices_of
from inferwatt.records import NOWHERE, Component, Place, Usage
from inferwatt.snapshot import Lack
from inferwatt.sources import Source
from inferwatt.sources.families import Families
from inferwatt.units import NS_PER_SECOND

PATIENCE_NS = 3 * NS_PER_SECOND // 2
"""How long a driver may take to list its processes: the slowest of ours does so once a second."""
_LOOK_NS = NS_PER_SECOND // 20


def held(
    sources: Iterable[Source],
    targets: Sequence[Target],
    *,
    clock: Clock,
    places: Mapping[str, Place] | None = None,
    wait: Callable[[float], object] = time.sleep,
    proc_root: str = "/proc",
) -> Mapping[str, tuple[str, ...]] | None:
    """Return by server the accelerators that it holds or is configured to run on; None where there are none at all.

    Args:
        sources: what the machine has.
        targets: the servers.
        clock: where the time comes from.
        places: by server, where it runs, as far as that is known.
        wait: what lets so many seconds pass between two looks.
        proc_root: where /proc is.
    """
    families = Families(proc_root)
    families.watch({pid for target in targets for pid in target.pids})
    asked = {s.device.device: s for s in sources if s.device.component is Component.ACCELERATOR}
    holders: dict[str, frozenset[int]] = {}
    until_ns = clock.monotonic_ns() + PATIENCE_NS
    while len(holders) < len(asked) and clock.monotonic_ns() < until_ns:
        for device, source in asked.items():
            if device not in holders and (usage := _usage(source, clock.monotonic_ns())) is not None:
                holders[device] = frozenset(families.resolve(usage).shares)
        wait(_LOOK_NS / NS_PER_SECOND)
    if not asked:
        return None
    devices = [source.device for source in asked.values()]

    def of(target: Target) -> set[str]:
        place = (places or {}).get(target.name, NOWHERE)
        by_process = {device for device, pids in holders.items() if pids & target.pids}
        sees = devices_of(place.sees, devices) - holders.keys()
        return {*target.devices, *by_process, *devices_of(place.holds, devices), *sees}

    return {target.name: tuple(sorted(of(target))) for target in targets}


def lacks(looks: Mapping[str, Found], held: Mapping[str, tuple[str, ...]] | None) -> tuple[Lack, ...]:
    """Return what keeps servers from being mapped: to a pod, and to accelerators where that is not known otherwise."""
    found: list[Lack] = []
    for name, look in looks.items():
        is_mapped = held is None or held.get(name)
        wanted = [look.unnamed, None if is_mapped else look.unmapped]
        found += (replace(lack, what=f"{name}: {lack.what}") for lack in wanted if lack is not None)
    return tuple(found)


def _usage(source: Source, now_ns: int) -> Usage | None:
    """Return who uses a device, None where the driver has not said so this time."""
    try:
        told = source.read(now_ns)
    except InferwattError:
        return None
    return next((item for item in told if isinstance(item, Usage)), None) if isinstance(told, tuple) else None
