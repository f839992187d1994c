"""The ring of what is not acknowledged: in order, once, bounded."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from inferwatt import wire
from inferwatt.outbox import RECORDS_PER_FRAME, Outbox
from inferwatt.records import Request


def requests(count: int, **fields: Any) -> list[Request]:
    """Some requests."""
    return [Request(str(number), arrival_ns=1, **fields) for number in range(count)]


def messages(outbox: Outbox) -> list[Any]:
    """Take every frame that can be sent."""
    decoder, found = wire.Decoder(), []
    while (frame := outbox.next_frame()) is not None:
        found += decoder.feed(frame)
    return found


def test_records_go_into_numbered_frames() -> None:
    """Numbers start at 1 and rise by one; a frame holds at most 256 records."""
    outbox = Outbox()
    outbox.add(requests(RECORDS_PER_FRAME + 1))
    outbox.add([])
    found = messages(outbox)

    assert [(one["seq"], len(one["records"])) for one in found] == [(1, RECORDS_PER_FRAME), (2, 1)]


def test_what_was_acknowledged_is_not_said_again() -> None:
    """After a lost connection the rest is said again in its order, under its numbers."""
    outbox = Outbox()
    for one in requests(5):
        outbox.add([one])
    assert len(messages(outbox)) == 5
    outbox.acked(2)
    outbox.again()

    assert [one["seq"] for one in messages(outbox)] == [3, 4, 5]
    outbox.again()
    outbox.acked(4)
    assert [one["seq"] for one in messages(outbox)] == [5]
    outbox.acked(99)
    assert (outbox.is_empty, outbox.held_bytes) == (True, 0)


def test_the_ring_drops_its_oldest_and_counts_them() -> None:
    """An agent that stays away costs bounded memory; what had to be dropped is known to the record."""
    outbox = Outbox(max_bytes=1000)
    for one in requests(100):
        outbox.add([one])
    found = messages(outbox)

    assert outbox.held_bytes <= 1000
    assert outbox.dropped_records + len(found) == 100
    assert found[-1]["seq"] == 100


def test_large_records_share_no_frame() -> None:
    """A frame never passes 1 MiB: its records are spread over more frames, and none is lost."""
    outbox = Outbox()
    outbox.add(requests(40, chunk_ns=(2**62,) * 4096))
    found = messages(outbox)

    assert sum(len(one["records"]) for one in found) == 40
    assert len(found) > 2


def test_a_record_that_fits_nowhere_is_dropped_alone() -> None:
    """What cannot be written at all costs only itself."""
    outbox = Outbox()
    outbox.add([*requests(2), Request("large", arrival_ns=1, chunk_ns=(2**62,) * 100_000)])

    assert [len(one["records"]) for one in messages(outbox)] in ([1, 1], [2])
    assert outbox.dropped_records == 1


@given(st.lists(st.sampled_from(["add", "send", "lose", "ack"]), max_size=60))
def test_nothing_is_lost_and_the_order_holds(deeds: list[str]) -> None:
    """However sending, losing and acknowledging mix, each frame arrives, and first arrivals are in order."""
    outbox, arrived, said = Outbox(), [], 0
    for deed in deeds:
        if deed == "add":
            said += 1
            outbox.add(requests(1))
        elif deed == "send" and (frame := outbox.next_frame()) is not None:
            (message,) = wire.Decoder().feed(frame)
            assert isinstance(message, dict)
            arrived += [message["seq"]] if message["seq"] not in arrived else []
        elif deed == "lose":
            outbox.again()
        elif deed == "ack" and arrived:
            outbox.acked(max(arrived))
    outbox.again()
    arrived += [one["seq"] for one in messages(outbox) if one["seq"] not in arrived]

    assert arrived == list(range(1, said + 1))
