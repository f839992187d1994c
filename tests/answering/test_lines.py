"""Answers of one object a line: bytes are kept, whatever their cuts."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.answering.events import MOST_EVENT_BYTES
from inferwatt.answering.lines import Lines
from inferwatt.answering.usage import Used, read

FIGURE = {"id": "x"}
LAST = b'{"model":"m","done":true,"prompt_eval_count":5,"eval_count":2}'
TEXT = b'{"model":"m","response":"a","done":false}\n'


def through(stream: bytes, cuts: list[int]) -> tuple[bytes, Lines]:
    """Pass a stream through, cut into pieces."""
    lines = Lines(lambda _used: FIGURE)
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    out = b"".join(lines.feed(stream[start:end]) for start, end in pairwise(places))
    return out + lines.end(), lines


@given(st.lists(st.integers(0, 10_000), max_size=8), st.booleans())
def test_only_the_last_line_is_changed_however_it_is_cut(cuts: list[int], ends: bool) -> None:
    """The object stands before the last brace, and the tokens are the server's."""
    stream = TEXT * 3 + LAST + (b"\n" if ends else b"")
    out, lines = through(stream, cuts)

    assert out.replace(b',"inferwatt":{"id":"x"}', b"") == stream
    assert json.loads(out.splitlines()[-1])["inferwatt"] == FIGURE
    assert (lines.used.prompt, lines.used.output, lines.events, lines.is_over) == (5, 2, 3, True)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_what_is_no_such_stream_goes_through(stream: bytes, cuts: list[int]) -> None:
    """Any bytes, unchanged."""
    assert through(stream, cuts)[0] == stream


def test_a_line_that_is_too_long_goes_on_unread() -> None:
    """In pieces, and counted; the line after it is read again."""
    long = b'{"response":"' + b"x" * (MOST_EVENT_BYTES + 5)
    lines = Lines(lambda _used: FIGURE)
    out = lines.feed(long) + lines.feed(b'y","done":true}\n') + lines.feed(LAST + b"\n")

    assert out == long + b'y","done":true}\n' + LAST[:-1] + b',"inferwatt":{"id":"x"}}\n'
    assert (lines.too_long, lines.is_over) == (1, True)


def test_a_failure_is_a_last_line() -> None:
    """Ollama says it as a line of its own in the middle of an answer."""
    out, lines = through(TEXT + b'{"error":"out of memory"}\n', [])

    assert (lines.is_over, lines.used.failed) == (True, True)
    assert out.endswith(b'{"error":"out of memory","inferwatt":{"id":"x"}}\n')


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            {
                "model": "m",
                "done": True,
                "prompt_eval_count": 26,
                "eval_count": 298,
                "total_duration": 10,
                "eval_duration": 4,
            },
            Used(26, None, 298, model="m", first_token_seconds=6e-9, is_last=True),
        ),
        ({"model": "m", "done": True, "eval_count": 1}, Used(output=1, model="m", is_last=True)),
        ({"model": "m", "message": {"role": "assistant", "content": "a"}, "done": False}, Used(model="m")),
        ({"model": "e", "embeddings": [[0.1]], "prompt_eval_count": 8}, Used(8, model="e")),
        (
            {"done": True, "prompt_eval_count": -1, "eval_count": "2x", "total_duration": 1, "eval_duration": 2},
            Used(is_last=True),
        ),
    ],
)
def test_ollama_says_its_tokens(answer: dict[str, object], expected: Used) -> None:
    """The whole prompt, of which it does not say what was cached; what it leaves out is unknown, never 0."""
    assert read(json.dumps(answer).encode()) == expected
