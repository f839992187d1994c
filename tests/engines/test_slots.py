"""Tokens of answers that are not complete: by llama.cpp's own list of slots, and by an arbitrary life of a server."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.engines.fetch import Answer
from inferwatt.engines.slots import Begun, begun
from inferwatt.errors import SourceRetry
from tests.engines.bench import Bench, bench

__all__ = ["bench"]

PAGES = Path(__file__).parent / "pages"


def listed(*slots: tuple[bool, int]) -> bytes:
    """Return a list of slots: whether each is at work, and how many tokens its answer has."""
    return msgspec.json.encode([{"is_processing": busy, "next_token": [{"n_decoded": count}]} for busy, count in slots])


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (listed((True, 35), (False, 80), (True, 7)), 42),
        (b'[{"id":0,"n_ctx":512,"is_processing":false}]', 0),
        (b'[{"is_processing":true,"next_token":{"n_decoded":9}}]', 9),
        (b'[{"is_processing":true,"next_token":[{"n_decoded":-1}]}]', None),
        (b'{"error":{"code":501}}', None),
        (b"[" * 100_000, None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_slots_at_work_say_their_tokens(body: bytes, tokens: int | None) -> None:
    """A slot that rests keeps the count of its last answer, which is no work; what is no list of slots says nothing."""
    assert begun(body) == tokens


def test_the_real_server_s_list_is_read() -> None:
    """llama.cpp b11549 (xllamacpp 2026.10.11549) at work: two answers, of 10 and 18 tokens so far."""
    assert begun((PAGES / "llamacpp_b11549_slots.json").read_bytes()) == 28


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("make"), st.integers(0, 2), st.integers(1, 50)),
        st.tuples(st.just("end"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("look"), st.integers(0, 3), st.just(0)),
    ),
    max_size=40,
)


@given(ACTIONS)
def test_every_token_is_told_once_and_none_before_it_was_made(actions: list[tuple[str, int, int]]) -> None:
    """Whatever ends between page and slots, and where slots are not told at times: never more than was made."""
    on_the_way, counter, made, seen, told = [0, 0, 0], 0, 0, 0, 0
    book = Begun()
    for action, which, count in actions:
        if action == "make":
            on_the_way[which] += count
            made += count
        elif action == "end":
            counter, on_the_way[which] = counter + on_the_way[which], 0
        else:
            gained, seen = counter - seen, counter
            if which < 3:  # this one ends after the page was read, and before the slots are
                counter, on_the_way[which] = counter + on_the_way[which], 0
            told += book.made(gained, sum(on_the_way) if which != 2 else None)
            assert told <= made
    told += book.made(counter + sum(on_the_way) - seen, 0)
    assert told == made


def test_an_answer_s_tokens_are_of_the_second_in_which_they_were_made(bench: Bench) -> None:
    """Ten a second while the counter stands still, and none more when it jumps; what was there at first is nobody's."""
    gained = []
    for count in (5, 15, 25, 0, 0):
        bench.server.output = 30 if count == 0 else 0
        bench.server.answers["/slots"] = Answer(200, listed((count > 0, count)), {})
        before = bench.tokens()[2]
        bench.second()
        gained.append(bench.tokens()[2] - before)

    assert gained == [0, 10, 10, 5, 0]


@pytest.mark.parametrize(("answer", "asked"), [(Answer(501, b"", {}), 1), (Answer(401, b"", {}), 1), (None, 5)])
def test_a_server_without_slots_is_read_by_its_counters(answer: Answer | None, asked: int, bench: Bench) -> None:
    """`--no-slots` is not asked again; one that has no time is, and is unknown meanwhile."""
    bench.server.answers["/slots"] = answer
    for output in (0, 0, 7, 7, 9):
        bench.server.output = output
        bench.second()

    assert bench.tokens()[2] == 9
    assert bench.server.asked.count("/slots") == asked
    assert bench.health.state == "up"


def test_slots_that_cannot_be_read_fail_nothing(bench: Bench) -> None:
    """The page is what counts: a list that breaks off changes no count of failures."""
    bench.server.answers["/slots"] = SourceRetry("no usable answer", where="x", fix="y")
    bench.second(3)

    assert (bench.health.state, bench.health.failures) == ("up", 0)


def test_a_new_process_begins_at_nothing(bench: Bench) -> None:
    """What the old one had on the way is gone with it; the new one's answers count from their first token."""
    bench.server.answers["/slots"] = Answer(200, listed((True, 40)), {})
    bench.second()
    bench.server.restart("200")
    bench.server.answers["/slots"] = Answer(200, listed((True, 3)), {})
    bench.second()

    assert bench.tokens()[2] == 3
