import pytest

from inferwatt import keeper, wall
from inferwatt.ports import ProducerGone
from inferwatt.records import Engine, Outcome, Reading, Request, Sums
from inferwatt.routing import RESOLVE_NS
from inferwatt.snapshot import Lack
from tests.desk import MS, PRODUCER, SECOND, Desk, Told, ended, opened

REQUESTS, ROWS = "inferwatt_requests_total", "inferwatt_ledger_rows_total"
DEVICE_ENERGY, DROPPED = "inferwatt_device_energy_joules_total", "inferwatt_records_dropped_total"


def settle(desk: Desk, *requests: Request) -> None:
    """Say requests that have just ended, and let them settle."""
    desk.say(*requests)
    desk.live(2)


def test_a_request_is_kept_then_acknowledged_and_shown() -> None:
    """The whole way of a request: metered, committed with its row, acknowledged, its joules told and shown."""
    desk = Desk()
    desk.say(opened("r", desk.now))
    desk.live(1)

    settle(desk, ended("r", desk.now - SECOND, desk.now))

    assert desk.told.acks == [(PRODUCER, 1), (PRODUCER, 2)]
    row = desk.row("r")
    assert row.energy is not None
    assert row.energy.energy_uj == pytest.approx(100e6, rel=0.15)
    assert (row.server, row.request.tenant) == ("vllm:1", "__unknown__")
    assert row.end_unix_ns - (row.arrival_unix_ns or 0) == SECOND
    assert desk.told.energies[-1] == row.energy
    assert desk.shown(REQUESTS) == {("m", "vllm:1", "finished"): 1}
    assert [view.request for view in desk.keeper.snapshot.live.requests] == ["r"]


def test_nothing_is_acknowledged_while_the_disk_is_full() -> None:
    """Rows that cannot be committed are kept and tried again, and nobody is told anything of them before."""
    desk = Desk()
    desk.live(1)
    desk.disk.full = True

    settle(desk, ended("r", desk.now - SECOND, desk.now))
    assert (desk.told.acks, desk.told.energies, desk.disk.rows) == ([], [], {})
    assert "disk is full" in desk.keeper.ledger_error
    assert Lack("the disk is full", "the ledger", "free some space") in desk.keeper.snapshot.live.lacks

    asked = desk.disk.asked
    desk.live(3)
    assert asked < desk.disk.asked

    desk.disk.full = False
    settle(desk, ended("s", desk.now - SECOND, desk.now))
    assert desk.told.acks[-1] == (PRODUCER, 2)
    assert desk.disk.rows.keys() == {(PRODUCER, "r"), (PRODUCER, "s")}
    assert desk.keeper.ledger_error == ""
    assert desk.keeper.snapshot.live.lacks == ()
    assert desk.shown("inferwatt_ledger_errors_total")[()] > 1
    assert desk.shown("inferwatt_ledger_pending_rows") == {(): 0}


def test_what_passes_did_is_no_second_count() -> None:
    """Neither tokens nor unlisted work come of it, and the engine is busy; what was lost is counted."""
    desk = Desk()
    desk.live(1)
    passes = Sums(desk.now - SECOND, desk.now, "vllm:1", steps=40, prefill_tokens=9, decode_requests=80, lost_passes=2)
    desk.keeper.put(passes)
    desk.keeper.step()
    assert desk.keeper.is_busy

    desk.live(6)
    assert desk.shown(DROPPED) == {("lost_passes",): 2}
    for tokens in ("prompt", "output"):
        assert not any(desk.shown(f"inferwatt_{tokens}_tokens_total").values())


def test_sums_of_a_full_disk_are_committed_once() -> None:
    """What was used while the disk was full is in the hours of the first commit that works, and in no other."""
    desk = Desk()
    desk.live(1)
    desk.disk.full = True
    desk.live(5)
    desk.disk.full = False
    desk.live(5)
    desk.keeper.finish()

    hours_uj = sum(sum(batch.device_hours.values()) for batch in desk.disk.batches)
    assert (
        hours_uj == sum(desk.disk.counters[DEVICE_ENERGY].values()) == desk.metering.device_totals["gpu-0"]["measured"]
    )
    accounts_uj = sum(value.energy_uj for batch in desk.disk.batches for value in batch.hours.values())
    assert accounts_uj == hours_uj


def test_figures_are_shown_only_with_a_commit() -> None:
    """Between two commits the page stands still: what it shows is what is on disk."""
    desk = Desk()
    for _ in range(30):
        desk.live(0.1)
        assert desk.shown(DEVICE_ENERGY) == desk.disk.counters.get(DEVICE_ENERGY, {})


def test_figures_go_on_while_the_disk_takes_nothing_and_say_so() -> None:
    """A full disk ends no metering: the counters grow, and what is lacking is shown beside them."""
    desk = Desk()
    desk.live(2)
    desk.disk.full = True
    desk.live(3)

    assert sum(desk.shown(DEVICE_ENERGY).values()) > sum(desk.disk.counters[DEVICE_ENERGY].values())
    assert "the disk is full" in [lack.what for lack in desk.keeper.snapshot.live.lacks]


def test_a_message_is_acknowledged_with_all_of_its_records() -> None:
    """The inbox hands records over one by one: a step between two of them must not acknowledge the message."""
    desk = Desk()
    desk.live(1)
    desk.say(opened("open", desk.now), seq=1, is_last=False)
    desk.live(1.5)
    desk.say(ended("r", desk.now - SECOND, desk.now), seq=1)
    desk.keeper.step()

    assert (PRODUCER, 1) not in desk.told.acks or (PRODUCER, "r") in desk.disk.rows


def test_an_open_record_is_acknowledged_with_the_next_commit() -> None:
    """What only says that a request is open needs no row: the next commit acknowledges it."""
    desk = Desk()
    desk.say(opened("r", desk.now))
    desk.live(1.2)

    assert desk.told.acks == [(PRODUCER, 1)]
    assert desk.disk.rows == {}


def test_joules_are_told_while_a_request_is_open_and_once_when_it_is_final() -> None:
    """Provisional figures grow five times a second at most; the final one comes once, after its commit, and is last."""
    desk = Desk()
    start = desk.now
    desk.say(opened("r", start))
    desk.live(3)
    provisional = list(desk.told.energies)
    desk.say(ended("r", start, desk.now))
    desk.live(3)

    figures = [energy.energy_uj for energy in provisional]
    assert figures == sorted(figures)
    assert 10 <= len(figures) <= 15
    finals = [energy for energy in desk.told.energies if energy.final]
    assert finals == [desk.row("r").energy] == [desk.told.energies[-1]]
    assert finals[0].energy_uj == pytest.approx(300e6, rel=0.05)


def test_a_request_of_an_unknown_model_waits_and_is_then_its_own_process() -> None:
    """For half a second a connection may still show its server; then the process that asked is metered."""
    desk = Desk()
    desk.live(1)
    desk.say(opened("r", desk.now, model="gpt-x"), pid=7)
    desk.live(RESOLVE_NS / SECOND - 0.1)
    assert desk.metering.open_requests() == []

    desk.live(0.1)
    [request] = desk.metering.open_requests()
    assert (request.engine, request.model) == ("sdk:7", "gpt-x")
    assert 7 in desk.metering.pids
    assert desk.metering.engines["sdk:7"].server == "sdk"


def test_a_process_that_talks_to_a_server_is_routed_to_it() -> None:
    """Whatever it calls the model: a connection to a server's port names the server, also when it comes late."""
    connected: set[tuple[int, str]] = set()
    desk = Desk(talks_to=lambda pid, url: (pid, url) in connected)
    desk.serve(Engine("vllm:2", "other", ("gpu-0",), server="vllm:2", kind="vllm"))
    desk.say(opened("r", desk.now, model="alias"), pid=7)
    desk.live(0.2)
    connected.add((7, "http://vllm:2"))
    desk.live(0.1)

    [request] = desk.metering.open_requests()
    assert (request.engine, request.model) == ("vllm:2", "other")


def test_a_server_that_is_found_later_gets_the_later_requests() -> None:
    """A client may be quicker than the search for servers: what it asks after the server was found is the server's."""
    desk = Desk()
    desk.say(opened("early", desk.now, model="late-model"), pid=7)
    desk.live(1)
    desk.serve(Engine("vllm:2", "late-model", ("gpu-0",), server="vllm:2", kind="vllm"))
    desk.live(0.1)
    desk.say(opened("later", desk.now, model="late-model"), pid=7)
    desk.live(0.1)

    assert {r.request: r.engine for r in desk.metering.open_requests()} == {"early": "sdk:7", "later": "vllm:2"}


def test_tags_are_kept_by_the_configured_list() -> None:
    """Only tags that the operator has named are kept."""
    desk = Desk(tag_keys=frozenset({"team"}))
    desk.live(1)

    settle(desk, ended("r", desk.now - SECOND, desk.now, tags={"team": "a", "secret": "b"}))

    assert desk.row("r").request.tags == {"team": "a"}


def test_a_step_of_the_wall_clock_is_noted() -> None:
    """A step is an event with its size and a pair of times; rows from then on are placed by the new clock."""
    desk = Desk()
    desk.live(1)
    before_unix_ns = desk.clock.unix_ns()
    desk.clock.step_wall(-3600 * SECOND)
    desk.live(2)
    settle(desk, ended("r", desk.now - SECOND, desk.now))

    pairs = [batch.clock_pair for batch in desk.disk.batches if batch.clock_pair is not None]
    assert [pair.note for pair in pairs] == ["", "clock_step"]
    assert pairs[1].unix_ns - pairs[1].monotonic_ns == pairs[0].unix_ns - pairs[0].monotonic_ns - 3600 * SECOND
    assert desk.row("r").end_unix_ns < before_unix_ns
    assert desk.row("r").end_unix_ns == desk.clock.unix_ns() - 2 * SECOND


def test_a_clock_that_is_slewed_is_followed_silently() -> None:
    """Small corrections are no step: no event, and rows are placed by the corrected clock."""
    desk = Desk()
    desk.live(1)
    desk.clock.step_wall(wall.STEP_NS - 1)
    settle(desk, ended("r", desk.now - SECOND, desk.now))

    assert len([batch for batch in desk.disk.batches if batch.clock_pair]) == 1
    assert desk.row("r").end_unix_ns == desk.clock.unix_ns() - 2 * SECOND


def test_what_is_too_much_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what may wait for the loop, items are dropped, never blocked on, and counted."""
    monkeypatch.setattr(keeper, "MAX_ITEMS", 5)
    desk = Desk()
    for number in range(9):
        desk.keeper.put(Reading(desk.now + number, "gpu-0", number))
    desk.live(1)

    assert desk.shown(DROPPED) == {("overload",): 6}  # the server and four readings fitted


def test_a_record_that_is_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that finds no room is refused, so that its connection ends and its producer sends it again."""
    desk = Desk()
    desk.live(1)
    monkeypatch.setattr(keeper, "MAX_ITEMS", 0)

    with pytest.raises(OverflowError):
        desk.say(ended("r", desk.now - SECOND, desk.now))


def test_without_a_ledger_all_is_acknowledged_and_shown() -> None:
    """Where no ledger could be opened the meter still meters, shows and answers."""
    told = Told()
    desk = Desk(store=None, outbox=told)
    desk.live(1)

    settle(desk, ended("r", desk.now - SECOND, desk.now))

    assert told.acks == [(PRODUCER, 1)]
    assert [energy.final for energy in told.energies] == [True]
    assert desk.shown(REQUESTS) == {("m", "vllm:1", "finished"): 1}


def test_the_desk_knows_when_there_is_work() -> None:
    """Sampling is quick while a request is open, or a server says that it works, and for two seconds after."""
    desk = Desk()
    desk.live(1)
    assert not desk.keeper.is_busy

    desk.keeper.put(Sums(desk.now - SECOND, desk.now, "vllm:1", 0, 0, 5, 0))
    desk.live(1)
    assert desk.keeper.is_busy
    desk.live(1)
    assert not desk.keeper.is_busy

    desk.say(opened("r", desk.now))
    desk.live(5)
    assert desk.keeper.is_busy


def test_a_lost_producers_requests_end_unless_it_comes_back() -> None:
    """Ten seconds after its connection ended its open requests are aborted; a record in between calls that off."""
    desk = Desk()
    desk.say(opened("left", desk.now))
    desk.say(opened("kept", desk.now, producer="q"))
    for producer in (PRODUCER, "q"):
        desk.keeper.put(ProducerGone(producer))
    desk.live(5)
    gone_at = desk.now - 5 * SECOND
    desk.say(opened("kept", desk.now - 5 * SECOND, producer="q"))
    desk.live(8)

    assert desk.row("left").request.outcome is Outcome.ABORTED
    assert desk.row("left").request.end_ns == pytest.approx(gone_at, abs=200 * MS)
    assert [r.request for r in desk.metering.open_requests()] == ["kept"]
