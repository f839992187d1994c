"""What answers say of their tokens, in each protocol; what they do not say stays unknown."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.answering.usage import NOTHING, Used, of_headers, read, tokens, used

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["usage", "id", "timings", "details", "prompt_tokens", "response", "x"]), inner
        )
    ),
    max_leaves=12,
)
BODIES: list[tuple[dict[str, Any], Used]] = [
    (  # vLLM 0.32, POST /v1/completions with a cached prompt
        {
            "id": "cmpl-1",
            "model": "m",
            "usage": {
                "prompt_tokens": 400,
                "total_tokens": 404,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 384},
            },
        },
        Used(400, 384, 4, response_id="cmpl-1", model="m"),
    ),
    (  # llama.cpp b11549: its own count where there is no usage
        {"timings": {"cache_n": 58, "prompt_n": 1, "predicted_n": 4}},
        Used(59, 58, 4),
    ),
    (  # OpenAI's Responses, the last event of a stream
        {
            "type": "response.completed",
            "response": {
                "id": "resp_1",
                "model": "m",
                "usage": {
                    "input_tokens": 18,
                    "input_tokens_details": {"cached_tokens": 2},
                    "output_tokens": 4,
                    "output_tokens_details": {"reasoning_tokens": 1},
                },
            },
        },
        Used(18, 2, 4, 1, "resp_1", "m"),
    ),
    (  # Anthropic: what is cached is not among input_tokens
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "model": "m",
                "usage": {
                    "input_tokens": 3,
                    "cache_creation_input_tokens": 10,
                    "cache_read_input_tokens": 20,
                    "output_tokens": 1,
                },
            },
        },
        Used(33, 20, 1, response_id="msg_1", model="m"),
    ),
    (  # OpenAI's embeddings
        {"object": "list", "model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        Used(8, model="e"),
    ),
    (  # TGI's /generate with details and decoder_input_details
        {"generated_text": "a", "details": {"generated_tokens": 5, "prefill": [{}, {}, {}]}},
        Used(3, None, 5),
    ),
    ({"error": {"message": "no"}}, Used(failed=True)),
]


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_each_protocol_is_read(body: dict[str, Any], expected: Used) -> None:
    """Prompt, cached, output and reasoning tokens, the id and the model, as each protocol spells them."""
    assert used(body) == expected
    assert read(json.dumps(body).encode()) == expected


@given(JSON)
def test_whatever_an_answer_holds_it_is_read_or_it_says_nothing(answer: Any) -> None:
    """No answer raises, and no number of tokens is negative, a bool or a float."""
    found = used(answer)

    assert all(type(one) is int and one >= 0 for one in (found.prompt, found.cached, found.output) if one is not None)


@given(st.binary())
def test_bytes_that_are_no_json_say_nothing(data: bytes) -> None:
    """What cannot be read is no error."""
    read(data)
    assert read(b"[" * 100_000) == NOTHING


def test_tgi_says_times_in_headers() -> None:
    """They are read in seconds: the first of five tokens of 100 ms came after the check, the queue and its fifth."""
    told = of_headers(
        {
            "x-prompt-tokens": "7",
            "x-generated-tokens": "5",
            "x-validation-time": "3",
            "x-queue-time": "20",
            "x-inference-time": "100",
            "x-time-per-token": "20",
        }
    )

    assert (told.prompt, told.output, told.queue_seconds) == (7, 5, 0.02)
    assert told.first_token_seconds == pytest.approx(0.043)
    assert of_headers({"x-queue-time": "1", "x-inference-time": "3"}).first_token_seconds is None


@pytest.mark.parametrize("value", ["", "-1", "1.5", "nan", "²", True, 2**63, -1, 1.0, None, "9" * 5000])
def test_what_cannot_be_a_number_of_tokens_is_none(value: object) -> None:
    """Unknown is absent, never 0."""
    assert tokens(value) is None


def test_what_comes_later_stands() -> None:
    """The last usage wins, an answer keeps its first name, and a failure is not forgotten."""
    first = Used(10, None, 1, response_id="a", failed=True)

    assert first.then(Used(None, 3, 9, response_id="b")) == Used(10, 3, 9, response_id="a", failed=True)
