"""What is told of a request's work after its joules were final is a new row of the ledger, and a counter of its own."""

import pytest

from inferwatt.answers import Answers
from inferwatt.export.catalog import IDLE_RESIDENT
from inferwatt.ledger.rows import REQUEST_ACCOUNT, RequestRow
from inferwatt.records import Phase, Step
from inferwatt.testing import FakeClock, memory_ledger
from tests.desk import MS, SECOND, SERVER, Desk, ended

CORRECTIONS = "inferwatt_corrections_joules_total"
ENERGY = "inferwatt_energy_joules_total"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def told_late(desk: Desk, late_seconds: float) -> None:
    """Run a request whose steps are told in time for its first second, and for its second one so much later."""
    begin_ns = desk.now
    late = []
    for _ in range(20):
        desk.live(0.1)
        step = Step(desk.now - 100 * MS, desk.now, SERVER.engine, (("r", 1, 10, Phase.DECODE),))
        if desk.now <= begin_ns + SECOND:
            desk.metering.feed(step)
        else:
            late.append(step)
    desk.say(ended("r", begin_ns, begin_ns + 2 * SECOND, traceparent=CALLER))
    desk.live(late_seconds)
    for step in late:
        desk.metering.feed(step)
    desk.live(3)


def joules(row: RequestRow) -> float:
    """Return what a row says that its request used."""
    assert row.energy is not None
    return row.energy.energy_uj / 1e6


def test_a_final_request_that_is_corrected_has_a_second_row() -> None:
    """The first row stays as it was; who asks is told the second, and sums count the request once, with its joules."""
    clock = FakeClock(monotonic_ns=100 * SECOND)
    kept = memory_ledger(clock)
    desk = Desk(clock, store=kept)
    desk.live(3)
    told_late(desk, 3)

    first, second = kept.find("r")
    assert (first.corrects, second.corrects) == (None, first.seq)
    assert joules(first) == pytest.approx(100, abs=11)
    assert joules(second) == pytest.approx(200, abs=11)
    assert (second.request, second.end_unix_ns) == (first.request, first.end_unix_ns)
    answers = Answers(kept, lambda: desk.keeper.snapshot)
    assert answers(limit=10, request="r") == answers(limit=10)
    assert answers(limit=10)[0]["energy_joules"] == pytest.approx(joules(second))
    hours = kept.hours(0, 1e10)
    requests = [value for key, value in hours.items() if key.account == REQUEST_ACCOUNT]
    assert sum(value.energy_uj for value in requests) / 1e6 == pytest.approx(joules(second))
    assert sum(value.requests for value in requests) == 1
    assert sum(value.energy_uj for value in hours.values()) == sum(kept.device_hours(0, 1e10).values())
    assert kept.verify().ok


def test_counters_stand_and_what_was_moved_is_one_of_its_own() -> None:
    """What was counted of a closed tick is never taken back; the difference to the ledger is told."""
    desk = Desk()
    desk.live(3)
    told_late(desk, 3)

    moved = desk.shown(CORRECTIONS)
    assert moved == {(IDLE_RESIDENT, REQUEST_ACCOUNT, "measured"): pytest.approx(100e6, rel=0.11)}
    by_phase = {labels[2]: uj for labels, uj in desk.shown(ENERGY).items()}
    assert by_phase["decode"] == pytest.approx(100e6, rel=0.11)


def test_a_row_that_waits_for_the_disk_is_corrected_in_place() -> None:
    """What no one was told yet needs no second row: the producer hears the corrected joules, once."""
    desk = Desk()
    desk.live(3)
    desk.disk.full = True
    told_late(desk, 3)
    desk.disk.full = False
    desk.live(2)

    row = desk.row("r")
    assert row.energy is not None
    assert joules(row) == pytest.approx(200, abs=11)
    assert [len(batch.rows) for batch in desk.disk.batches if batch.rows] == [1]
    assert [energy.energy_uj for energy in desk.told.energies if energy.final] == [row.energy.energy_uj]


def test_exporters_are_handed_the_correction_with_its_callers_span() -> None:
    """The request as it was first, then what replaces it: the ledger does not keep the caller's span, we do."""
    handed: list[RequestRow] = []
    clock = FakeClock(monotonic_ns=100 * SECOND)
    desk = Desk(clock, store=memory_ledger(clock), on_kept=handed.extend)
    desk.live(3)
    told_late(desk, 3)

    first, second = handed
    assert (first.corrects, second.corrects) == (None, 1)
    assert first.request.traceparent == second.request.traceparent == CALLER
    assert joules(second) == pytest.approx(200, abs=11)


def test_a_correction_without_a_ledger_harms_nobody() -> None:
    """Where nothing is kept there is nothing to correct."""
    desk = Desk(store=None)
    desk.live(3)
    told_late(desk, 3)

    assert desk.shown(CORRECTIONS)
    assert not desk.shown("inferwatt_records_dropped_total")
