"""The kinds of server that can be scraped (servers.toml and the user's), and what a server says of its model."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import msgspec

from inferwatt import records
from inferwatt.engines.wanted import histogram_names, names_of, wanted
from inferwatt.errors import ConfigError

MAX_NAME_CHARACTERS = 256
FLOPS_PER_PARAMETER_PER_TOKEN = 2
"""Kaplan et al. 2020, "Scaling Laws for Neural Language Models", arXiv 2001.08361, section 2.1: C_forward = 2N + ...
Their N is without embeddings, a server's n_params is with them: an upper bound where embeddings are looked up."""
COUNTERS = ("prompt_tokens", "cached_tokens", "output_tokens", "requests_ok", "inferences")
GAUGES = ("running", "waiting")
LATENCIES = ("first_token_seconds", "inter_token_seconds", "queue_seconds")


class ServerKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of servers.toml; that file's head says what each field means."""

    tried: str = "configured by the user"
    owned_by: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    models_path: str = "/v1/models"
    props_path: str = ""
    metrics_path: str = "/metrics"
    slots_path: str = ""
    has_metrics: bool = True
    metrics_off_fix: str = "turn the server's metrics on"
    better: str = "inferwatt gateway --upstream {url}"
    better_tier: str = "step_reconstructed"
    steps_fix: str = ""
    loading: str = ""
    start_header: str = ""
    significant_digits: int = 0
    silent_until_work: bool = False
    prompt_includes_cached: bool = False
    cached_comes_late: bool = False
    model_labels: tuple[str, ...] = ()
    prompt_tokens: tuple[str, ...] = ()
    cached_tokens: tuple[str, ...] = ()
    output_tokens: tuple[str, ...] = ()
    requests_ok: tuple[str, ...] = ()
    inferences: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    first_token_seconds: tuple[str, ...] = ()
    inter_token_seconds: tuple[str, ...] = ()
    queue_seconds: tuple[str, ...] = ()

    def at(self, metrics_path: str) -> "ServerKind":
        """Return the same kind with its page elsewhere, where that is said."""
        return msgspec.structs.replace(self, metrics_path=metrics_path) if metrics_path else self

    def better_of(self, url: str, python: str = "python") -> str:
        """Return the one command or setting by which a server of this kind, at `url`, is metered better."""
        return self.better.replace("{url}", url).replace("{python}", python)

    @property
    def names(self) -> tuple[str, ...]:
        """Every metric that is wanted from this kind's page."""
        plain = names_of(spelled for field in (*COUNTERS, *GAUGES) for spelled in getattr(self, field))
        return (*plain, *(name for field in LATENCIES for name in histogram_names(getattr(self, field))))


class KindConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[engines.kind.NAME]`: a kind of one's own, or what is to be read otherwise of one of ours.

    A key that is left out is as servers.toml has it. Metrics are lists of names of which the first that is found wins.
    """

    metrics_path: str | None = None
    models_path: str | None = None
    commands: tuple[str, ...] | None = None
    ports: tuple[int, ...] | None = None
    signs: tuple[str, ...] | None = None
    model_labels: tuple[str, ...] | None = None
    prompt_includes_cached: bool | None = None
    cached_comes_late: bool | None = None
    silent_until_work: bool | None = None
    prompt_tokens: tuple[str, ...] | None = None
    cached_tokens: tuple[str, ...] | None = None
    output_tokens: tuple[str, ...] | None = None
    requests_ok: tuple[str, ...] | None = None
    inferences: tuple[str, ...] | None = None
    running: tuple[str, ...] | None = None
    waiting: tuple[str, ...] | None = None
    first_token_seconds: tuple[str, ...] | None = None
    inter_token_seconds: tuple[str, ...] | None = None
    queue_seconds: tuple[str, ...] | None = None

    def given(self) -> Mapping[str, Any]:
        """Return what is set."""
        return {key: value for key in self.__struct_fields__ if (value := getattr(self, key)) is not None}


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[engines.server]]`: a server that is not found by itself, or that shall have another name.

    `model` names its model where the server cannot; `kind` is a table of servers.toml. `devices` are the accelerators
    that it runs on, where its processes cannot be seen on them (a container without the host's process numbers).
    `passes` are the addresses at which it publishes its forward passes, where its processes cannot be seen.
    `key_file` holds the key that its metrics page asks for.
    """

    name: str
    url: str
    kind: str = "llamacpp"
    model: str = ""
    devices: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    key_file: str = ""


class KubernetesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[engines.kubernetes]`: by what a server's pod and its GPUs are known, on a node of Kubernetes.

    With `pods_url` the kubelet is asked which pods are annotated with a page, by the token in `token_file`.
    """

    enabled: bool = True
    pod_resources: str = "/var/lib/kubelet/pod-resources/kubelet.sock"
    logs: str = "/var/log"
    pods_url: str = ""
    token_file: str = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    ca_file: str = ""
    timeout_seconds: Annotated[float, msgspec.Meta(ge=0.01, le=60.0)] = 0.5


class EnginesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[engines]`: which servers are scraped, and how often."""

    discover: bool = True
    scrape_seconds: Annotated[float, msgspec.Meta(ge=0.05, le=3600.0)] = 1.0
    timeout_seconds: Annotated[float, msgspec.Meta(ge=0.01, le=60.0)] = 0.5
    server: tuple[ServerConfig, ...] = ()
    kubernetes: KubernetesConfig = KubernetesConfig()
    kind: dict[str, KindConfig] = {}

    @property
    def kinds(self) -> Mapping[str, ServerKind]:
        """The kinds of servers.toml with what the user sets, and the user's own.

        Raises:
            ConfigError: a metric of a kind is misspelled, or a kind of the user's counts nothing.
        """
        return {**server_kinds(), **{name: _with(name, given) for name, given in self.kind.items()}}


@dataclass(frozen=True, slots=True)
class Target:
    """A server to scrape: `name` is the configured one, else kind:port; `model` overrides what the server says.

    `why` says how it was found, in words for a person; `passes` are where it is said to publish its forward passes;
    `metrics_path` and `place` are what its pod's annotations say.
    """

    name: str
    url: str
    kind: str = "llamacpp"
    model: str = ""
    pids: frozenset[int] = frozenset()
    devices: tuple[str, ...] = ()
    why: str = ""
    passes: tuple[str, ...] = ()
    key_file: str = ""
    metrics_path: str = ""
    place: records.Place = records.NOWHERE

    def where(self, found: records.Place) -> records.Place:
        """Return where it runs: as was found, else as its pod's annotations say, with the accelerators found."""
        return found if found.pod else replace(self.place, holds=found.holds, sees=found.sees)


@cache
def server_kinds() -> Mapping[str, ServerKind]:
    """Return the kinds of servers.toml by name."""
    text = files("inferwatt.engines").joinpath("servers.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, ServerKind])


def _with(name: str, given: KindConfig) -> ServerKind:
    """Return one of our kinds with what the user sets of it, or the user's own."""
    where = f"engines.kind.{name}"
    for key, spelled in _metrics(given):
        try:
            wanted(spelled)
        except ValueError as exc:
            raise ConfigError(str(exc), where=f"{where}.{key}", fix='"name" or "name{label=value}"') from None
    kind = msgspec.structs.replace(server_kinds().get(name, ServerKind()), **given.given())
    if name not in server_kinds() and not (kind.output_tokens or kind.prompt_tokens or kind.inferences):
        raise ConfigError("counts nothing", where=where, fix='output_tokens = ["name_of_its_counter"]')
    return kind


def _metrics(given: KindConfig) -> Iterator[tuple[str, str]]:
    for key in (*COUNTERS, *GAUGES, *LATENCIES):
        yield from ((key, spelled) for spelled in getattr(given, key) or ())


def listed_models(listing: object) -> tuple[Mapping[str, Any], ...]:
    """Return the models of a decoded /v1/models answer, none where it is something else."""
    data = listing.get("data") if isinstance(listing, dict) else None
    return tuple(entry for entry in data if isinstance(entry, dict)) if isinstance(data, list) else ()


def loaded_models(listing: object) -> tuple[str, ...]:
    """Return the models that a decoded /api/ps answer (Ollama's) says are loaded; ("",) where it is something else."""
    models = listing.get("models") if isinstance(listing, dict) else None
    if not isinstance(models, list):
        return ("",)
    names = (str(entry.get("name") or entry.get("model") or "") for entry in models if isinstance(entry, dict))
    return tuple(dict.fromkeys(name for name in names if name))


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
