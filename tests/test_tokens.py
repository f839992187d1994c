from hypothesis import given
from hypothesis import strategies as st

from inferwatt.tokens import QUIET_NS, TokenBooks, Tokens

COUNTS = st.builds(Tokens, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))


def test_a_server_that_nobody_records_is_unlisted() -> None:
    """Where no record ever comes, the server's own count is all there is; it waits for a record no longer than that."""
    books = TokenBooks()
    books.count(Tokens(5, 1, 7), 0)
    books.count(Tokens(2, 0, 1), 1)

    assert books.reconcile(QUIET_NS - 1) == (Tokens(), Tokens())
    assert books.reconcile(QUIET_NS) == (Tokens(5, 1, 7), Tokens())
    assert books.reconcile(QUIET_NS + 1) == (Tokens(2, 0, 1), Tokens())
    assert books.unlisted == Tokens(7, 1, 8)


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=10))
def test_nothing_is_counted_twice(rounds: list[tuple[Tokens, Tokens]]) -> None:
    """After each quiet moment records and unlisted tokens sum to the server's count, or the records exceed it."""
    books = TokenBooks()
    now_ns = 0
    for recorded, counted in rounds:
        books.record("r", recorded, now_ns)
        books.count(counted, now_ns)
        now_ns += QUIET_NS
        compared = books.reconcile(now_ns)

        assert compared is not None
        _, beyond = compared
        for kind in ("computed", "cached", "output"):
            known = getattr(books.recorded, kind) + getattr(books.unlisted, kind)
            assert known - getattr(beyond, kind) == getattr(books.counted, kind)


def test_while_work_runs_nothing_is_compared() -> None:
    """A request that has just ended is not in both books yet."""
    books = TokenBooks()
    books.record("r", Tokens(1, 1, 1), 0)
    books.count(Tokens(9, 9, 9), 0)

    assert books.reconcile(QUIET_NS - 1) is None
    assert books.reconcile(QUIET_NS) == (Tokens(8, 8, 8), Tokens())


def test_a_page_that_is_read_before_the_record_is_final_counts_once() -> None:
    """A first short request is on the server's page seconds before it is booked: its tokens are not unlisted too."""
    books = TokenBooks()
    books.count(Tokens(5, 1, 7), 0)
    books.expect("r")

    assert books.reconcile(QUIET_NS) is None

    books.record("r", Tokens(5, 1, 7), 0)
    assert books.reconcile(QUIET_NS) == (Tokens(), Tokens())


def test_a_page_that_is_read_before_the_record_has_come_counts_once() -> None:
    """Of an engine that was quiet for long, a new count waits for the record that may be on its way."""
    books = TokenBooks()
    books.record("first", Tokens(), 0)
    books.count(Tokens(5, 1, 7), 10 * QUIET_NS)

    assert books.reconcile(10 * QUIET_NS) == (Tokens(), Tokens())

    books.expect("r")
    books.record("r", Tokens(5, 1, 7), 10 * QUIET_NS)
    assert books.reconcile(11 * QUIET_NS) == (Tokens(), Tokens())


def test_what_the_page_has_just_counted_is_no_disagreement() -> None:
    """A count that still waits for its record already speaks for one that is there."""
    books = TokenBooks()
    books.record("r", Tokens(5, 1, 7), 0)
    books.count(Tokens(5, 1, 6), 1)

    assert books.reconcile(QUIET_NS) == (Tokens(), Tokens(output=1))
