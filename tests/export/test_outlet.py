import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.export import outlet
from inferwatt.export.exporter import Batch, Exporter, ExportRefused, ExportRetry
from inferwatt.export.outlet import Outlet, Outlets, pause_seconds
from inferwatt.ledger.rows import RequestRow
from inferwatt.records import Request
from inferwatt.snapshot import LiveView, Snapshot

PATIENCE_SECONDS = 20.0
NOTHING = Snapshot({}, {}, LiveView(0.0, 0.0, "0", "h", (), (), (), (), (), ()))


def row(name: str) -> RequestRow:
    """Return an ended request."""
    return RequestRow(Request(name), None, "s", 1)


def down() -> ExportRetry:
    """Return what an exporter says whose other side is away; it may be asked again at once."""
    return ExportRetry("away", where="there", fix="wait", reason="connection", retry_after_seconds=0.0)


@dataclass
class Scripted:
    """An exporter that answers as it is told, and tells what it was given."""

    answers: Iterator[Exception | None]
    name: str = "scripted"
    period_seconds: float = 0.001
    wants_requests: bool = True
    given: "queue.Queue[Batch]" = field(default_factory=queue.Queue)
    closed: threading.Event = field(default_factory=threading.Event)
    blocked: threading.Event | None = None

    def export(self, batch: Batch) -> int:
        """Take a batch, or not."""
        if self.blocked is not None:
            self.blocked.wait(PATIENCE_SECONDS)
        answer = next(self.answers, None)
        self.given.put(batch)
        if answer is not None:
            raise answer
        return 0

    def close(self) -> None:
        """Note that it is over."""
        self.closed.set()

    def next_requests(self) -> list[str]:
        """Return the names of the requests of the next batch that has some."""
        while True:
            batch = self.given.get(timeout=PATIENCE_SECONDS)
            if batch.requests:
                return [each.request.request for each in batch.requests]


@contextmanager
def running(exporter: Exporter) -> Iterator[Outlet]:
    """Run an outlet while the block runs."""
    one = Outlet(exporter, lambda: NOTHING)
    one.start()
    yield one
    one.ask_to_stop()
    one.join(PATIENCE_SECONDS)


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    ticks = threading.Event()
    for _ in range(int(PATIENCE_SECONDS * 100)):
        if is_so():
            return
        ticks.wait(0.01)
    raise AssertionError("it did not come to pass")


def test_a_request_is_sent_again_until_it_is_taken() -> None:
    """Two failures keep the batch whole and in order; once taken it is not sent again."""
    exporter = Scripted(iter([down(), down()]))
    with running(exporter) as one:
        one.offer([row("a"), row("b")])
        seen = [exporter.next_requests()]
        until(lambda: one.health().exports > 0 and one.health().queued == 0)
    while not exporter.given.empty():
        batch = exporter.given.get()
        seen += [[each.request.request for each in batch.requests]] if batch.requests else []

    assert all(names == ["a", "b"] for names in seen)
    assert len(seen) <= 3
    assert one.health().failures == {"connection": 2}
    assert one.health().error == ""
    assert exporter.closed.is_set()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ExportRefused("no", where="there", fix="none", reason="400"), "400"),
        (ValueError("a bug of the exporter"), outlet.BUG),
    ],
)
def test_what_is_refused_for_good_is_dropped_and_counted(answer: Exception, reason: str) -> None:
    """A batch that nobody will take does not stand in the way of the next."""
    exporter = Scripted(iter([answer]))
    one = Outlet(exporter, lambda: NOTHING)
    one.offer([row("bad"), row("worse")])
    one.start()
    until(lambda: one.health().dropped == {reason: 2})
    one.offer([row("good")])

    assert exporter.next_requests() == ["bad", "worse"]
    assert exporter.next_requests() == ["good"]
    one.ask_to_stop()
    one.join(PATIENCE_SECONDS)
    assert one.health().failures == {reason: 1}


def test_too_many_push_out_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing is taken the queue has its bound, the newest stay, and what is lost is counted."""
    monkeypatch.setattr(outlet, "MOST_REQUESTS", 3)
    exporter = Scripted(iter([]))
    one = Outlet(exporter, lambda: NOTHING)
    one.offer([row("a"), row("b")])
    one.offer([row("c"), row("d"), row("e")])
    health = one.health()
    one.start()

    assert (health.queued, health.dropped) == (3, {outlet.OVERFLOW: 2})
    assert exporter.next_requests() == ["c", "d", "e"]
    one.ask_to_stop()
    one.join(PATIENCE_SECONDS)


def test_an_outage_of_one_never_touches_another() -> None:
    """While one exporter hangs, handing in does not wait and the other goes on; at the end it is left to its fate."""
    gate = threading.Event()
    stuck, well = Scripted(iter([]), "stuck", blocked=gate), Scripted(iter([]), "well")
    both = Outlets([stuck, well], lambda: NOTHING)
    both.start()
    for number in range(50):
        both.offer([row(f"r{number}")])
    sent: list[str] = []
    while len(sent) < 50:
        sent += well.next_requests()
    both.stop(0.05)
    health = {each.name: each for each in both.health()}
    gate.set()

    assert sent == [f"r{number}" for number in range(50)]
    assert (health["stuck"].exports, health["stuck"].queued) == (0, 50)
    assert health["well"].queued == 0
    assert stuck.closed.wait(PATIENCE_SECONDS)


def test_at_the_end_everything_that_waits_is_sent() -> None:
    """The last snapshot and the last requests go out when the agent ends, whatever the period was."""
    exporter = Scripted(iter([]), period_seconds=3600.0)
    with running(exporter) as one:
        exporter.given.get(timeout=PATIENCE_SECONDS)
        one.offer([row("last")])

    assert exporter.next_requests() == ["last"]
    assert exporter.closed.is_set()


def test_a_batch_says_whether_more_follow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the last of a backlog: an exporter need not send every figure with each of them."""
    monkeypatch.setattr(outlet, "BATCH_REQUESTS", 2)
    exporter = Scripted(iter([]), period_seconds=PATIENCE_SECONDS)
    one = Outlet(exporter, lambda: NOTHING)
    one.offer(row(str(number)) for number in range(4))
    one.ask_to_stop()
    one.start()
    one.join(PATIENCE_SECONDS)

    assert [exporter.given.get().has_more for _ in range(2)] == [True, False]


def test_who_wants_no_requests_keeps_none() -> None:
    """An exporter of snapshots has no queue."""
    one = Outlet(Scripted(iter([]), wants_requests=False), lambda: NOTHING)
    one.offer([row("a")])

    assert one.health().queued == 0


@given(st.integers(1, 10_000), st.integers())
def test_pauses_grow_and_differ_and_end_at_a_minute(attempt: int, seed: int) -> None:
    """Between half and all of a time that doubles from one second to sixty: many agents do not come back at once."""
    longest = min(2.0 ** min(attempt - 1, 10), outlet.LONGEST_PAUSE_SECONDS)

    assert longest / 2 <= pause_seconds(attempt, None, Random(seed)) <= longest


def test_the_other_side_may_ask_for_patience() -> None:
    """What a Retry-After says is kept, within reason."""
    assert pause_seconds(1, 30.0, Random(1)) == 30.0
    assert pause_seconds(1, 1e9, Random(1)) == outlet.LONGEST_ASKED_SECONDS
