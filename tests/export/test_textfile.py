from pathlib import Path

import pytest

from inferwatt.errors import ConfigError
from inferwatt.export.exporter import About, Batch, ExportRetry
from inferwatt.export.settings import ExportConfig, TextfileConfig
from inferwatt.export.textfile import Textfile, open_exporter
from inferwatt.snapshot import LiveView, Snapshot

ABOUT = About("h", "0", 0)
PAGE = Snapshot({"inferwatt_source_up": {("nvml",): 1}}, {}, LiveView(0.0, 0.0, "0", "h", (), (), (), (), (), ()))


def test_the_page_is_put_in_place_whole(tmp_path: Path) -> None:
    """The file is the classic page, readable by node_exporter's user, and nothing else is left in its folder."""
    path = tmp_path / "inferwatt.prom"
    path.write_text("old")
    exporter = open_exporter(ExportConfig(textfile=TextfileConfig(str(path))), ABOUT)
    assert exporter is not None
    exporter.export(Batch(0, PAGE))
    exporter.close()

    assert 'inferwatt_source_up{source="nvml"} 1\n' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["inferwatt.prom"]


def test_a_folder_that_is_not_there_is_told_and_tried_again(tmp_path: Path) -> None:
    """What cannot be written says where and what to do; the next batch may be."""
    exporter = Textfile(tmp_path / "none" / "inferwatt.prom", 1.0)
    with pytest.raises(ExportRetry, match=r"(?s)No such file.*inferwatt\.prom.*make the folder"):
        exporter.export(Batch(0, PAGE))
    (tmp_path / "none").mkdir()

    assert exporter.export(Batch(0, PAGE)) == 0


def test_a_name_that_the_collector_would_not_read_stops_the_start() -> None:
    """node_exporter reads `*.prom` alone: anything else would be silent for ever."""
    with pytest.raises(ConfigError, match=r"(?s)\.prom.*export\.textfile\.path"):
        open_exporter(ExportConfig(textfile=TextfileConfig("/tmp/inferwatt.txt")), ABOUT)
    assert open_exporter(ExportConfig(), ABOUT) is None
