"""An outage that outlives the agent loses no request: what waits is kept, and the next agent sends it, once."""

import threading
import time
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pytest

from inferwatt.export.outlet import LATE, Outlet
from inferwatt.export.unsent import OLDEST_NS, Unsent
from inferwatt.ledger.rows import RequestRow
from inferwatt.records import Ending

from .figures import row
from .test_outlet import NOTHING, PATIENCE_SECONDS, Scripted, down, until

FILE = "unsent-scripted.json"


def recent(name: str) -> RequestRow:
    """Return a request that has just ended, with all that an exporter may tell of it."""
    request = replace(
        row(name).request,
        traceparent="00-x",
        tags={"team": "t"},
        units={"images": 2},
        chunk_ns=(1, 2),
        ending=Ending.EOS,
    )
    return replace(row(name), request=request, end_unix_ns=time.time_ns(), corrects=3)


def run(exporter: Scripted, folder: Path | None, *rows: RequestRow, seconds: float = PATIENCE_SECONDS) -> Outlet:
    """Run an agent's outlet to its end; it hands in these."""
    one = Outlet(exporter, lambda: NOTHING, folder=folder)
    one.offer(rows)
    one.start()
    one.ask_to_stop()
    one.join(seconds)
    return one


def test_the_next_agent_sends_what_this_one_could_not(tmp_path: Path) -> None:
    """Whole, callers' spans too, in their order and before what is new; then there is no file any more."""
    rows = [recent("a"), recent("b")]
    run(Scripted(repeat(down())), tmp_path, *rows)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    exporter = Scripted(iter([]))
    run(exporter, tmp_path)

    assert list(exporter.given.get().requests) == rows
    assert list(tmp_path.iterdir()) == []
    again = Scripted(iter([]))
    run(again, tmp_path)
    assert again.given.get().requests == []


def test_an_agent_that_is_killed_in_an_outage_has_kept_it_before(tmp_path: Path) -> None:
    """After each failure, not at the end alone."""
    one = Outlet(Scripted(repeat(down())), lambda: NOTHING, folder=tmp_path)
    one.offer([recent("a")])
    one.start()
    until(lambda: (tmp_path / FILE).exists())
    kept, _ = Unsent(tmp_path, "scripted").load(time.time_ns())
    one.ask_to_stop()
    one.join(PATIENCE_SECONDS)

    assert [each.request.request for each in kept] == ["a"]


def test_what_hangs_at_the_end_is_kept(tmp_path: Path) -> None:
    """An exporter whose other side says nothing is left to its fate, its requests are not."""
    gate = threading.Event()
    run(Scripted(iter([]), blocked=gate), tmp_path, recent("a"), seconds=0.05)
    kept, _ = Unsent(tmp_path, "scripted").load(time.time_ns())
    gate.set()

    assert [each.request.request for each in kept] == ["a"]


def test_where_nothing_fails_there_is_no_file(tmp_path: Path) -> None:
    """Nothing is written in vain; nor where there is no folder, or no request is wanted."""
    run(Scripted(iter([])), tmp_path, recent("a"))
    run(Scripted(repeat(down()), wants_requests=False), tmp_path, recent("a"))
    run(Scripted(repeat(down())), None, recent("a"))

    assert list(tmp_path.iterdir()) == []


def test_what_is_too_old_is_counted_and_left_to_the_ledger(tmp_path: Path) -> None:
    """An agent that comes back after a week tells nothing of last week as of today."""
    Unsent(tmp_path, "scripted").keep([replace(recent("a"), end_unix_ns=time.time_ns() - OLDEST_NS - 1), recent("b")])
    exporter = Scripted(iter([]))
    one = run(exporter, tmp_path)

    assert [each.request.request for each in exporter.given.get().requests] == ["b"]
    assert one.health().dropped == {LATE: 1}


def test_a_damaged_file_is_told_and_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is gone after the start."""
    (tmp_path / FILE).write_text('[{"request": ')
    exporter = Scripted(iter([]))
    run(exporter, tmp_path, recent("a"))

    assert "cannot be read" in caplog.text
    assert [each.request.request for each in exporter.given.get().requests] == ["a"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The outlet goes on without it."""
    run(Scripted(repeat(down())), tmp_path / "none", recent("a"))

    assert caplog.text.count("is not kept") == 1
    assert "the ledger has them" in caplog.text
