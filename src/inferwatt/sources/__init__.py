"""What the hardware used: sources know hardware and nothing of inference.

One `Source` is one device. Sources are found through the entry-point group ``inferwatt.sources``, ours included:
each entry is a function ``discover(settings: SourcesConfig) -> Found``. A package outside this one adds its own the
same way; when it fails it becomes a `Lack`, and the others go on.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol

from inferwatt.records import Component, Condition, Device, Event, Provenance, Reading, Usage
from inferwatt.snapshot import Lack
from inferwatt.sources.settings import SourcesConfig

__all__ = [
    "GROUP",
    "Discover",
    "Emitted",
    "Found",
    "Said",
    "Source",
    "SourcesConfig",
    "UsageReader",
    "discover_all",
    "reading_in",
]

GROUP = "inferwatt.sources"

Emitted = Reading | Usage | Condition | Event
"""What a source can say."""
Said = Reading | tuple[Emitted, ...] | None
"""What one read brings: a reading, several records, or nothing new."""


class Source(Protocol):
    """One device and how it is read; only the sampler calls `read`."""

    @property
    def name(self) -> str:
        """Return which kind of source this is, e.g. ``rapl``."""
        ...

    @property
    def device(self) -> Device:
        """Return what is measured."""
        ...

    @property
    def period_ns(self) -> int:
        """Return the shortest time between two reads that can differ, nanoseconds; 0 is as fast as asked."""
        ...

    def read(self, now_ns: int) -> Said:
        """Return the reading at `now_ns` (CLOCK_MONOTONIC), with what else is due; None where nothing is new.

        Raises:
            SourceRetry: this read failed, the next may work.
            SourceGone: the device is not there any more.
        """
        ...

    def close(self) -> None:
        """Let go of files and handles; a second call does nothing."""
        ...


class UsageReader(Protocol):
    """What reads the shares of processes, e.g. `usage.CpuUsage`."""

    def read(self, now_ns: int) -> Iterable[Usage]:
        """Return the shares since the last read."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What one discovery came back with: sources that can be read, and what is missing with its remedy."""

    sources: tuple[Source, ...] = ()
    lacks: tuple[Lack, ...] = ()


Discover = Callable[[SourcesConfig], Found]


def reading_in(said: Said) -> Reading | None:
    """Return the reading in what one read brought, None where it has none."""
    if isinstance(said, tuple):
        return next((record for record in said if isinstance(record, Reading)), None)
    return said


def discover_all(settings: SourcesConfig, *, discoverers: Mapping[str, Discover] | None = None) -> Found:
    """Return every source of this machine, each device once.

    A modelled figure never stands beside a better one of the same component: where a RAPL package is readable, the
    modelled CPU would count the same joules a second time, so it is closed.

    Args:
        settings: where to look.
        discoverers: entry-point name to function, for tests; read from the installed packages when None.
    """
    sources: list[Source] = []
    lacks: list[Lack] = []
    wanted = _installed(lacks) if discoverers is None else discoverers
    for name, discover in wanted.items():
        if name in settings.disabled:
            continue
        found = _contained(name, discover, settings)
        sources += found.sources
        lacks += found.lacks
    kept, more = _resolve(sources)
    return Found(tuple(kept), (*lacks, *more))


def _installed(lacks: list[Lack]) -> dict[str, Discover]:
    """Load the entry points; one that cannot be imported becomes a lack."""
    loaded: dict[str, Discover] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            loaded[entry.name] = entry.load()
        except Exception as exc:  # noqa: BLE001 - another package's import must not end ours; it is shown as a lack
            lacks.append(_broken(entry.name, entry.value, exc))
    return loaded


def _contained(name: str, discover: Discover, settings: SourcesConfig) -> Found:
    try:
        return discover(settings)
    except Exception as exc:  # noqa: BLE001 - a failing source must not end the others; it is shown as a lack
        return Found(lacks=(_broken(name, getattr(discover, "__module__", GROUP), exc),))


def _broken(name: str, where: str, exc: Exception) -> Lack:
    return Lack(
        what=f"the source {name} failed to start: {type(exc).__name__}: {exc}",
        where=where,
        fix=f'set sources.disabled = ["{name}"], or update the package that brings it',
    )


def _resolve(sources: Iterable[Source]) -> tuple[list[Source], list[Lack]]:
    """Keep one source per device name, and no modelled component beside a better one."""
    order = list(Provenance)
    best: dict[Component, int] = {}
    by_name: dict[str, Source] = {}
    lacks: list[Lack] = []
    for source in sources:
        device = source.device
        if device.device in by_name:
            lacks.append(_duplicate(source, by_name[device.device]))
            source.close()
            continue
        by_name[device.device] = source
        rank = order.index(device.provenance)
        best[device.component] = min(rank, best.get(device.component, rank))
    kept = []
    for source in by_name.values():
        device = source.device
        if device.provenance is Provenance.MODELLED and best[device.component] < order.index(Provenance.MODELLED):
            source.close()
        else:
            kept.append(source)
    return kept, lacks


def _duplicate(source: Source, first: Source) -> Lack:
    return Lack(
        what=f"two sources call a device {source.device.device}: {first.name} is read, {source.name} is not",
        where=GROUP,
        fix=f'set sources.disabled = ["{source.name}"]',
    )
