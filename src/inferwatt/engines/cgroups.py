"""Which container and pod a process is in, by the path of its control group: the text of /proc/PID/cgroup. Pure.

A container's group is named by its 64 hexadecimal digits: bare (driver cgroupfs), as RUNTIME-ID.scope (driver systemd),
or as SLICE:RUNTIME:ID (systemd's slices given to a runtime that is not told of them). A pod's has pod and its UID, in
which systemd's names have `_` for `-`; a static pod's UID is a hash. Who watches over a container (CRI-O's conmon) has
a group of its own beside it, and is not in it. Of containers in containers the innermost is meant.
"""

import re
from dataclasses import dataclass

_ID = r"[0-9a-f]{64}"
_SCOPE = re.compile(rf"(?:([a-z][a-z0-9.-]*?)-)?({_ID})(?:\.scope)?")
_TRIPLE = re.compile(rf"[^/:]*:([a-z][a-z0-9.-]*):({_ID})")
_POD = re.compile(r"(?:^|-)pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:$|\.slice)")
_WATCHERS = ("conmon",)


@dataclass(frozen=True, slots=True)
class Home:
    """Where a process lives: the ids of its container and of its pod, empty where it is in none or none is shown."""

    container_id: str = ""
    pod_uid: str = ""


def home_of(cgroup: str) -> Home:
    """Return where a process lives.

    Args:
        cgroup: its /proc/PID/cgroup: lines of hierarchy:controllers:path (cgroups(7)), one alone with version 2.
    """
    homes = (_home(line.split(":", 2)[2]) for line in cgroup.splitlines() if line.count(":") > 1)
    return max(homes, key=lambda home: (bool(home.container_id), bool(home.pod_uid)), default=Home())


def _home(path: str) -> Home:
    container_id = pod_uid = ""
    for segment in path.split("/"):
        pod = _POD.search(segment.partition(":")[0])
        if pod is not None:
            container_id, pod_uid = "", pod.group(1).replace("_", "-")
        container = _TRIPLE.fullmatch(segment) or _SCOPE.fullmatch(segment)
        if container is not None and not (container.group(1) or "").endswith(_WATCHERS):
            container_id = container.group(2)
    return Home(container_id, pod_uid)
