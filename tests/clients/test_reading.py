"""What answers say, in each library's form; what cannot be read says nothing."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.answering.usage import NOTHING, Used
from inferwatt.clients.reading import figure, got, is_output, read

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "id",
        "model",
        "usage",
        "usage_metadata",
        "response",
        "message",
        "inferwatt",
        "error",
        "type",
        "timings",
        "details",
    ]
)


def namespace(value: Any) -> Any:
    """Return JSON as objects with attributes, as client libraries have it."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: namespace(each) for key, each in value.items()})
    return value


CHAT = {
    "id": "c",
    "model": "m",
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 5},
    },
}
GOOGLE = {
    "response_id": "c",
    "model_version": "m",
    "usage_metadata": {
        "prompt_token_count": 90,
        "tool_use_prompt_token_count": 10,
        "cached_content_token_count": 40,
        "candidates_token_count": 15,
        "thoughts_token_count": 5,
    },
}
SAID = Used(100, 40, 20, 5, "c", "m")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (CHAT, SAID),
        ({"type": "response.completed", "response": CHAT}, SAID),
        (namespace(GOOGLE), SAID),
        (namespace({**GOOGLE, "usage_metadata": {"prompt_token_count": 7}}), Used(7, response_id="c", model="m")),
        (namespace({"usage_metadata": {"thoughts_token_count": 5}}), Used(output=5, reasoning=5)),
        ({"metadata": {"usage": {"inputTokens": 60, "cacheReadInputTokens": 40, "outputTokens": 2}}}, Used(100, 40, 2)),
        ({"chunk": {"bytes": b'{"outputText":"x"}'}}, NOTHING),
        (SimpleNamespace(id="c", model="m", usage=None, _hidden_params={"usage": CHAT["usage"]}), SAID),
    ],
)
def test_what_an_answer_says(answer: object, said: Used) -> None:
    """The prompt counts what was cached and what tools returned, the output its thoughts; what is not said is None."""
    assert read(answer) == said


def test_an_invoked_models_last_chunk() -> None:
    """Bedrock's counts are in its last chunk, whatever the model's own form; one that only talks of them has none."""
    last = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 60, "cacheReadInputTokenCount": 40}}

    assert read({"chunk": {"bytes": json.dumps(last).encode()}}) == Used(100, 40)
    assert read({"chunk": {"bytes": b'{"text":"amazon-bedrock-invocationMetrics"}'}}) == NOTHING
    assert read({"chunk": {"bytes": b"amazon-bedrock-invocationMetrics"}}) == NOTHING


def test_a_servers_figure_is_found_where_it_is() -> None:
    """In the answer, in the response of an event; without its id it is none of ours."""
    ours = {"id": "e0:1", "energy_joules": 2.0}

    assert figure({"inferwatt": ours}) == ours
    assert figure({"response": {"inferwatt": ours}}) == ours
    assert figure({"inferwatt": {"energy_joules": 2.0}}) is None
    assert figure({"inferwatt": "text"}) is None


@pytest.mark.parametrize(
    ("piece", "is_one"),
    [
        (namespace({"choices": []}), True),
        (namespace({"type": "content_block_delta"}), True),
        (namespace({"type": "response.output_text.delta"}), True),
        (namespace({"type": "message_delta"}), False),
        (namespace({"type": "message_start"}), False),
        (namespace({"type": "response.created"}), False),
        ({"contentBlockDelta": {}}, True),
        ({"chunk": {"bytes": b""}}, True),
        ({"messageStop": {}}, False),
    ],
)
def test_which_pieces_of_a_stream_bring_output(piece: object, is_one: bool) -> None:
    """Where a stream tells no tokens, these are counted."""
    assert is_output(piece) is is_one


class Both(dict[str, Any]):
    """A dict with attributes, as huggingface_hub has it: attributes know more than items."""

    def __init__(self) -> None:
        super().__init__(usage={"prompt_tokens": 1})
        self.usage = {"prompt_tokens": 2}


def test_attributes_stand_over_items() -> None:
    """What is both is read by its attributes."""
    assert got(Both(), "usage") == {"prompt_tokens": 2}


@given(st.dictionaries(NAMES, JSON_VALUES))
def test_no_json_is_an_error(answer: dict[str, Any]) -> None:
    """Whatever a server sends, reading it raises nothing, as a dict or as objects."""
    for form in (answer, SimpleNamespace(**answer)):
        used = read(form)
        figure(form)
        assert used.prompt is None or used.prompt >= 0
