"""Where a server runs: its namespace, pod and container, and the accelerators that are its own. On this node alone.

A process's control group has the ids of its container and pod. Their names are, the surest first: in the names of the
kubelet's files of logs, beside these ids (kuberuntime's legacyLogSymlink and BuildPodLogsDirectory); in the server's
own environment (INFERWATT_NAMESPACE, INFERWATT_POD, INFERWATT_CONTAINER, by the downward API); and those of the
container that alone holds the GPUs that the process was given (pod-resources). The API server is never asked.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inferwatt.clock import Clock, SystemClock
from inferwatt.engines.cgroups import Home
from inferwatt.engines.pod_resources import Holder, holders
from inferwatt.engines.processes import environment, home
from inferwatt.engines.servers import KubernetesConfig
from inferwatt.engines.visible import Visible, visible_to
from inferwatt.errors import SourceRetry
from inferwatt.records import Place
from inferwatt.snapshot import Lack
from inferwatt.units import NS_PER_SECOND

ASK_NS = 10 * NS_PER_SECOND
"""How often the kubelet is asked at most."""
_NAMED = ("INFERWATT_NAMESPACE", "INFERWATT_POD", "INFERWATT_CONTAINER")
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_LINK = re.compile(r"([^_]+)_([^_]+)_(.+)-([0-9a-f]{64})\.log")
_Names = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """A place, why its pod has no name, and why its environment does not say which accelerators it has."""

    place: Place
    unnamed: Lack | None = None
    unmapped: Lack | None = None


class Places:
    """Finds the places of servers; for one thread.

    Args:
        config: the section `[engines.kubernetes]`.
        proc: where processes are looked up.
        clock: where the time comes from.
        ask: what asks the kubelet.
    """

    def __init__(
        self,
        config: KubernetesConfig,
        proc: Path = Path("/proc"),
        *,
        clock: Clock | None = None,
        ask: Callable[[str, float], tuple[Holder, ...]] = holders,
    ) -> None:
        self._config = config
        self._proc = proc
        self._clock = clock or SystemClock()
        self._ask = ask
        self._holders: tuple[Holder, ...] = ()
        self._asked_ns = -ASK_NS
        self._refused: Lack | None = None

    def find(self, pids: Iterable[int]) -> Place:
        """Return the place of a server by its processes."""
        return self.look(pids).place

    def look(self, pids: Iterable[int]) -> Found:
        """Return the place of a server by its processes, and what keeps it from being known better."""
        pids = sorted(pids)
        where = {h for pid in pids if (h := home(pid, self._proc)).container_id or h.pod_uid}
        environs = [environ for pid in pids if (environ := environment(pid, self._proc))]
        seen = _seen(environs, in_container=bool(where))
        if len(where) == 1 and self._config.enabled:
            return self._in_container(where.pop(), environs, seen, pids)
        unnamed = None
        if len(where) > 1:
            what = "its processes are in several containers: no pod is named"
            unnamed = Lack(what, _shown(pids), "name each server in [[engines.server]]")
        return Found(Place(sees=seen.ids), unnamed, _unmapped(seen))

    def _in_container(self, at: Home, environs: list[Mapping[str, str]], seen: Visible, pids: list[int]) -> Found:
        known = self._kubelet() if at.pod_uid else ()
        names = self._by_logs(at) or _told(environs) or (_by_device(known, seen) if at.pod_uid else None)
        if names is None:
            return Found(Place(sees=seen.ids), self._unnamed(at, pids) if at.pod_uid else None, _unmapped(seen))
        holder = next((h for h in known if (h.namespace, h.pod, h.container) == names), None)
        alone = holder.alone if holder is not None else frozenset()
        own = tuple(sorted(name for name in alone if not seen.ids or _is_among(name, seen.ids)))
        return Found(Place(*names, holds=own, sees=seen.ids), None, None if own else _unmapped(seen))

    def _unnamed(self, at: Home, pids: list[int]) -> Lack:
        if self._refused is not None:
            return self._refused
        fix = "mount /var/log/pods and /var/log/containers, or set INFERWATT_POD and its like by the downward API"
        return Lack(f"the pod {at.pod_uid} has no name here", _shown(pids), fix)

    def _kubelet(self) -> tuple[Holder, ...]:
        """Return what the kubelet said last; it is asked again now and then."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._asked_ns >= ASK_NS:
            self._asked_ns = now_ns
            try:
                self._holders = self._ask(self._config.pod_resources, self._config.timeout_seconds)
                self._refused = None
            except SourceRetry as exc:
                self._holders, self._refused = (), Lack(exc.what, exc.where, exc.fix)
        return self._holders

    def _by_logs(self, at: Home) -> _Names | None:
        """Return the names by the kubelet's folders of logs: a container's by its id, else a pod's only one."""
        for name in _entries(Path(self._config.logs) / "containers"):
            link = _LINK.fullmatch(name)
            if link is not None and link.group(4) == at.container_id:
                return link.group(2), link.group(1), link.group(3)
        pods = Path(self._config.logs) / "pods"
        for name in _entries(pods):
            namespace, _, rest = name.partition("_")
            if at.pod_uid and rest.endswith(f"_{at.pod_uid}"):
                containers = _entries(pods / name)
                return namespace, rest.rpartition("_")[0], containers[0] if len(containers) == 1 else ""
        return None


def _told(environs: Iterable[Mapping[str, str]]) -> _Names | None:
    """Return the names that a server's own environment says, None where it says no pod's."""
    for environ in environs:
        names = [environ.get(name, "") for name in _NAMED]
        if names[1] and all(not name or _NAME.fullmatch(name) for name in names):
            return names[0], names[1], names[2]
    return None


def _by_device(known: Iterable[Holder], seen: Visible) -> _Names | None:
    """Return the container that alone holds all that a process may see, None where that is not one."""
    fits = [h for h in known if seen.ids and all(any(_is_among(name, (i,)) for name in h.alone) for i in seen.ids)]
    return (fits[0].namespace, fits[0].pod, fits[0].container) if len(fits) == 1 else None


def _is_among(name: str, ids: Iterable[str]) -> bool:
    """Return whether a device's id is one of these, which may be cut short."""
    return any(name.casefold().startswith(each.casefold()) for each in ids)


def _seen(environs: Iterable[Mapping[str, str]], *, in_container: bool) -> Visible:
    """Return what a server may see: the first of its processes that was told."""
    told = (visible_to(environ, in_container=in_container) for environ in environs)
    return next((seen for seen in told if seen.is_told), Visible())


def _unmapped(seen: Visible) -> Lack | None:
    what = f"its GPUs cannot be mapped by its environment: {seen.why_not}"
    fix = 'name GPUs by UUID in it, or devices = ["gpu-0"] in [[engines.server]]'
    return Lack(what, "environ", fix) if seen.why_not else None


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _shown(pids: Iterable[int]) -> str:
    return f"processes {' '.join(map(str, pids))}"
