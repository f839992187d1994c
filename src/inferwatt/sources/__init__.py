"""What the hardware used: sources know hardware and nothing of inference.

One `Source` is one device. Sources are found through the entry-point group ``inferwatt.sources``, ours included:
each entry is a function ``discover(settings: SourcesConfig) -> Found``. A package outside this one adds its own the
same way; when it fails it becomes a `Lack`, and the others go on. Which of them reads what is decided in choice.py.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from inferwatt.records import Condition, Device, Event, Reading, Usage
from inferwatt.snapshot import Lack
from inferwatt.sources.asking import PATIENCE_SECONDS, answer_of
from inferwatt.sources.choice import PassedOver, choose
from inferwatt.sources.settings import SourcesConfig

__all__ = [
    "GROUP",
    "Discover",
    "Emitted",
    "Found",
    "PassedOver",
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
    """What one discovery came back with: sources that can be read, and what is missing with its remedy.

    All sources together also say what was found and is not read, and which of them were asked (entry-point names).
    """

    sources: tuple[Source, ...] = ()
    lacks: tuple[Lack, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    asked: tuple[str, ...] = ()


Discover = Callable[[SourcesConfig], Found]


def reading_in(said: Said) -> Reading | None:
    """Return the reading in what one read brought, None where it has none."""
    if isinstance(said, tuple):
        return next((record for record in said if isinstance(record, Reading)), None)
    return said


def discover_all(
    settings: SourcesConfig,
    *,
    discoverers: Mapping[str, Discover] | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Found:
    """Return the sources of this machine that are to be read: no two of them count the same joules.

    Args:
        settings: where to look.
        discoverers: entry-point name to function, for tests; read from the installed packages when None.
        patience_seconds: how long one of them may take.
    """
    lacks: list[Lack] = []
    wanted = _installed(settings, lacks) if discoverers is None else discoverers
    asked = tuple(name for name in wanted if name not in settings.disabled)
    sources: list[Source] = []
    for name in asked:
        found = _contained(name, wanted[name], settings, patience_seconds)
        sources += found.sources
        lacks += (lack if lack.source else replace(lack, source=name) for lack in found.lacks)
    choice = choose(sources)
    for source in choice.closed:
        _close(source, lacks)
    return Found(choice.kept, tuple(lacks), choice.passed_over, asked)


def _installed(settings: SourcesConfig, lacks: list[Lack]) -> dict[str, Discover]:
    """Return what the entry points name; one that cannot be imported finds nothing, and says so."""
    entries = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    names = {entry.name for entry in entries}
    lacks += (_no_such_source(name, names) for name in settings.disabled if name not in names)
    return {entry.name: _loaded(entry) for entry in entries if entry.name not in settings.disabled}


def _loaded(entry: EntryPoint) -> Discover:
    try:
        discover: Discover = entry.load()
    except Exception as exc:  # noqa: BLE001 - another package's import must not end ours; it is shown as a lack
        broken = Found(lacks=(_broken(entry.name, entry.value, exc),))
        return lambda _settings: broken
    return discover


def _contained(name: str, discover: Discover, settings: SourcesConfig, patience_seconds: float) -> Found:
    def ask() -> Found:
        found = discover(settings)
        if not isinstance(found, Found):
            raise TypeError(f"it returns {type(found).__name__}, not Found")
        return found

    try:
        return answer_of(ask, too_late=_close_all, patience_seconds=patience_seconds)
    except Exception as exc:  # noqa: BLE001 - a failing source must not end the others; it is shown as a lack
        return Found(lacks=(_broken(name, getattr(discover, "__module__", GROUP), exc),))


def _close_all(found: Found) -> None:
    for source in found.sources:
        source.close()


def _close(source: Source, lacks: list[Lack]) -> None:
    try:
        source.close()
    except Exception as exc:  # noqa: BLE001 - as above: what is not read must not end what is
        lacks.append(_broken(source.name, source.device.device, exc))


def _broken(name: str, where: str, exc: Exception) -> Lack:
    return Lack(
        what=f"the source {name} failed to start: {type(exc).__name__}: {exc}",
        where=where,
        fix=f'set sources.disabled = ["{name}"], or update the package that brings it',
        source=name,
    )


def _no_such_source(name: str, names: Collection[str]) -> Lack:
    return Lack(
        what=f"no source is called {name}: nothing is left out by it",
        where="sources.disabled",
        fix=f"name one of: {', '.join(sorted(names))}",
    )
