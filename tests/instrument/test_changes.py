"""What is changed and put back, what is loaded later, and what fails in our own code: the host never notices."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anthropic
import botocore.client
import google.genai.models
import huggingface_hub
import litellm
import openai
import pytest

import inferwatt
from inferwatt.clients import border, reading, telling
from tests.instrument import ways
from tests.instrument.answers import PROMPT
from tests.instrument.apis import Apis
from tests.instrument.ways import WAYS, model_of


def _places() -> dict[str, Any]:
    """Return the functions that `instrument()` changes."""
    from google.genai.models import AsyncModels, Models
    from huggingface_hub import AsyncInferenceClient, InferenceClient

    owners: list[tuple[Any, tuple[str, ...]]] = [
        (openai.OpenAI.__mro__[1], ("request",)),
        (openai.AsyncOpenAI.__mro__[1], ("request",)),
        (anthropic.Anthropic.__mro__[1], ("request",)),
        (anthropic.AsyncAnthropic.__mro__[1], ("request",)),
        (Models, ("_generate_content", "_generate_content_stream")),
        (AsyncModels, ("_generate_content", "_generate_content_stream")),
        (InferenceClient, ("chat_completion", "text_generation")),
        (AsyncInferenceClient, ("chat_completion", "text_generation")),
        (botocore.client.BaseClient, ("_make_api_call",)),
        (litellm, ("completion", "acompletion", "text_completion", "embedding", "responses", "aresponses")),
    ]
    return {f"{owner.__name__}.{name}": vars(owner)[name] for owner, names in owners for name in names}


def test_undoing_restores_the_very_functions() -> None:
    """All that is changed is put back as it was, and what is done twice is undone at once."""
    inferwatt.uninstrument()
    before = _places()
    inferwatt.instrument()
    inferwatt.instrument()
    during = _places()
    inferwatt.uninstrument()

    assert [name for name in before if before[name] is during[name]] == []
    assert before == _places()
    assert all(before[name] is after for name, after in _places().items())


def test_who_has_wrapped_our_function_keeps_one_that_does_nothing(apis: Apis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another instrumentation on top is left as it is; below it nothing is counted any more."""
    owner = openai.OpenAI.__mro__[1]
    below = vars(owner)["request"]

    def above(*args: Any, **kwargs: Any) -> Any:
        return below(*args, **kwargs)

    monkeypatch.setattr(owner, "request", above)
    inferwatt.uninstrument()
    with inferwatt.calls() as made:
        ways.openai_chat(apis.url, "gpt-4o")

    assert vars(owner)["request"] is above
    assert made == []


def test_what_is_loaded_later_is_instrumented_then() -> None:
    """`instrument()` loads no library; one that the host loads afterwards is counted."""
    script = (
        "import sys, inferwatt; assert inferwatt.instrument() == ()\n"
        "assert not {'openai', 'anthropic', 'botocore', 'litellm', 'google.genai'} & set(sys.modules)\n"
        "import openai, boto3, huggingface_hub; huggingface_hub.InferenceClient\n"
        "from google import genai\n"
        "print(*inferwatt.instrument(), openai.__spec__.loader.__class__.__name__)"
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.split() == ["openai", "google-genai", "huggingface_hub", "boto3", "SourceFileLoader"]


def test_only_what_is_named_is_instrumented(apis: Apis) -> None:
    """A library that was not named is left alone; a name that is none is refused."""
    inferwatt.uninstrument()

    assert inferwatt.instrument("anthropic", managed=["127.0.0.1"]) == ("anthropic",)
    with inferwatt.calls() as made:
        ways.openai_chat(apis.url, "gpt-4o")
    assert made == []
    with pytest.raises(ValueError, match="openia is no library"):
        inferwatt.instrument("openia")


BROKEN = [
    *((way, broken) for way in WAYS for broken in ("read", "what_it_took")),
    *((ways.openai_chat, broken) for broken in ("current_span", "tell_span", "tell_agent")),
]


@pytest.mark.parametrize(("way", "broken"), BROKEN, ids=lambda one: getattr(one, "__name__", one))
def test_what_fails_in_our_code_never_reaches_the_host(
    apis: Apis, way: Callable[[str, str], Any], broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever raises in us, the library's answer is there; it is counted among the troubles, and nowhere else."""

    def fails(*_: object) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(reading if broken == "read" else telling, broken, fails)
    with inferwatt.calls() as made:
        way(apis.url, model_of(way))

    troubles = sum(border.troubles.values())
    border.troubles.clear()
    assert troubles >= 1
    told = {"read": [None], "what_it_took": []}.get(broken, [PROMPT])
    assert [call.prompt_tokens for call in made] == told


def test_a_library_of_another_form_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A method that is gone is warned of once; the others are instrumented, and calls go on."""
    inferwatt.uninstrument()
    monkeypatch.delattr(google.genai.models.Models, "_generate_content")
    inferwatt.instrument()
    inferwatt.instrument()

    assert caplog.text.count("google-genai (google.genai.models _generate_content)") == 1
    assert list(border.troubles) == ["google-genai (google.genai.models _generate_content)"]
    assert set(inferwatt.instrument()) == {"openai", "anthropic", "google-genai", "huggingface_hub", "boto3", "litellm"}
    border.troubles.clear()


def test_libraries_are_the_real_ones() -> None:
    """These tests prove something only of the real packages."""
    assert huggingface_hub.__version__ > "1"
    assert openai.__version__ > "2"
