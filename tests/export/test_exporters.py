from importlib.metadata import entry_points

import pytest

from inferwatt.errors import ConfigError
from inferwatt.export.exporter import About, Exporter
from inferwatt.export.exporters import GROUP, open_all
from inferwatt.export.settings import ExportConfig
from inferwatt.export.textfile import Textfile

ABOUT = About("h", "0", 0)


def test_ours_are_found_as_everybodys_are() -> None:
    """Each of ours is an entry point, can be loaded, and is silent until it is configured."""
    assert "textfile" in {entry.name for entry in entry_points(group=GROUP)}
    assert open_all(ExportConfig(), ABOUT) == ((), ())


def test_a_package_of_somebody_else_reads_its_own_table() -> None:
    """`[export.other.NAME]` reaches the exporter that knows it; one that fails to start is a lack, the rest goes on."""

    def theirs(settings: ExportConfig, _about: About) -> Exporter:
        return Textfile(settings.other["theirs"]["path"], 1.0, name="theirs")  # type: ignore[arg-type]

    def broken(_settings: ExportConfig, _about: About) -> Exporter:
        raise ImportError("no module named thing")

    exporters, lacks = open_all(
        ExportConfig(other={"theirs": {"path": "x"}}), ABOUT, {"broken": broken, "theirs": theirs}
    )

    assert [exporter.name for exporter in exporters] == ["theirs"]
    assert [lack.what for lack in lacks] == ["the exporter broken failed to start: ImportError: no module named thing"]


def test_a_wrong_configuration_stops_the_start() -> None:
    """What the user must change is told at once, not shown as a lack."""

    def wrong(_settings: ExportConfig, _about: About) -> Exporter:
        raise ConfigError("no", where="export.wrong", fix="right")

    with pytest.raises(ConfigError):
        open_all(ExportConfig(), ABOUT, {"wrong": wrong})
