from hypothesis import given
from hypothesis import strategies as st

from inferwatt.tokens import QUIET_NS, TokenBooks, Tokens

COUNTS = st.builds(Tokens, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))


def test_a_server_that_nobody_records_is_unlisted_at_once() -> None:
    """Where no record ever came, the server's own count is all there is."""
    books = TokenBooks()

    assert books.count(Tokens(5, 1, 7)) == Tokens(5, 1, 7)
    assert books.unlisted == Tokens(5, 1, 7)


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=10))
def test_nothing_is_counted_twice(rounds: list[tuple[Tokens, Tokens]]) -> None:
    """After each quiet moment records and unlisted tokens sum to the server's count, or the records exceed it."""
    books = TokenBooks()
    now_ns = 0
    for recorded, counted in rounds:
        books.record(recorded, now_ns)
        books.count(counted)
        now_ns += QUIET_NS
        compared = books.reconcile(now_ns)

        assert compared is not None
        _, beyond = compared
        for kind in ("computed", "cached", "output"):
            known = getattr(books.recorded, kind) + getattr(books.unlisted, kind)
            assert known - getattr(beyond, kind) == getattr(books.counted, kind)


def test_while_work_runs_nothing_is_compared() -> None:
    """An open request, or one that has just ended, is not in both books yet."""
    books = TokenBooks()
    books.record(Tokens(1, 1, 1), 0)
    books.count(Tokens(9, 9, 9))

    assert books.reconcile(QUIET_NS - 1) is None

    books.open_requests = 1
    assert books.reconcile(QUIET_NS) is None
