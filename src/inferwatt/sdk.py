"""What a user's code calls: `request()` around a call to a model, `meter()` where no agent runs.

    with inferwatt.request(model="m", tenant="t") as r:
        answer = client.complete(...)
        r.usage(prompt=12, output=100)
    r.energy()                # at once: the joules heard so far, or None
    r.energy(wait_seconds=3)  # the final ones, which come some 2 s after the end

It lives in other people's processes: standard library only, no wait, no exception, microseconds. Without an agent
it says so once (logger `inferwatt`) and does nothing.
"""

import atexit
import itertools
import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from inferwatt import delivery
from inferwatt.delivery import Delivery
from inferwatt.handle import RequestHandle

if TYPE_CHECKING:
    from inferwatt.window import InProcess, Meter

FLUSH_SECONDS = 0.2

_names = itertools.count(1)
_starting = threading.Lock()
_current: Delivery | None = None


def request(
    *,
    model: str = "",
    tenant: str = "",
    tags: Mapping[str, str] | None = None,
    request_id: str | None = None,
    engine: str = "",
    provider: str = "",
) -> RequestHandle:
    """Return a handle on one request to a model, to be used as `with`, `async with`, or `start()` and `finish()`.

    Args:
        model: as the server calls it.
        tenant: whose it is; absent: unknown, and shown as such.
        tags: a small map (team, project, environment, task).
        request_id: how the host calls it; kept as its response id unless `response_id` is set later.
        engine: the server's name in the agent's configuration, needed only where two servers serve one model.
        provider: the managed API that serves it (`openai`): its joules are estimated, no device here is charged.
    """
    handle = RequestHandle(_current or _begin(), str(next(_names)), model, tenant, engine, tags, provider)
    if request_id is not None:
        handle.response_id = request_id
    return handle


def meter() -> "Meter":
    """Return a meter for this process, to be used as `with` or `async with`: no agent is needed."""
    from inferwatt.window import Meter

    return Meter(_in_process)


def counts() -> dict[str, int]:
    """Return what this process's SDK had to drop or correct so far, by what it was."""
    return {} if _current is None else dict(_current.counts)


def flush(wait_seconds: float = FLUSH_SECONDS) -> None:
    """Send what is waiting, for at most `wait_seconds`, and end, as at exit; a later request begins anew."""
    global _current
    ending, _current = _current, None
    if ending is not None:
        ending.close(wait_seconds)


def _in_process(pid: int) -> "InProcess":
    from inferwatt.inprocess import InProcessMeter

    return InProcessMeter(pid)


def _begin() -> Delivery:
    """Start the delivery at its first use; where the process may start no thread it stays a bounded heap of nothing."""
    global _current
    with _starting:
        if _current is None:
            fresh = Delivery()
            try:
                fresh.start()
            except RuntimeError:
                fresh.retire()
            _flush_before_a_worker_ends()
            _current = fresh
        return _current


def _flush_before_a_worker_ends() -> None:
    """A worker of multiprocessing ends without atexit, but runs its own finalizers."""
    workers = sys.modules.get("multiprocessing.util")
    if workers is not None:
        workers.Finalize(None, flush, exitpriority=0)


def _before_fork() -> None:
    _starting.acquire()
    delivery.importing.acquire()


def _after_fork() -> None:
    delivery.importing.release()
    _starting.release()


def _in_child() -> None:
    """A child is a producer of its own; what the parent had open is the parent's to end."""
    global _current
    _after_fork()
    parents, _current = _current, None
    if parents is not None:
        parents.retire()


atexit.register(flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
