"""Whatever way a library is called, it is one call with the tokens that its answer told."""

from collections.abc import Callable
from typing import Any

import anthropic
import botocore.exceptions
import google.genai.errors
import huggingface_hub.errors
import litellm
import openai
import pytest

import inferwatt
from inferwatt.clients.estimator import estimate
from inferwatt.records import Outcome, Provenance
from tests.instrument.answers import CACHED, FIGURE, OUTPUT, PROMPT
from tests.instrument.apis import Apis
from tests.instrument.ways import WAYS, model_of

Way = Callable[[str, str], Any]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
ERRORS = (
    openai.BadRequestError,
    anthropic.BadRequestError,
    google.genai.errors.ClientError,
    huggingface_hub.errors.HfHubHTTPError,
    botocore.exceptions.ClientError,
    litellm.BadRequestError,
)
PROVIDERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "gcp.gemini",
    "huggingface": "huggingface",
    "bedrock": "aws.bedrock",
}


@every_way
def test_one_call_with_the_tokens_that_it_told(apis: Apis, way: Way) -> None:
    """It is counted once, with its tokens, and its joules are our estimate of them."""
    with inferwatt.calls() as made:
        answer = way(apis.url, model_of(way))

    (call,) = made
    cached = None if "invoke" in way.__name__ else CACHED
    assert (call.prompt_tokens, call.cached_tokens, call.output_tokens) == (PROMPT, cached, OUTPUT)
    assert (call.outcome, call.provenance, call.output_counted) == (Outcome.FINISHED, Provenance.ESTIMATED, False)
    assert call.response_id
    assert call.provider == PROVIDERS.get(way.__name__.partition("_")[0], call.provider)
    if answer is not None:
        assert inferwatt.energy_of(answer) is call
    told = estimate(
        call.model,
        prompt_tokens=call.prompt_tokens,
        cached_tokens=call.cached_tokens,
        output_tokens=call.output_tokens,
        seconds=call.seconds,
        first_token_seconds=call.first_token_seconds,
    )
    assert (call.energy_joules, call.low_joules, call.high_joules) == (
        told.energy_joules,
        told.low_joules,
        told.high_joules,
    )


@every_way
def test_an_error_is_the_librarys_own_and_the_call_has_failed(apis: Apis, way: Way) -> None:
    """The host gets the exception that it would get anyway; what nobody counted is unknown, not 0."""
    with inferwatt.calls() as made, pytest.raises(ERRORS):
        way(apis.url, "broken")

    (call,) = made
    assert (call.outcome, call.energy_joules, call.state) == (Outcome.FAILED, None, "unknown")


@every_way
def test_nothing_is_counted_once_it_is_undone(apis: Apis, way: Way) -> None:
    """After `uninstrument()` a call is only a call."""
    inferwatt.uninstrument()
    with inferwatt.calls() as made:
        way(apis.url, model_of(way))

    assert made == []


@pytest.mark.parametrize(
    "way",
    [way for way in WAYS if way.__name__.startswith(("openai_chat", "huggingface", "litellm_completion"))],
    ids=lambda way: way.__name__,
)
def test_a_servers_own_figure_stands_in_the_place_of_an_estimate(apis: Apis, way: Way) -> None:
    """What our gateway or middleware said is taken as it is: measured, with its bounds."""
    with inferwatt.calls() as made:
        way(apis.url, "metered")

    (call,) = made
    assert (call.energy_joules, call.low_joules, call.high_joules) == (2.5, 2.0, 3.0)
    assert (call.provenance, call.request, call.link) == (Provenance.MEASURED, FIGURE["id"], FIGURE["link"])
