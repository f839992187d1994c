"""One call: a model's name and a request's tokens in, an estimate out. For the SDK, the gateway and the commands."""

import os
from pathlib import Path

from inferwatt.clients import ours
from inferwatt.clients.estimates import Estimate, Work
from inferwatt.clients.registry import Registry, coefficients, load

REGISTRY_VARIABLE = "INFERWATT_REGISTRY"


def estimate(
    model: str,
    *,
    provider: str = "",
    prompt_tokens: int | None,
    cached_tokens: int | None = None,
    output_tokens: int | None,
    reasoning_tokens: int | None = None,
    seconds: float | None = None,
    first_token_seconds: float | None = None,
    registry: Registry | None = None,
) -> Estimate:
    """Estimate the energy of one request to a managed API, by our method.

    Args:
        model: the model's name as the provider spells it.
        provider: who serves it (`openai`, `anthropic`, ...); no figure depends on it yet.
        prompt_tokens: the whole prompt, cached tokens included; None is not known.
        cached_tokens: the part of the prompt that was read from a cache.
        output_tokens: all tokens that were generated, reasoning included; None is not known.
        reasoning_tokens: the part of the output that was reasoning.
        seconds: from the request to its last token.
        first_token_seconds: from the request to its first token.
        registry: other rows than the package's and INFERWATT_REGISTRY's.

    Raises:
        ValueError: a number is negative, or neither prompt nor output is known.
        ConfigError: INFERWATT_REGISTRY names a file that cannot be read or is wrong.
    """
    work = Work(
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=reasoning_tokens,
        seconds=seconds,
        first_token_seconds=first_token_seconds,
    )
    shape = (registry or own_registry()).find(model)
    return ours.estimate(shape, work, coefficients())


def own_registry() -> Registry:
    """Return the registry with the rows of the file that INFERWATT_REGISTRY names, if it names one."""
    named = os.environ.get(REGISTRY_VARIABLE, "")
    return load(Path(named) if named else None)
