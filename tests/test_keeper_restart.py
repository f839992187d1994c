"""What a keeper does after the one before it ended: by kill -9 (it is just not there any more) or in peace."""

import pytest

from inferwatt.ports import ProducerGone
from inferwatt.records import Outcome, Reading, Request
from tests.desk import PRODUCER, SECOND, Desk, ended, opened

REQUESTS, DROPPED = "inferwatt_requests_total", "inferwatt_records_dropped_total"
OUTPUT, DEVICE_ENERGY = "inferwatt_output_tokens_total", "inferwatt_device_energy_joules_total"
FINISHED = ("m", "vllm:1", "finished")


def lived() -> tuple[Desk, Request]:
    """Return a desk that has kept a request, and the request."""
    desk = Desk()
    desk.say(opened("r", desk.now))
    desk.live(1)
    request = ended("r", desk.now - SECOND, desk.now)
    desk.say(request)
    desk.live(2)
    return desk, request


def after(desk: Desk, **options: str) -> Desk:
    """Return the desk of the next agent on the same disk."""
    return Desk(desk.clock, desk.disk, **options)


def test_what_is_said_again_after_a_restart_is_acknowledged_and_not_booked_twice() -> None:
    """A request that the last agent kept, whose acknowledgement was lost, counts once, and hears its joules again."""
    before, request = lived()
    desk = after(before)
    desk.say(request, seq=2)
    desk.live(3)

    assert desk.told.acks == [(PRODUCER, 2)]
    assert [one for one in desk.told.energies if one.final] == [before.row("r").energy]
    assert desk.shown(REQUESTS) == {FINISHED: 1}
    assert desk.shown(OUTPUT) == {("m", "vllm:1"): 10}
    assert desk.shown(DROPPED) == {("duplicate",): 1}
    assert sum(len(batch.rows) for batch in desk.disk.batches) == 1


def test_what_the_killed_agent_had_not_kept_is_taken_in() -> None:
    """A request that was never committed is booked by the next agent."""
    before = Desk()
    before.disk.full = True
    before.say(ended("r", before.now - SECOND, before.now))
    before.live(1)
    before.disk.full = False
    desk = after(before)
    desk.say(ended("r", before.now - 2 * SECOND, before.now - SECOND))
    desk.live(3)

    assert desk.told.acks == [(PRODUCER, 1)]
    assert desk.shown(REQUESTS) == {FINISHED: 1}


def test_counters_go_on_from_what_was_committed() -> None:
    """No counter is lower after a restart than what was on disk."""
    before, _ = lived()
    committed = {name: dict(series) for name, series in before.disk.counters.items()}
    desk = after(before)
    desk.live(2)

    for name, series in committed.items():
        for labels, value in series.items():
            assert desk.shown(name).get(labels, 0) >= value, name


def test_the_gap_of_a_restart_is_booked_once_and_to_nobody() -> None:
    """What the device used since the last commit, while no agent ran, is counted and is unattributed."""
    before, _ = lived()
    booked_uj = sum(before.disk.counters[DEVICE_ENERGY].values())
    before.clock.advance(60 * SECOND)
    desk = after(before)
    desk.live(3)

    accounts = desk.metering.device_totals["gpu-0"]
    assert 6000e6 <= accounts["unattributed"] <= 6150e6  # 60 s, and what was still open when the agent died
    assert accounts["measured"] - accounts["unattributed"] == pytest.approx(250e6, rel=0.2)
    desk.keeper.finish()
    gained_uj = sum(desk.disk.counters[DEVICE_ENERGY].values()) - booked_uj
    assert gained_uj == desk.metering.device_totals["gpu-0"]["measured"]


def test_no_joule_of_the_device_is_lost_by_a_kill() -> None:
    """Over two lives the books hold what the device's counter moved: also the ticks that were open when one died."""
    before, _ = lived()
    first_uj = 100 * SECOND // 10 + 10_000_000  # at the first reading of the first life
    before.clock.advance(60 * SECOND)
    desk = after(before)
    desk.live(3)
    desk.keeper.finish()

    assert sum(desk.disk.counters[DEVICE_ENERGY].values()) == desk.now // 10 - first_uj


def test_the_gap_is_not_bridged_twice() -> None:
    """An agent that ends without having read anything leaves the gap to the next one, an agent that has does not."""
    before, _ = lived()
    before.clock.advance(60 * SECOND)
    blind = after(before)
    blind.reads = False
    blind.live(2)
    seeing = after(before)
    seeing.live(3)
    last = after(before)
    last.live(3)

    unattributed = [desk.metering.device_totals["gpu-0"]["unattributed"] for desk in (blind, seeing, last)]
    assert unattributed[0] == 0
    assert 6200e6 <= unattributed[1] <= 6350e6
    assert unattributed[2] <= 150e6


def test_another_boot_has_no_gap() -> None:
    """After a reboot the counter says nothing of the time before: nothing is bridged, an epoch begins."""
    before, _ = lived()
    before.clock.advance(60 * SECOND)
    desk = after(before, boot_id="new boot")
    desk.live(3)

    assert desk.metering.device_totals["gpu-0"]["unattributed"] == 0
    assert desk.disk.states["gpu-0"].boot_id == "new boot"


def test_a_peaceful_end_settles_what_has_ended() -> None:
    """At the end everything that is known is closed and committed, also requests that still waited for an engine."""
    desk = Desk()
    desk.live(1)
    desk.say(ended("r", desk.now - SECOND, desk.now))
    desk.say(ended("s", desk.now - SECOND, desk.now, model="gpt-x"))
    desk.keeper.finish()

    assert desk.disk.rows.keys() == {(PRODUCER, "r"), (PRODUCER, "s")}
    assert desk.told.acks == [(PRODUCER, 2)]
    assert sum(desk.disk.counters[DEVICE_ENERGY].values()) == desk.metering.device_totals["gpu-0"]["measured"]


def test_a_request_that_is_open_while_the_agent_restarts_in_peace_is_kept_with_its_end() -> None:
    """An upgrade of the agent in the middle of a request costs neither its tokens nor its outcome."""
    before = Desk()
    start = before.now
    before.say(opened("r", start))
    before.live(1)
    before.keeper.finish()
    desk = after(before)
    desk.say(opened("r", start))
    desk.live(1)
    desk.say(ended("r", start, desk.now))
    desk.live(3)

    assert desk.shown(OUTPUT) == {("m", "vllm:1"): 10}
    assert desk.row("r").request.outcome is Outcome.FINISHED


def test_a_request_that_is_open_while_the_agent_is_killed_is_kept_with_its_end() -> None:
    """After kill -9 the SDK says again what is open, and the request is booked once, with its tokens."""
    before = Desk()
    start = before.now
    before.say(opened("r", start))
    before.live(1)
    desk = after(before)
    desk.say(opened("r", start))
    desk.live(1)
    desk.say(ended("r", start, desk.now))
    desk.live(3)

    assert desk.shown(OUTPUT) == {("m", "vllm:1"): 10}
    assert desk.shown(REQUESTS) == {FINISHED: 1}
    assert desk.row("r").request.outcome is Outcome.FINISHED


def test_a_producer_that_was_given_up_and_comes_back_is_not_counted_twice() -> None:
    """A process that was stopped for longer than the patience has its request counted once (ended as aborted)."""
    desk = Desk()
    start = desk.now
    desk.live(1)
    desk.say(opened("r", start + SECOND))
    desk.keeper.put(ProducerGone(PRODUCER))
    desk.live(15)
    assert desk.row("r").request.outcome is Outcome.ABORTED

    desk.say(ended("r", start + SECOND, desk.now))
    desk.live(3)

    assert sum(desk.shown(REQUESTS).values()) == 1


def test_a_producer_that_comes_back_is_not_told_that_its_lost_record_is_kept() -> None:
    """What a slow disk has not kept when a producer is given up is not acknowledged by its next message."""
    desk = Desk()
    desk.live(1)
    desk.disk.full = True
    desk.reads = False  # nor does a device answer, so that the request cannot settle
    desk.say(ended("r", desk.now - SECOND, desk.now))
    desk.keeper.put(ProducerGone(PRODUCER))
    desk.live(15)
    desk.disk.full = False
    desk.say(opened("s", desk.now))
    desk.live(1.5)

    assert (PRODUCER, 2) not in desk.told.acks or (PRODUCER, "r") in desk.disk.rows


def test_requests_become_final_where_no_device_answers() -> None:
    """A meter whose devices are all silent keeps requests without joules, and acknowledges them."""
    desk = Desk()
    desk.live(1)
    desk.reads = False
    desk.say(ended("r", desk.now - SECOND, desk.now))
    desk.live(20)

    assert desk.told.acks == [(PRODUCER, 1)]


def test_a_reading_of_an_unknown_device_does_not_end_the_commits() -> None:
    """A reading that nobody can place is counted and dropped; everything else is kept and shown as before."""
    desk = Desk()
    desk.keeper.put(Reading(desk.now, "gpu-9", 5))
    desk.live(2)

    assert desk.shown(DROPPED) == {("unknown_device",): 1}
