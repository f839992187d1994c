import os
import time
from pathlib import Path

import pytest

from inferwatt.export.catalog import CATALOG
from inferwatt.export.process import read_process

PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")


@PROC
def test_this_process_describes_itself() -> None:
    """CPU time, memory, files and start are those that the system tells by other ways."""
    families = read_process()
    times = os.times()

    assert set(families) <= set(CATALOG)
    assert families["process_cpu_seconds_total"] == pytest.approx(times.user + times.system, abs=0.1)
    assert 1_000_000 < families["process_resident_memory_bytes"] < families["process_virtual_memory_bytes"]
    assert families["process_open_fds"] >= 3
    assert 0 < families["process_start_time_seconds"] <= time.time() + 1


def test_a_name_with_spaces_and_parentheses_does_not_shift_the_fields(tmp_path: Path) -> None:
    """The kernel prints a process's name as it is."""
    (tmp_path / "self/fd").mkdir(parents=True)
    (tmp_path / "self/fd/0").touch()
    fields = ["S", *map(str, range(4, 53))]
    (tmp_path / "self/stat").write_text(f"7 (a) b (c)) {' '.join(fields)}\n")
    (tmp_path / "stat").write_text("cpu 1 2 3\nbtime 1700000000\n")
    ticks = os.sysconf("SC_CLK_TCK")
    families = read_process(tmp_path)

    assert families["process_cpu_seconds_total"] == (14 + 15) / ticks
    assert families["process_virtual_memory_bytes"] == 23
    assert families["process_start_time_seconds"] == 1_700_000_000 + 22 / ticks
    assert families["process_open_fds"] == 1


def test_without_proc_there_is_nothing_to_say(tmp_path: Path) -> None:
    """Where the system has no /proc the families are absent, not zero."""
    assert read_process(tmp_path) == {}
