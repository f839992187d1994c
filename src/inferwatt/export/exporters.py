"""The exporters of this installation that are configured, found by entry point."""

from collections.abc import Mapping
from importlib.metadata import entry_points

from inferwatt.errors import InferwattError
from inferwatt.export.exporter import About, Exporter, OpenExporter
from inferwatt.export.settings import ExportConfig
from inferwatt.snapshot import Lack

GROUP = "inferwatt.exporters"


def open_all(
    settings: ExportConfig, about: About, openers: Mapping[str, OpenExporter] | None = None
) -> tuple[tuple[Exporter, ...], tuple[Lack, ...]]:
    """Open what is configured; one that cannot be opened is a lack, and the others go on.

    Raises:
        InferwattError: the configuration of one is wrong, or its extra is not installed.
    """
    exporters: list[Exporter] = []
    lacks: list[Lack] = []
    for name, opener in (_installed(lacks) if openers is None else openers).items():
        try:
            exporter = opener(settings, about)
        except InferwattError:
            raise
        except Exception as exc:  # noqa: BLE001 - another package's exporter must not end the agent; it is shown as a lack
            lacks.append(_broken(name, exc))
            continue
        if exporter is not None:
            exporters.append(exporter)
    return tuple(exporters), tuple(lacks)


def _installed(lacks: list[Lack]) -> dict[str, OpenExporter]:
    found: dict[str, OpenExporter] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            found[entry.name] = entry.load()
        except Exception as exc:  # noqa: BLE001 - as above
            lacks.append(_broken(entry.name, exc))
    return found


def _broken(name: str, exc: Exception) -> Lack:
    what = f"the exporter {name} failed to start: {type(exc).__name__}: {exc}"
    return Lack(what, GROUP, "update the package that brings it, or remove it", source=name)
