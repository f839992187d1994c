from hypothesis import given
from hypothesis import strategies as st

from inferwatt.receipts import Receipts

PRODUCERS = ("p", "q")
DEEDS = st.lists(
    st.tuples(st.sampled_from(["message", "settle", "done", "due"]), st.integers(0, 9), st.integers(1, 3)), max_size=60
)


class Desk:
    """A model of who owes what: every record of every message, and whether it is kept."""

    def __init__(self) -> None:
        self.receipts = Receipts()
        self.kept: dict[tuple[str, int, str], bool] = {}
        self.seqs = dict.fromkeys(PRODUCERS, 0)
        self.acked = dict.fromkeys(PRODUCERS, 0)

    def message(self, which: int, count: int) -> None:
        """A message with `count` records of requests comes."""
        producer = PRODUCERS[which % 2]
        seq = self.seqs[producer] = self.seqs[producer] + 1 + which % 3
        for number in range(count):
            request = f"{producer}:{(which + number) % 4}"
            self.receipts.came(producer, seq)
            self.receipts.upon(producer, seq, request)
            self.kept[producer, seq, f"{request}#{number}"] = False

    def settle(self, which: int) -> None:
        """One request is kept for good, with every record that was said of it."""
        request = f"{PRODUCERS[which % 2]}:{which // 2 % 4}"
        self.receipts.settled(request)
        for key in self.kept:
            if key[2].partition("#")[0] == request:
                self.kept[key] = True

    def plain(self, which: int) -> None:
        """A message whose only record needs nothing more."""
        producer = PRODUCERS[which % 2]
        seq = self.seqs[producer] = self.seqs[producer] + 1
        self.receipts.came(producer, seq)
        self.receipts.done(producer, seq)
        self.kept[producer, seq, "-"] = True

    def due(self) -> None:
        """Acknowledge, and hold the law."""
        for producer, seq in self.receipts.due():
            assert seq > self.acked[producer], "an acknowledgement went back, or was said twice"
            self.acked[producer] = seq
        for (producer, seq, request), is_kept in self.kept.items():
            assert is_kept or seq > self.acked[producer], f"{producer} {seq} {request} was acknowledged and is not kept"

    def owed(self) -> set[tuple[str, int]]:
        """Return the messages of which something is not kept."""
        return {(producer, seq) for (producer, seq, _), is_kept in self.kept.items() if not is_kept}


@given(DEEDS)
def test_an_acknowledgement_never_covers_what_is_not_kept(deeds: list[tuple[str, int, int]]) -> None:
    """Whatever the order in which requests settle, everything up to an acknowledged message is kept."""
    desk = Desk()
    for deed, which, count in deeds:
        match deed:
            case "message":
                desk.message(which, count)
            case "settle":
                desk.settle(which)
            case "done":
                desk.plain(which)
            case _:
                desk.due()
    desk.due()


@given(DEEDS)
def test_everything_is_acknowledged_in_the_end(deeds: list[tuple[str, int, int]]) -> None:
    """Once every request is settled, each producer has heard of its last message."""
    desk = Desk()
    for deed, which, count in deeds:
        desk.message(which, count) if deed == "message" else desk.plain(which)
    for which in range(10):
        desk.settle(which)
    desk.due()

    assert desk.owed() == set()
    assert desk.acked == desk.seqs
    assert desk.receipts.due() == []


def test_one_open_record_holds_up_the_messages_after_it() -> None:
    """An acknowledgement says 'everything up to here': a later message waits for an earlier one."""
    receipts = Receipts()
    receipts.came("p", 1)
    receipts.upon("p", 1, "r")
    receipts.came("p", 2)
    receipts.done("p", 2)

    assert receipts.due() == []

    receipts.settled("r")
    assert receipts.due() == [("p", 2)]


def test_what_settles_twice_counts_once() -> None:
    """A request that is settled again settles nothing more, so a message with two records waits for both."""
    receipts = Receipts()
    for request in ("r", "s"):
        receipts.came("p", 1)
        receipts.upon("p", 1, request)

    receipts.settled("r")
    receipts.settled("r")
    assert receipts.due() == []

    receipts.settled("s")
    assert receipts.due() == [("p", 1)]


def test_a_lost_producer_is_forgotten_once_nothing_is_owed_to_it() -> None:
    """It may come back: what it handed in is acknowledged when it is kept, and never before."""
    receipts = Receipts()
    for producer in PRODUCERS:
        receipts.came(producer, 1)
        receipts.upon(producer, 1, f"{producer}:r")

    receipts.forget("p")
    receipts.settled("q:r")
    assert receipts.due() == [("q", 1)]

    receipts.settled("p:r")
    assert receipts.due() == [("p", 1)]
    assert receipts.due() == []
