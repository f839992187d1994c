"""A call that may hang: its answer, its failure, or the end of patience."""

import threading

import pytest

from inferwatt.sources.asking import answer_of

PATIENCE_SECONDS = 20.0


def test_an_answer_is_handed_back() -> None:
    """As if it had been called; nothing is too late."""
    late: list[int] = []

    assert answer_of(lambda: 7, too_late=late.append, patience_seconds=PATIENCE_SECONDS) == 7
    assert late == []


def test_an_answer_may_be_none() -> None:
    """Nothing is an answer too."""
    assert answer_of(lambda: None, too_late=print, patience_seconds=PATIENCE_SECONDS) is None


def test_a_failure_is_raised_where_it_is_waited_for() -> None:
    """The exception itself, whatever the driver raised."""
    with pytest.raises(ZeroDivisionError):
        answer_of(lambda: 1 // 0, too_late=print, patience_seconds=PATIENCE_SECONDS)


def test_patience_ends_and_the_late_answer_is_given_away() -> None:
    """What comes after it goes to who cleans up, and a failure there harms nobody."""
    hang, given = threading.Event(), threading.Event()

    def call() -> int:
        hang.wait()
        return 7

    def clean_up(answer: int) -> None:
        assert answer == 7
        given.set()
        raise OSError

    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        answer_of(call, too_late=clean_up, patience_seconds=0.1)
    hang.set()

    assert given.wait(PATIENCE_SECONDS)
