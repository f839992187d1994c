"""What is said on a connection: no socket, no thread."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt import wire
from inferwatt.endpoint import Peer
from inferwatt.engines import session as session_module
from inferwatt.engines.plugged import Plugged
from inferwatt.engines.session import Incoming, Reception, Session
from tests.engines.ends import some_energy

NOW_NS = 10_000_000_000
PRODUCER = "0123456789abcdef" * 2
PEER = Peer(pid=77, uid=1000, gid=1000)


class Desk:
    """A reception whose records lie on a pile, and the wire's bytes in both directions."""

    def __init__(self) -> None:
        self.pile: list[Incoming] = []
        self.gone: list[str] = []
        self.full = False
        self.reception = Reception(self.take, agent="agent-1", boot_id="boot", gone=self.gone.append)

    def take(self, incoming: Incoming | Plugged) -> None:
        """Put a record on the pile, or refuse as a full queue does."""
        if self.full or not isinstance(incoming, Incoming):
            raise OverflowError
        self.pile.append(incoming)

    def connect(self, producer: str = PRODUCER, peer: Peer = PEER, changes: dict[str, object] | None = None) -> Session:
        """Open a connection and say hello."""
        session = self.reception.open(peer)
        hello = wire.hello(producer, kind="sdk", pid=5, boot_id="boot", monotonic_ns=1, unix_ns=2)
        session.feed(wire.encode({**hello, **(changes or {})}), NOW_NS)
        return session

    def counts(self) -> tuple[int, int, int]:
        """Records taken in, messages repeated, messages missing."""
        health = self.reception.health()
        return health.records, health.repeated_frames, health.missing_frames


def row(name: str = "1", **fields: object) -> dict[str, object]:
    """One record as it is on the wire."""
    return {"request": name, "arrival_ns": 100, **fields}


def send(session: Session, seq: Any, *rows: Any) -> list[wire.Message]:
    """Hand in records and return the replies."""
    session.feed(wire.encode(wire.records_message(seq, rows)), NOW_NS)
    return replies(session)


def replies(session: Session) -> list[Any]:
    """Read what was said to the client so far."""
    data, session.out[:] = bytes(session.out), b""
    return wire.Decoder().feed(data)


@pytest.fixture
def desk() -> Desk:
    """A fresh reception."""
    return Desk()


def test_a_record_is_named_after_its_producer(desk: Desk) -> None:
    """Two processes can both have a request 1; the agent never confuses them, and a prefix cannot be stolen."""
    other = "f" * 32
    session = desk.connect()
    send(session, 1, row("1"), row(f"{PRODUCER}:2"), row(f"{other}:3"))

    assert [f"{PRODUCER}:1", f"{PRODUCER}:2", f"{PRODUCER}:{other}:3"] == [one.request.request for one in desk.pile]
    assert {PRODUCER} == {one.request.producer for one in desk.pile}
    assert {(PRODUCER, 77, 1, NOW_NS)} == {(one.producer, one.pid, one.seq, one.received_ns) for one in desk.pile}


def test_hello_is_answered_with_the_name_of_this_agent(desk: Desk) -> None:
    """A producer can tell a restarted agent from a lost connection."""
    assert [wire.hello_back("agent-1")] == replies(desk.connect())


def test_nothing_is_acknowledged_before_the_commit(desk: Desk) -> None:
    """A message with records in it is acknowledged when the agent says so, and cumulatively."""
    session = desk.connect()
    replies(session)

    assert send(session, 1, row("1")) + send(session, 2, row("2")) == []
    desk.reception.ack(PRODUCER, 2)
    assert replies(session) == [wire.ack(2)]


def test_a_message_without_a_good_record_needs_no_commit(desk: Desk) -> None:
    """What holds nothing to keep is acknowledged by itself, but never before what came before it."""
    session = desk.connect()
    replies(session)

    assert [wire.ack(1)] == send(session, 1)
    assert send(session, 2, row()) == []
    assert send(session, 3) == []
    desk.reception.ack(PRODUCER, 2)
    assert replies(session) == [wire.ack(3)]


def test_a_message_sent_again_is_taken_in_once(desk: Desk) -> None:
    """After a lost connection the same messages come again: acknowledged again, taken in once."""
    first = desk.connect()
    send(first, 1, row("1"))
    send(first, 2, row("2"))
    desk.reception.ack(PRODUCER, 1)
    desk.reception.close(first)
    second = desk.connect()

    assert replies(second) == [wire.hello_back("agent-1"), wire.ack(1)]
    assert send(second, 1, row("1")) == [wire.ack(1)]
    send(second, 2, row("2"))
    send(second, 3, row("3"))
    assert [one.request.request.partition(":")[2] for one in desk.pile] == ["1", "2", "3"]
    assert desk.counts() == (3, 2, 0)
    assert desk.gone == [PRODUCER]


def test_messages_that_never_came_are_counted(desk: Desk) -> None:
    """A producer that had to drop messages leaves a gap in its numbers, which is seen."""
    session = desk.connect()
    send(session, 4, row())
    send(session, 9, row())

    assert desk.counts() == (2, 0, 4)


def test_a_new_connection_of_a_producer_ends_the_old_one(desk: Desk) -> None:
    """Replies go to the newest connection; closing the old one does not make the producer gone."""
    old, new = desk.connect(), desk.connect()
    desk.reception.close(old)

    assert (old.closing, new.closing) == (True, False)
    assert desk.gone == []


def test_another_users_producer_cannot_be_taken_over(desk: Desk) -> None:
    """A process of another user that learnt a producer's id cannot speak for it."""
    owner = desk.connect()
    thief = desk.connect(peer=Peer(pid=8, uid=1001, gid=1001))

    assert (owner.closing, thief.closing) == (False, True)
    assert "another user's producer" in replies(thief)[0]["what"]


@pytest.mark.parametrize(
    ("changes", "where", "closing"),
    [
        ({"v": 2}, "v", True),
        ({"v": None}, "v", True),
        ({"boot_id": "another"}, "boot_id", True),
        ({"producer": "me"}, "producer", False),
        ({"producer": 7}, "producer", False),
        ({"t": "goodbye"}, "t", False),
        ({"t": ["hello"]}, "t", False),
    ],
)
def test_a_hello_that_does_not_fit_is_told_why(
    desk: Desk, changes: dict[str, object], where: str, closing: bool
) -> None:
    """Another version, another boot, no producer: a clear error, counted; no connection for what cannot work."""
    session = desk.connect(changes=changes)
    (answer,) = replies(session)

    assert ("error", where, closing) == (answer["t"], answer["where"], session.closing)
    assert {where: 1} == desk.reception.health().rejected


def test_records_before_hello_are_refused(desk: Desk) -> None:
    """Nobody hands in records without saying who it is."""
    session = desk.reception.open(PEER)

    assert send(session, 1, row())[0]["fix"] == "say hello first"
    assert desk.pile == []


def test_one_connection_speaks_for_one_producer(desk: Desk) -> None:
    """A second hello is refused, so that a client cannot fill the memory with producers."""
    session = desk.connect()
    hello = wire.hello("e" * 32, kind="sdk", pid=5, boot_id="boot", monotonic_ns=1, unix_ns=2)
    session.feed(wire.encode(hello), NOW_NS)

    assert (session.producer, session.closing) == (PRODUCER, False)
    assert desk.reception.health().rejected == {"hello": 1}


def test_a_bad_record_costs_only_itself(desk: Desk) -> None:
    """Good records of the same message are taken; the client hears of the first bad one; each is counted by field."""
    session = desk.connect()
    replies(session)
    bad = [row(output_tokens=-1), row(end_ns=50), row(output_tokens=True), 7, row(arrival_ns=NOW_NS * 2)]
    (answer,) = send(session, 1, row("good"), *bad)

    assert (answer["t"], answer["where"]) == ("error", "output_tokens")
    assert desk.reception.health().rejected == {"output_tokens": 2, "end_ns": 1, "record": 1, "future": 1}
    assert (len(desk.pile), session.closing) == (1, False)


@pytest.mark.parametrize("seq", [0, -1, True, "1", 2**63, None])
def test_a_message_without_a_number_is_refused(desk: Desk, seq: object) -> None:
    """What could not be acknowledged is not taken in."""
    assert send(desk.connect(), seq, row())[-1]["where"] == "seq"
    assert desk.pile == []


@pytest.mark.parametrize("rows", [{"a": 1}, "rows", None, [0] * (wire.MAX_RECORDS_PER_FRAME + 1)])
def test_too_many_records_or_none_are_refused(desk: Desk, rows: object) -> None:
    """A message whose records are no list of at most 4,096 is refused, and acknowledged so that it does not return."""
    session = desk.connect()
    replies(session)
    session.feed(wire.encode({"t": "records", "seq": 1, "records": rows}), NOW_NS)

    assert [one["t"] for one in replies(session)] == ["error", "ack"]
    assert desk.pile == []


def test_an_agent_that_cannot_take_a_record_gets_it_again(desk: Desk) -> None:
    """When the agent's queue is full the connection ends without an acknowledgement; sent again, nothing is lost."""
    session = desk.connect()
    replies(session)
    desk.full = True
    assert send(session, 1, row("1")) == []
    assert session.closing
    desk.reception.close(session)
    desk.full = False
    send(desk.connect(), 1, row("1"))

    assert [one.seq for one in desk.pile] == [1]
    assert desk.reception.health().refused == {"not_taken": 1}


def test_joules_go_to_the_producer_that_asked_for_nothing(desk: Desk) -> None:
    """Energies are pushed to the connection of their producer; nobody connected, nothing said."""
    session = desk.connect()
    replies(session)
    told = [some_energy("1", final=False), some_energy("2", final=True)]
    desk.reception.push(PRODUCER, told)
    desk.reception.push("b" * 32, told)
    (message,) = replies(session)

    assert told == [wire.energy_from_wire(one) for one in message["requests"]]


def test_a_slow_reader_gets_the_final_joules_only(desk: Desk) -> None:
    """What a later push says better is skipped while a client does not read; what is final is kept for it."""
    session = desk.connect()
    session.out += bytes(session_module.PROVISIONAL_OUT_BYTES)
    desk.reception.push(PRODUCER, [some_energy("1", final=False), some_energy("2", final=True)])
    said = bytes(session.out)

    assert desk.reception.health().skipped_pushes == 1
    assert b'"final":false' not in said
    assert b'"final":true' in said


def test_a_client_that_never_reads_is_dropped(desk: Desk) -> None:
    """Replies to one client take at most 2 MiB of memory, whatever it makes us say."""
    session = desk.connect()
    most = 0
    while not session.closing:
        session.feed(wire.encode({"t": "nonsense"}), NOW_NS)
        most = max(most, len(session.out))

    assert most <= session_module.MAX_OUT_BYTES
    assert desk.reception.health().refused == {"never_reads": 1}


def test_producers_that_left_are_forgotten_oldest_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which a process starts each second for years fills no memory; who is connected stays known."""
    monkeypatch.setattr(session_module, "MAX_PRODUCERS", 3)
    staying = desk.connect()
    send(staying, 1, row())
    for number in range(10):
        desk.reception.close(desk.connect(f"{number:032x}"))
    send(staying, 1, row())

    assert desk.counts() == (1, 1, 0)
    assert len(desk.reception._producers) <= 4


@given(st.lists(st.binary(max_size=80) | st.dictionaries(st.text(max_size=4), st.integers() | st.text()), max_size=20))
def test_nothing_that_is_sent_can_raise(messages: list[Any]) -> None:
    """Whatever comes after a good hello: records, counted refusals or a closed connection, never an exception."""
    desk = Desk()
    session = desk.connect()
    for message in messages:
        body = message if isinstance(message, bytes) else json.dumps({"t": "records", **message}).encode()
        session.feed(len(body).to_bytes(4, "big") + body if len(body) % 2 else body, NOW_NS)

    assert len(session.out) <= session_module.MAX_OUT_BYTES
