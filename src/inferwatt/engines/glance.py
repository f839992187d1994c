"""One look at each server, as the agent takes it each second: is it there, what does it serve, what is in the way.

For a person who asks once. The looks are taken side by side: a server that hangs costs its own time-out and no more.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from inferwatt.clock import Clock
from inferwatt.engines.candidates import MODELS_PATH, owners, process_lacks
from inferwatt.engines.fetch import Fetch, HttpFetch
from inferwatt.engines.networks import pids_behind
from inferwatt.engines.roster import EngineSeen
from inferwatt.engines.servers import EnginesConfig, ServerKind, Target
from inferwatt.engines.watch import DOWN, UNSEEN, Emitted, ServerWatch, fetch_of
from inferwatt.errors import InferwattError
from inferwatt.loopback import is_loopback
from inferwatt.snapshot import Lack

AT_ONCE = 16
LATE = "late"
OTHER_KIND = "other_kind"


@dataclass(frozen=True, slots=True)
class Glance:
    """What one look found: the server with its processes and model, how it is, its version, and what is missing."""

    target: Target
    state: str
    version: str = ""
    lacks: tuple[Lack, ...] = ()

    @property
    def is_one(self) -> bool:
        """Whether it is there, and of the kind that it is read as."""
        return self.state not in {DOWN, LATE, OTHER_KIND}


def glances(
    targets: Iterable[Target],
    settings: EnginesConfig,
    clock: Clock,
    *,
    fetch: Callable[[str, float], Fetch] = HttpFetch,
    find_pids: Callable[[str], frozenset[int]] = pids_behind,
) -> tuple[Glance, ...]:
    """Return one look at each server, in their order.

    Args:
        targets: the servers.
        settings: the section `[engines]`.
        clock: where the time comes from.
        fetch: how a server is asked.
        find_pids: who listens at an address of this machine.
    """
    kinds = settings.kinds

    def glance(target: Target) -> Glance:
        asks = fetch_of(target, settings.timeout_seconds, fetch)
        try:
            return _glance(target, kinds, asks, clock, find_pids)
        finally:
            asks.close()

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return tuple(pool.map(glance, targets))


def _glance(
    target: Target,
    kinds: Mapping[str, ServerKind],
    asks: Fetch,
    clock: Clock,
    find_pids: Callable[[str], frozenset[int]],
) -> Glance:
    seen: list[Emitted] = []
    watch = ServerWatch(target, kinds[target.kind], asks, seen.append, 0, find_pids)
    watch.look(clock.monotonic_ns())
    health = watch.health()
    told = next((item for item in reversed(seen) if isinstance(item, EngineSeen)), None)
    pids = (told.pids if told is not None else find_pids(target.url)) or target.pids
    known = replace(target, pids=pids, model=health.model or target.model)
    version = told.version if told is not None else ""
    if health.state == DOWN:
        return Glance(known, DOWN, version, _one(health.last_error))
    if health.last_error is not None and (other := _other_kind(target, kinds, asks)) is not None:
        return Glance(known, OTHER_KIND, version, (other,))
    if health.state == UNSEEN:
        fix = "try again; else look at the server's log, or raise engines.timeout_seconds"
        return Glance(known, LATE, version, (Lack(f"{target.name} has not answered yet", target.url, fix),))
    return Glance(known, health.state, version, _one(health.last_error) + _whose_lacks(known, find_pids))


def _one(lack: Lack | None) -> tuple[Lack, ...]:
    return () if lack is None else (lack,)


def _whose_lacks(target: Target, find_pids: Callable[[str], frozenset[int]]) -> tuple[Lack, ...]:
    """Return why the joules of a server cannot be told from others', nothing where they can."""
    if target.pids or target.devices:
        return ()
    if is_loopback(urlsplit(target.url).hostname or ""):
        return process_lacks(target, find_pids(target.url))
    what = f"no process of this machine is known to serve {target.name}: none of its joules can be told"
    fix = 'run the agent on its machine, as root; else name what it runs on: devices = ["gpu-0"] in [[engines.server]]'
    return (Lack(what, target.url, fix),)


def _other_kind(target: Target, kinds: Mapping[str, ServerKind], asks: Fetch) -> Lack | None:
    """Return that a server says that it is of another kind than the one that it is read as."""
    try:
        answer = asks.get(MODELS_PATH)
    except InferwattError:
        return None
    said = owners(answer) if answer is not None else frozenset()
    others = [name for name, kind in kinds.items() if said & frozenset(kind.owned_by)]
    if not others or target.kind in others:
        return None
    what = f"{target.name} is read as {target.kind} and says that it is {others[0]}"
    return Lack(what, target.url, f'kind = "{others[0]}" in [[engines.server]]')
