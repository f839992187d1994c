"""Where each client library makes a call, and what it asks for there: the narrowest place that all its ways pass.

A place is a module that the library loads, what in it has the method, and the method. What a library has not (another
version) is left alone, and warned of once.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from types import ModuleType
from typing import Any

from inferwatt.clients.hosts import host_of, is_own, spelled
from inferwatt.clients.life import Asked
from inferwatt.clients.streams import Answer, Ask, looking_on, looking_on_async

_CALLS = re.compile(r"/(?:chat/completions|completions|responses|embeddings|messages|complete)$")
_BEDROCK = frozenset({"Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream"})

_SELF_HOSTED = frozenset({"ollama", "ollama_chat", "hosted_vllm", "vllm", "llamafile", "lm_studio", "xinference"})
"""LiteLLM's names of servers that have no address of their own on the internet."""

Wrap = Callable[[Callable[..., Any], Ask], Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call is made: `owner` finds what has `method` in the loaded `module`."""

    library: str
    module: str
    owner: Callable[[ModuleType], Any]
    method: str
    ask: Ask
    wrap: Wrap


def named(name: str) -> Callable[[ModuleType], Any]:
    """Return a way to find what a module calls `name`."""
    return lambda module: getattr(module, name)


def defines(name: str, method: str) -> Callable[[ModuleType], Any]:
    """Return a way to find the class that gives class `name` its `method`: its clients for clouds share it."""

    def owner(module: ModuleType) -> Any:  # noqa: ANN401
        return next(kind for kind in getattr(module, name).__mro__ if method in vars(kind))

    return owner


def itself(module: ModuleType) -> ModuleType:
    """Find functions in the module itself."""
    return module


# What is asked. Each gets the arguments of its place.


def _asked_of(library: str) -> Ask:
    """Return what OpenAI's and Anthropic's clients ask: `request(self, cast_to, options)`."""

    def ask(client: Any, *args: Any, **kwargs: Any) -> Asked | None:  # noqa: ANN401
        options = kwargs["options"] if "options" in kwargs else args[1]
        if options.method.lower() != "post" or not _CALLS.search(options.url.partition("?")[0]):
            return None
        body = options.json_data if isinstance(options.json_data, Mapping) else {}
        host = host_of(options.url) or host_of(client.base_url)
        return Asked(library, str(body.get("model", "")), host, library if is_own(host) else "")

    return ask


def _ask_google(models: Any, *_: Any, **kwargs: Any) -> Asked:  # noqa: ANN401
    api = models._api_client
    provider = "gcp.vertex_ai" if api.vertexai else "gcp.gemini"
    return Asked("google-genai", str(kwargs.get("model", "")), host_of(api._http_options.base_url), provider)


def _ask_huggingface(client: Any, *_: Any, **kwargs: Any) -> Asked:  # noqa: ANN401
    names = [str(name) for name in (kwargs.get("model"), client.model) if name]
    model = next((name for name in names if not host_of(name)), "")
    host = next(filter(None, map(host_of, names)), "huggingface.co")
    provider = client.provider if client.provider and client.provider != "auto" else "huggingface"
    return Asked("huggingface_hub", model, host, spelled(provider))


def _ask_bedrock(client: Any, operation: str, parameters: Mapping[str, Any]) -> Asked | None:  # noqa: ANN401
    if operation not in _BEDROCK or client.meta.service_model.service_name != "bedrock-runtime":
        return None
    host = host_of(client.meta.endpoint_url)
    return Asked("boto3", str(parameters.get("modelId", "")), host, "aws.bedrock")


def _ask_litellm(*args: Any, **kwargs: Any) -> Asked:  # noqa: ANN401
    name = str(kwargs.get("model") or (args[0] if args else ""))
    given = kwargs.get("custom_llm_provider")
    model, provider, _, url = sys.modules["litellm"].get_llm_provider(name, given)
    spoken = provider.upper()
    places = (kwargs.get("api_base"), kwargs.get("base_url"), url)
    named = (os.environ.get(f"{spoken}_API_BASE"), os.environ.get(f"{spoken}_BASE_URL"))
    host = next(filter(None, map(host_of, (*places, *named))), "localhost" if provider in _SELF_HOSTED else "")
    return Asked("litellm", str(model), host, spelled(provider))


def _wrap_bedrock(original: Callable[..., Any], ask: Ask) -> Callable[..., Any]:
    """Look on where a dict comes back: it gets a class of its own, so that it can be remembered."""

    @wraps(original)
    def answered(client: Any, operation: str, parameters: Any) -> Any:  # noqa: ANN401
        answer = original(client, operation, parameters)
        is_ours = operation in _BEDROCK and type(answer) is dict
        return Answer(answer) if is_ours else answer

    return looking_on(answered, ask)


def _places() -> list[Place]:
    places = [
        Place(library, library, defines(client, "request"), "request", _asked_of(library), wrap)
        for library, client, wrap in (
            ("openai", "OpenAI", looking_on),
            ("openai", "AsyncOpenAI", looking_on_async),
            ("anthropic", "Anthropic", looking_on),
            ("anthropic", "AsyncAnthropic", looking_on_async),
        )
    ]
    places += [
        Place("google-genai", "google.genai.models", named(kind), method, _ask_google, wrap)
        for kind, wrap in (("Models", looking_on), ("AsyncModels", looking_on_async))
        for method in ("_generate_content", "_generate_content_stream")
    ]
    places += [
        Place("huggingface_hub", f"huggingface_hub.inference.{module}", named(kind), method, _ask_huggingface, wrap)
        for module, kind, wrap in (
            ("_client", "InferenceClient", looking_on),
            ("_generated._async_client", "AsyncInferenceClient", looking_on_async),
        )
        for method in ("chat_completion", "text_generation")
    ]
    places.append(Place("boto3", "botocore.client", named("BaseClient"), "_make_api_call", _ask_bedrock, _wrap_bedrock))
    places += [
        Place("litellm", "litellm", itself, method, _ask_litellm, wrap)
        for wrap, methods in (
            (looking_on, ("completion", "text_completion", "embedding", "responses")),
            (looking_on_async, ("acompletion", "atext_completion", "aembedding", "aresponses")),
        )
        for method in methods
    ]
    return places


PLACES = tuple(_places())
LIBRARIES = tuple(dict.fromkeys(place.library for place in PLACES))
