"""What exporters are handed: requests, once, and only those that the ledger has."""

from inferwatt.ledger.rows import RequestRow
from tests.desk import SECOND, Desk, ended


def test_requests_are_exported_after_they_are_kept_and_once() -> None:
    """While the disk is full nothing leaves the machine; then each request does, one time, with its joules."""
    rows: list[RequestRow] = []
    desk = Desk(on_kept=rows.extend)
    desk.live(1)
    desk.disk.full = True
    desk.say(ended("r", desk.now - SECOND, desk.now))
    desk.live(2)
    before = list(rows)

    desk.disk.full = False
    desk.live(2)
    desk.say(ended("s", desk.now - SECOND, desk.now))
    desk.live(2)

    assert before == []
    assert [row.request.request for row in rows] == ["r", "s"]
    assert all(row.energy is not None and row.energy.final for row in rows)
