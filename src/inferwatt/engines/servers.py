"""The kinds of server that can be scraped (servers.toml), and what a server says of its model."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import msgspec

from inferwatt import records

MAX_NAME_CHARACTERS = 256
FLOPS_PER_PARAMETER_PER_TOKEN = 2
"""Kaplan et al. 2020, "Scaling Laws for Neural Language Models", arXiv 2001.08361, section 2.1: C_forward = 2N + ...
Their N is without embeddings, a server's n_params is with them: an upper bound where embeddings are looked up."""


class ServerKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of servers.toml; that file's head says what each field means."""

    tried: str
    owned_by: tuple[str, ...]
    commands: tuple[str, ...]
    libraries: tuple[str, ...]
    ports: tuple[int, ...]
    health_path: str
    models_path: str
    props_path: str
    metrics_path: str
    metrics_off_fix: str
    loading: str
    start_header: str
    significant_digits: int
    prompt_includes_cached: bool
    prompt_tokens: tuple[str, ...]
    cached_tokens: tuple[str, ...]
    output_tokens: tuple[str, ...]
    requests_ok: tuple[str, ...]
    running: tuple[str, ...]
    waiting: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every metric that is wanted from this kind's page."""
        counters = (*self.prompt_tokens, *self.cached_tokens, *self.output_tokens, *self.requests_ok)
        return (*counters, *self.running, *self.waiting)


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[engines.server]]`: a server that is not found by itself, or that shall have another name.

    `model` names its model where the server cannot; `kind` is a table of servers.toml. `devices` are the accelerators
    that it runs on, where its processes cannot be seen on them (a container without the host's process numbers).
    """

    name: str
    url: str
    kind: str = "llamacpp"
    model: str = ""
    devices: tuple[str, ...] = ()


class EnginesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[engines]`: which servers are scraped, and how often."""

    discover: bool = True
    scrape_seconds: Annotated[float, msgspec.Meta(ge=0.05, le=3600.0)] = 1.0
    timeout_seconds: Annotated[float, msgspec.Meta(ge=0.01, le=60.0)] = 0.5
    server: tuple[ServerConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A server to scrape: `name` is the configured one, else kind:port; `model` overrides what the server says."""

    name: str
    url: str
    kind: str = "llamacpp"
    model: str = ""
    pids: frozenset[int] = frozenset()
    devices: tuple[str, ...] = ()


@cache
def server_kinds() -> Mapping[str, ServerKind]:
    """Return the kinds of servers.toml by name."""
    text = files("inferwatt.engines").joinpath("servers.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, ServerKind])


def first_model(listing: object) -> Mapping[str, Any] | None:
    """Return the first model of a decoded /v1/models answer, None where it has none or is something else."""
    data = listing.get("data") if isinstance(listing, dict) else None
    return data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else None


def model_name(model_id: str) -> str:
    """Return a label for a model id: a local path to a weights file becomes the file's name without `.gguf`."""
    is_path = model_id.endswith(".gguf") or model_id.startswith(("/", "./", "~")) or "\\" in model_id
    name = model_id.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".gguf") if is_path else model_id
    return name[:MAX_NAME_CHARACTERS]


def model_shape(listed: Mapping[str, Any], name: str = "") -> records.Model:
    """Return what a model of /v1/models says of itself, with what it does not say left None.

    llama.cpp's `meta` gives n_params and size. The bytes of KV cache per token need the number of KV heads and
    layers, which it does not give: they stay unknown, since n_embd alone is three times too much for a model with
    grouped-query attention such as SmolLM2 (9 query heads, 3 KV heads).
    """
    meta = listed.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    parameters, weight_bytes = _positive(meta.get("n_params")), _positive(meta.get("size"))
    return records.Model(
        model=name or model_name(str(listed.get("id", ""))),
        weight_bytes=weight_bytes,
        flops_per_token=None if parameters is None else FLOPS_PER_PARAMETER_PER_TOKEN * parameters,
    )


def _positive(number: object) -> float | None:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return float(number) if is_number and 0 < number < 1e18 else None  # type: ignore[operator, arg-type]
