"""Which source reads what: each joule is counted once, by the source that knows it best, and the rest is told why not.

Several sources may see the same hardware (a GPU by its driver and by another exporter, a CPU by RAPL, by a rail and by
a model), and some see a whole that contains what others see in parts:

- an accelerator is known by its UUID, or by its name where one of two has none, and is read by the best source;
- a component of the host (CPU, DRAM) is read by one source as a whole: half of it from one and half from another could
  overlap without anyone noticing;
- parts are preferred to a whole. A superchip's module (GPU, CPU and memory in one figure) is read only where its GPU
  cannot be read alone, and then no CPU or DRAM beside it. The platform's `psys` is never read beside an accelerator,
  which it may feed; no DRAM is read beside psys, or beside a CPU's `socket`, which has its memory in it;
- the whole server is always read, once: what its parts used is subtracted from it later.

Best is by provenance; among equals whoever is closer to the hardware, then the narrower bound, then whoever was found
first. Pure: nothing is opened or closed here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from inferwatt.records import Component, Device, Provenance
from inferwatt.sources.renamed import Renamed

if TYPE_CHECKING:
    from inferwatt.sources import Source

SERVER = "server"
"""The domain of a device that is the whole server; its component is overhead."""
COVERS: Mapping[str, frozenset[Component]] = {
    "module": frozenset(Component),
    "psys": frozenset(Component),
    "socket": frozenset({Component.CPU, Component.DRAM}),
}
"""What a domain covers beside its own component; of overhead, what a board feeds, not the whole server."""
WHOLES = frozenset({"module", "psys"})
"""Domains that may contain an accelerator, which others read alone."""
PROVENANCES = tuple(Provenance)
_NEAR = ({Provenance.MEASURED, Provenance.SAMPLED}, {Provenance.REPORTED})
_NEARNESS = ("nvml", "amdsmi", "rapl", "hwmon", "redfish", "ipmi")
_OTHERS = "reported"
_HOST = (Component.CPU, Component.DRAM, Component.OVERHEAD)
_WORDS = {Component.CPU: "the CPU", Component.DRAM: "DRAM", Component.OVERHEAD: "the rest of the server"}


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A device that was found and is not read: what is read in its place, why, and the setting that would change it."""

    device: Device
    source: str
    instead: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The sources to read, in the order in which they were found, and those to close."""

    kept: tuple["Source", ...]
    closed: tuple["Source", ...]
    passed_over: tuple[PassedOver, ...]


def choose(sources: Sequence["Source"]) -> Choice:
    """Return which of these sources to read: no two of them count the same joules."""
    return _Chooser(sources).choice(sources)


class _Chooser:
    """Takes sources up, the best first, and notes why it turns one down."""

    def __init__(self, sources: Iterable["Source"]) -> None:
        ranked = sorted(sources, key=_rank)
        self._kept: list[Source] = []
        self._closed: list[Source] = []
        self._passed_over: list[PassedOver] = []
        parts = [source for source in ranked if not _is_server(source.device)]
        self._accelerators(s for s in parts if s.device.component is Component.ACCELERATOR)
        for component in _HOST:
            self._host([s for s in parts if s.device.component is component])
        self._servers(s for s in ranked if _is_server(s.device))

    def choice(self, found: Sequence["Source"]) -> Choice:
        """Return what was taken up, in the order of `found`, each under a name of its own."""
        kept = sorted(_apart(self._kept), key=lambda pair: next(n for n, s in enumerate(found) if s is pair[0]))
        return Choice(tuple(named for _, named in kept), tuple(self._closed), tuple(self._passed_over))

    def _accelerators(self, ranked: Iterable["Source"]) -> None:
        """Take up each accelerator once; a module after the parts, so that it stands only where there are none.

        A part that an exporter tells of is none: it has its figure from the same driver, and not the driver's scopes.
        """
        for source in sorted(ranked, key=lambda s: (_distance(s.device), _is_whole(s.device))):
            device = source.device
            twin = self._first(partial(_same_hardware, device))
            if twin is None and not device.uuid and (_is_computed(device) or _is_whole(device)):
                twin = next((other for other in self._kept if not _side_by_side(source, other)), None)
            if twin is None:
                self._kept.append(source)
            elif _is_whole(device) and not _is_whole(twin.device):
                self._pass(source, twin, f"it covers the whole module, and {twin.device.device} the GPU alone")
            else:
                self._pass(source, twin, f"the same GPU is read by {_told(twin)}")

    def _servers(self, ranked: Iterable["Source"]) -> None:
        for source in ranked:
            twin = self._first(_is_server)
            if twin is None:
                self._kept.append(source)
            else:
                self._pass(source, twin, f"the whole server is read by {_told(twin)}")

    def _host(self, ranked: Sequence["Source"]) -> None:
        """Take up the figures of one component: of one source alone, and of nothing that overlaps with what is kept."""
        free = [source for source in ranked if not self._overlaps(source)]
        if not free:
            return
        origin = _origin(free[0])
        ours = [source for source in free if _origin(source) == origin]
        parts = [source for source in ours if not _is_whole(source.device)]
        names: dict[str, Source] = {}
        for source in free:
            device = source.device
            if _origin(source) != origin:
                self._pass(source, ours[0], f"{_WORDS[device.component]} is read by {_told(ours[0])}")
            elif parts and _is_whole(device):
                self._pass(source, parts[0], f"it contains {parts[0].device.device}, which is read alone")
            elif device.device in names:
                self._pass(
                    source, names[device.device], f"{names[device.device].name} gave this name to another device"
                )
            else:
                names[device.device] = source
                self._kept.append(source)

    def _overlaps(self, source: "Source") -> bool:
        """Tell whether a source counts joules that are counted already, and turn it down if so."""
        device = source.device
        part = self._first(lambda other: other.component is not device.component and other.component in _covers(device))
        whole = self._first(
            lambda other: other.component is not device.component and device.component in _covers(other)
        )
        if whole is not None:
            self._pass(source, whole, f"{whole.device.device} covers it too: its figure is of the whole {_of(whole)}")
        elif part is not None:
            self._pass(source, part, f"it may contain {part.device.device}, which is read alone")
        return bool(whole or part)

    def _first(self, fits: Callable[[Device], bool]) -> "Source | None":
        return next((source for source in self._kept if fits(source.device)), None)

    def _pass(self, source: "Source", instead: "Source", why: str) -> None:
        fix = "none: both are of the same source"
        if instead.name != source.name:
            fix = f'to read it instead: sources.disabled = ["{instead.name}"]'
        self._closed.append(source)
        self._passed_over.append(PassedOver(source.device, source.name, instead.device.device, why, fix))


def provenance_rank(provenance: Provenance) -> int:
    """Return how far from the best a provenance is: 0 is measured."""
    return PROVENANCES.index(provenance)


def _rank(source: "Source") -> tuple[int, bool, int, float, bool]:
    """Return how good a source is, the best least; a UUID tells hardware apart, so those that have one come first."""
    device = source.device
    nearness = _NEARNESS.index(source.name) if source.name in _NEARNESS else len(_NEARNESS)
    nearness += source.name == _OTHERS
    return provenance_rank(device.provenance), _is_whole(device), nearness, device.systematic_ratio, not device.uuid


def _is_whole(device: Device) -> bool:
    return device.domain in WHOLES


def _covers(device: Device) -> frozenset[Component]:
    return COVERS.get(device.domain, frozenset({device.component}))


def _is_server(device: Device) -> bool:
    return device.domain == SERVER


def _is_computed(device: Device) -> bool:
    return _distance(device) == len(_NEAR)


def _distance(device: Device) -> int:
    """Return how far a figure is from the hardware: 0 is read there, 1 is told by who read it, 2 is computed."""
    return next((n for n, near in enumerate(_NEAR) if device.provenance in near), len(_NEAR))


def _same_hardware(one: Device, other: Device) -> bool:
    if one.component is not other.component:
        return False
    if one.uuid and other.uuid:
        return one.uuid.casefold() == other.uuid.casefold()
    return one.device == other.device


def _side_by_side(one: "Source", other: "Source") -> bool:
    """Tell whether two accelerators are two: what has no UUID is told only from its like, of the same source."""
    return _origin(one) == _origin(other) and _is_whole(one.device) == _is_whole(other.device)


def _origin(source: "Source") -> tuple[str, str]:
    """Return whose figures a source brings: several exporters come by one source."""
    return source.name, source.device.source


def _told(source: "Source") -> str:
    return f"{source.device.source or source.name} ({source.device.provenance.value})"


def _of(source: "Source") -> str:
    return {"psys": "platform"}.get(source.device.domain, source.device.domain)


def _apart(kept: Iterable["Source"]) -> Iterator[tuple["Source", "Source"]]:
    """Yield each source with itself under a name of its own: two drivers may both call their first GPU ``gpu-0``."""
    taken: set[str] = set()
    for source in kept:
        name = next(name for name in _names(source) if name not in taken)
        taken.add(name)
        device = source.device
        yield source, source if name == device.device else Renamed(source, replace(device, device=name))


def _names(source: "Source") -> Iterator[str]:
    name = source.device.device
    yield name
    yield f"{name}-{source.name}"
    yield from (f"{name}-{source.name}-{number}" for number in count(2))
