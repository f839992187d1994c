"""Which inference servers run on this machine, found without configuration.

A listening socket that loopback reaches is a candidate when its process smells of a known server (command line,
mapped libraries: a Python process can hold llama.cpp inside) or when it has a known default port. A candidate is
then asked, at most two questions with short time-outs, and only believed when it says itself what it is.
Addresses of other machines are never asked unless they are configured.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from inferwatt.engines.fetch import Answer, Fetch, HttpFetch, is_address
from inferwatt.engines.listeners import Listener, command_line, listeners, mapped_files
from inferwatt.engines.servers import EnginesConfig, ServerKind, Target, listed_models, server_kinds
from inferwatt.errors import ConfigError, InferwattError
from inferwatt.snapshot import Lack

GROUP = "inferwatt.engines"
OWN_PORTS = frozenset({9595, 9596})
"""The agent's and the gateway's: the meter does not meter itself."""
PROBE_TIMEOUT_SECONDS = 0.3
MAX_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class FoundEngines:
    """The servers to scrape, and what is missing for more."""

    engines: tuple[Target, ...] = ()
    lacks: tuple[Lack, ...] = ()


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
    installed = entry_points(group=GROUP) if entries is None else entries
    for entry in installed if settings.discover else ():
        try:
            found: FoundEngines = entry.load()(settings)
        except Exception as exc:  # noqa: BLE001 - somebody else's plugin must not end the meter
            lacks.append(
                Lack(f"the plugin {entry.name} failed: {type(exc).__name__} {exc}", entry.value, "update or remove it")
            )
            continue
        new = [target for target in found.engines if _place(target.url) not in addresses]
        engines |= {target.name: target for target in new if target.name not in engines}
        addresses |= {_place(target.url) for target in new}
        lacks += found.lacks
    return FoundEngines(tuple(engines.values()), tuple(lacks))


def configured(settings: EnginesConfig) -> tuple[Target, ...]:
    """Return the servers that the configuration names, in its order.

    Raises:
        ConfigError: a kind is not in servers.toml, or two servers have one name.
    """
    names: set[str] = set()
    for index, server in enumerate(settings.server):
        where = f"engines.server[{index}]"
        if server.kind not in server_kinds():
            raise ConfigError(
                f"{server.kind!r} is no kind of server", where=f"{where}.kind", fix=f"one of {sorted(server_kinds())}"
            )
        if not is_address(server.url):
            raise ConfigError(f"{server.url!r} is not a server's address", where=f"{where}.url", fix="http://HOST:PORT")
        if server.name in names:
            raise ConfigError(f"two servers are named {server.name!r}", where=f"{where}.name", fix="name each once")
        names.add(server.name)
    return tuple(Target(s.name, s.url, s.kind, s.model, devices=s.devices) for s in settings.server)


def llamacpp(settings: EnginesConfig) -> FoundEngines:
    """Return the llama.cpp servers of this machine: llama-server, or llama.cpp inside a Python process."""
    del settings  # it has no say in where a local server is looked for
    return find("llamacpp", listeners())


def find(
    kind_name: str,
    sockets: Iterable[Listener],
    *,
    smells: Callable[[ServerKind, Listener], bool] | None = None,
    fetch: Callable[[str, float], Fetch] = HttpFetch,
) -> FoundEngines:
    """Return which of `sockets` are servers of one kind, those that smell of it first."""
    kind = server_kinds()[kind_name]
    smells = smells or _smells
    others = [found for found in sockets if found.port not in OWN_PORTS and os.getpid() not in found.pids]
    likely = [found for found in others if smells(kind, found)]
    possible = [found for found in others if found not in likely and found.port in kind.ports]
    engines: list[Target] = []
    lacks: list[Lack] = []
    for found in (*likely, *possible)[:MAX_CANDIDATES]:
        target = Target(f"{kind_name}:{found.port}", f"http://{found.host}:{found.port}", kind_name, pids=found.pids)
        asks = fetch(target.url, PROBE_TIMEOUT_SECONDS)
        try:
            if _is_one(kind, asks, is_likely=found in likely):
                engines.append(target)
                lacks += _lacks(kind, target, asks)
        finally:
            asks.close()
    return FoundEngines(tuple(engines), tuple(lacks))


def _smells(kind: ServerKind, found: Listener) -> bool:
    """Whether a process that holds the socket has a known command line, or such a library in its memory."""
    for pid in found.pids:
        command = command_line(pid)
        if any(word in command for word in kind.commands):
            return True
        files = {path.rsplit("/", 1)[-1] for path in mapped_files(pid)}
        if any(word in file for word in kind.libraries for file in files):
            return True
    return False


def _is_one(kind: ServerKind, asks: Fetch, *, is_likely: bool) -> bool:
    """Whether the server says that it is of this kind; one that is busy or loading is believed by its smell."""
    answer = _ask(asks, kind.models_path)
    if isinstance(answer, str):
        return False
    if answer is None or _is_loading(kind, answer):
        return is_likely
    try:
        models = listed_models(json.loads(answer.body)) if answer.status == 200 else ()
    except (ValueError, RecursionError):
        return False
    return any(model.get("owned_by") in kind.owned_by for model in models)


def _lacks(kind: ServerKind, target: Target, asks: Fetch) -> Iterable[Lack]:
    """What keeps a found server from being metered in full."""
    where = target.url + kind.metrics_path
    answer = _ask(asks, kind.metrics_path)
    if isinstance(answer, str):
        yield Lack(f"{target.name} does not show its metrics: {answer}", where, kind.metrics_off_fix)
    elif answer is not None and answer.status in {404, 501}:
        yield Lack(f"{target.name} does not show its metrics", where, kind.metrics_off_fix)
    elif answer is not None and answer.status != 200 and not _is_loading(kind, answer):
        yield Lack(
            f"{target.name}'s metrics page answers {answer.status}", where, "let the agent read it without a key"
        )
    if not target.pids:
        yield Lack(f"the process of {target.name} cannot be seen", target.url, "run the agent as its user, or as root")


def _ask(asks: Fetch, path: str) -> Answer | str | None:
    """Return the answer, None where it is still due, or why there is none."""
    try:
        return asks.get(path)
    except InferwattError as exc:
        return exc.what


def _is_loading(kind: ServerKind, answer: Answer) -> bool:
    return answer.status == 503 and bool(kind.loading) and kind.loading.encode() in answer.body


def _place(url: str) -> str:
    """Return a form of a server's address in which its usual spellings are equal."""
    return url.rstrip("/").replace("://localhost", "://127.0.0.1").lower()
