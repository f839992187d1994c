"""Which of the sockets that listen here are inference servers of one kind.

A listening socket that loopback reaches is a candidate when its process smells of a known server (command line,
mapped libraries: a Python process can hold llama.cpp inside) or when it has a known default port. A candidate is
then asked, at most a few questions with short time-outs, and only believed when it says itself what it is: in its list
of models, or by the metrics on its page. What smells of another kind, or was started by a server of another, is left to
that one.
"""

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path

from inferwatt.engines.fetch import Answer, Fetch, HttpFetch
from inferwatt.engines.listeners import Listener, command_line, mapped_files
from inferwatt.engines.servers import ServerKind, Target, listed_models, server_kinds
from inferwatt.engines.trees import ancestors, processes_of, smells
from inferwatt.errors import InferwattError
from inferwatt.snapshot import Lack

OWN_PORTS = frozenset({9595, 9596})
"""The agent's and the gateway's: the meter does not meter itself."""
PROBE_TIMEOUT_SECONDS = 0.3
MAX_LIKELY = 64
"""How many are asked that smell of a kind; and, below, that only have a usual port."""
MAX_CANDIDATES = 8
MODELS_PATH = "/v1/models"


class Smell(Enum):
    """What a process says of itself before it is asked."""

    THIS = "this kind"
    OTHER = "another kind"
    NONE = "nothing"


@dataclass(frozen=True, slots=True)
class FoundEngines:
    """The servers to scrape, and what is missing for more."""

    engines: tuple[Target, ...] = ()
    lacks: tuple[Lack, ...] = ()


def find(
    kind_name: str,
    sockets: Iterable[Listener],
    kinds: Mapping[str, ServerKind] | None = None,
    *,
    smell: Callable[[str, Listener], Smell] | None = None,
    fetch: Callable[[str, float], Fetch] = HttpFetch,
    proc: Path = Path("/proc"),
) -> FoundEngines:
    """Return which of `sockets` are servers of one kind, those that smell of it first.

    Args:
        kind_name: the kind.
        sockets: who listens.
        kinds: all kinds; those of servers.toml where it is left out.
        smell: what a socket's processes smell of.
        fetch: how a server is asked.
        proc: where /proc is.
    """
    kinds = kinds or server_kinds()
    kind = kinds[kind_name]
    others = [found for found in sockets if found.port not in OWN_PORTS and os.getpid() not in found.pids]
    smelled = [
        (found, smell(kind_name, found) if smell else smell_of(kind_name, found, kinds, proc)) for found in others
    ]
    likely = [found for found, how in smelled if how is Smell.THIS]
    near, far = ([found for found in likely if found.is_near is is_near] for is_near in (True, False))
    possible = [found for found, how in smelled if how is Smell.NONE and found.port in kind.ports and found.is_near]
    engines: list[Target] = []
    lacks: list[Lack] = []
    for found in (*near[:MAX_LIKELY], *possible[:MAX_CANDIDATES], *far[:MAX_LIKELY]):
        target = _target(kind_name, kind, found, proc, is_likely=found in likely)
        if not found.is_near and any(target.pids & engine.pids for engine in engines):
            continue  # the same one, whose port a relay of this machine passes on
        asks = fetch(target.url, PROBE_TIMEOUT_SECONDS)
        try:
            if _is_one(kind, asks, is_likely=found in likely):
                engines.append(target)
                lacks += process_lacks(target, found.pids)
        finally:
            asks.close()
    if likely and not engines and kind.signs and not kind.owned_by:
        ports = " ".join(str(found.port) for found in likely)
        lacks.append(Lack(f"a {kind_name} server shows no metrics page", f"ports {ports}", kind.metrics_off_fix))
    return FoundEngines(tuple(engines), tuple(lacks))


def _target(kind_name: str, kind: ServerKind, found: Listener, proc: Path, *, is_likely: bool) -> Target:
    why = "its process, and its own word" if is_likely else f"port {found.port}, and its own word"
    pids = processes_of(found.pids, kind.commands, proc)
    place = f"{found.port}" if found.is_near else f"{found.host}:{found.port}"
    return Target(f"{kind_name}:{place}", f"http://{found.host}:{found.port}", kind_name, pids=pids, why=why)


def smell_of(kind_name: str, found: Listener, kinds: Mapping[str, ServerKind], proc: Path) -> Smell:
    """Return what the processes of a socket smell of; a child of another kind's server is that server's."""
    kind = kinds[kind_name]
    others = [word for name, other in kinds.items() if name != kind_name for word in other.commands]
    said = [_said(pid, proc, int(time.monotonic())) for pid in found.pids]
    commands = [own for own, _ in said]
    parents = [command for _, before in said for command in before]
    if any(smells(command, others) and not smells(command, kind.commands) for command in (*commands, *parents)):
        return Smell.OTHER
    if any(smells(command, kind.commands) for command in commands):
        return Smell.THIS
    files = {path.rsplit("/", 1)[-1] for pid in found.pids if kind.libraries for path in mapped_files(pid, proc)}
    return Smell.THIS if any(smells(file, kind.libraries) for file in files) else Smell.NONE


@lru_cache(maxsize=4096)
def _said(pid: int, proc: Path, _second: int) -> tuple[str, tuple[str, ...]]:
    """Return a process's command line and its parents'; all kinds that ask within a second are told the same."""
    return command_line(pid, proc), tuple(command_line(parent, proc) for parent in ancestors(pid, proc))


def _is_one(kind: ServerKind, asks: Fetch, *, is_likely: bool) -> bool:
    """Whether the server says that it is of this kind; one that is busy or loading is believed by its smell."""
    if kind.owned_by:
        answer = _ask(asks, kind.models_path if kind.has_metrics else MODELS_PATH)
        if answer is None or (isinstance(answer, Answer) and _is_loading(kind, answer)):
            return is_likely
        if isinstance(answer, Answer) and owners(answer) & frozenset(kind.owned_by):
            return True
        if isinstance(answer, str):
            return False
        if answer.status in {401, 403} and is_likely:
            return True
    if kind.signs:
        answer = _ask(asks, kind.metrics_path)
        return isinstance(answer, Answer) and answer.status == 200 and shows(kind, answer.body)
    return is_likely and not kind.owned_by and isinstance(_ask(asks, kind.models_path), Answer)


def owners(answer: Answer) -> frozenset[str]:
    """Return who serves the models of a list of models, by its own word; nobody where it is no such list."""
    try:
        models = listed_models(json.loads(answer.body)) if answer.status == 200 else ()
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(str(model.get("owned_by", "")) for model in models)


def shows(kind: ServerKind, body: bytes) -> bool:
    """Whether a page has a metric of this kind, or says that it will have one."""
    signs = kind.signs or tuple(dict.fromkeys(name.partition(":")[0] + ":" for name in kind.names if ":" in name))
    names = (
        line.split()[2] if line.startswith(("# TYPE ", "# HELP ")) and line.count(" ") > 1 else line
        for line in body.decode(errors="replace").splitlines()
    )
    return bool(signs) and any(name.startswith(signs) for name in names)


def process_lacks(target: Target, holders: Collection[int]) -> tuple[Lack, ...]:
    """Return why a server's processes are not known, nothing where they are or its accelerators are named.

    Args:
        target: the server; where it is of this machine.
        holders: who holds its socket, as far as that can be seen.
    """
    if target.pids or target.devices:
        return ()
    if not holders:
        what = f"the process of {target.name} cannot be seen"
        return (Lack(what, target.url, "run the agent as its user, or as root"),)
    what = f"the processes of {target.name} cannot be mapped: its port is only passed on, to a container or elsewhere"
    return (Lack(what, target.url, 'name its accelerators: devices = ["gpu-0"] in [[engines.server]]'),)


def _ask(asks: Fetch, path: str) -> Answer | str | None:
    """Return the answer, None where it is still due, or why there is none."""
    try:
        return asks.get(path)
    except InferwattError as exc:
        return exc.what


def _is_loading(kind: ServerKind, answer: Answer) -> bool:
    return answer.status == 503 and bool(kind.loading) and kind.loading.encode() in answer.body
