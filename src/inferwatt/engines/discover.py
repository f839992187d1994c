"""Which inference servers run on this machine, found without configuration, and those that are configured.

Each kind has an entry point of its own; what they share is one look at who listens, taken anew each second at most.
Addresses of other machines are never asked unless they are configured.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points

from inferwatt.engines import pods
from inferwatt.engines.candidates import PROBE_TIMEOUT_SECONDS, FoundEngines, find
from inferwatt.engines.fetch import is_address
from inferwatt.engines.listeners import Listener, listeners
from inferwatt.engines.networks import beyond, holders_at
from inferwatt.engines.servers import EnginesConfig, KubernetesConfig, ServerConfig, Target, server_kinds
from inferwatt.engines.trees import processes_of
from inferwatt.errors import ConfigError, SourceRetry
from inferwatt.snapshot import Lack

__all__ = ["GROUP", "FoundEngines", "configured", "discover_all", "find", "local"]

GROUP = "inferwatt.engines"
POD_SECONDS = 10
"""How often the kubelet is asked for its pods at most."""


def discover_all(settings: EnginesConfig, entries: Iterable[EntryPoint] | None = None) -> FoundEngines:
    """Return the configured servers, then those that each entry point of `inferwatt.engines` finds.

    Args:
        settings: the section `[engines]`.
        entries: the plugins to ask; those that are installed where it is left out.

    Raises:
        ConfigError: a configured server is of no known kind, or two have one name.
    """
    engines = {target.name: target for target in configured(settings)}
    addresses = {_place(target.url) for target in engines.values()}
    lacks: list[Lack] = []
    for found in _all_found(settings, entries) if settings.discover else ():
        known = frozenset(addresses)
        new = [target for target in found.engines if _place(target.url) not in known]
        engines |= {target.name: target for target in new if target.name not in engines}
        addresses |= {_place(target.url) for target in new}
        lacks += (lack for lack in found.lacks if _place(lack.where) not in known)
    return FoundEngines(tuple(engines.values()), tuple(lacks))


def _all_found(settings: EnginesConfig, entries: Iterable[EntryPoint] | None) -> Iterator[FoundEngines]:
    """Yield what is found of the user's own kinds, then what each plugin finds."""
    for name in settings.kind:
        if name not in server_kinds():
            yield local(name, settings)
    for entry in entry_points(group=GROUP) if entries is None else entries:
        try:
            yield entry.load()(settings)
        except Exception as exc:  # noqa: BLE001 - somebody else's plugin must not end the meter
            what = f"the plugin {entry.name} failed: {type(exc).__name__} {exc}"
            yield FoundEngines(lacks=(Lack(what, entry.value, "update or remove it"),))
    yield _by_annotations(settings)


def _by_annotations(settings: EnginesConfig) -> FoundEngines:
    """Return the servers of pods that are annotated with their page."""
    second = int(time.monotonic())
    try:
        pages = _pods(settings.kubernetes, second // POD_SECONDS)
    except SourceRetry as exc:
        return FoundEngines(lacks=(Lack(exc.what, exc.where, exc.fix),))
    near, far = _sockets(second) if pages else ((), ())
    kinds = settings.kinds
    return FoundEngines(
        tuple(
            replace(target, pids=processes_of(holders_at(target.url, near, far), kinds[target.kind].commands))
            for target in pods.servers(pages, kinds, PROBE_TIMEOUT_SECONDS)
        )
    )


@lru_cache(maxsize=1)
def _pods(config: KubernetesConfig, _turn: int) -> tuple[pods.Annotated, ...]:
    return pods.listed(config) if config.enabled else ()


def configured(settings: EnginesConfig) -> tuple[Target, ...]:
    """Return the servers that the configuration names, in its order.

    Raises:
        ConfigError: a kind is not known, or two servers have one name.
    """
    names: set[str] = set()
    kinds = settings.kinds
    for index, server in enumerate(settings.server):
        where = f"engines.server[{index}]"
        if server.kind not in kinds:
            raise ConfigError(
                f"{server.kind!r} is no kind of server", where=f"{where}.kind", fix=f"one of {sorted(kinds)}"
            )
        if not is_address(server.url):
            raise ConfigError(f"{server.url!r} is not a server's address", where=f"{where}.url", fix="http://HOST:PORT")
        if not all(address.startswith(("tcp://", "ipc://")) for address in server.passes):
            fix = "tcp://HOST:PORT or ipc://PATH, as the server's log names it"
            raise ConfigError(f"{server.passes} is not where passes are published", where=f"{where}.passes", fix=fix)
        if server.name in names:
            raise ConfigError(f"two servers are named {server.name!r}", where=f"{where}.name", fix="name each once")
        names.add(server.name)
    return tuple(
        Target(s.name, s.url, s.kind, s.model, frozenset(), s.devices, "it is configured", s.passes, s.key_file)
        for s in settings.server
    )


def local(kind_name: str, settings: EnginesConfig) -> FoundEngines:
    """Return the servers of one kind on this machine, in its containers and pods too."""
    near, far = _sockets(int(time.monotonic()))
    own = _own(settings.server, near, far)
    return find(kind_name, (*near, *(found for found in far if not found.pids & own)), settings.kinds)


@lru_cache(maxsize=1)
def _sockets(_second: int) -> tuple[tuple[Listener, ...], tuple[Listener, ...]]:
    """Return who listens where loopback reaches, and beyond; all kinds that ask within a second are told the same."""
    return listeners(), beyond()


@lru_cache(maxsize=1)
def _own(configured: tuple[ServerConfig, ...], near: tuple[Listener, ...], far: tuple[Listener, ...]) -> frozenset[int]:
    """Return the processes of configured servers: one that is found at another address too is the same."""
    return (
        processes_of((pid for server in configured for pid in holders_at(server.url, near, far)), ())
        if far
        else frozenset()
    )


def _place(url: str) -> str:
    """Return a form of a server's address in which its usual spellings are equal."""
    return url.rstrip("/").replace("://localhost", "://127.0.0.1").lower()


llamacpp, vllm, sglang, tgi = (partial(local, name) for name in ("llamacpp", "vllm", "sglang", "tgi"))
triton, trtllm, dynamo = (partial(local, name) for name in ("triton", "trtllm", "dynamo"))
lmdeploy, kserve, ollama = (partial(local, name) for name in ("lmdeploy", "kserve", "ollama"))
transformers = partial(local, "transformers")
"""What the entry points name: one finder a kind."""
