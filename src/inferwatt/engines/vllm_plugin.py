"""The plugin of vLLM: who takes part in each engine step, exactly, without a flag and without a fork.

vLLM calls `register` in each of its processes (entry point `vllm.general_plugins`). It wraps the one method by which
vLLM chooses its scheduler's class, so that a subclass of whatever is chosen is used. A thread and a socket are made
only in the process that builds a scheduler. Nothing is done unless an agent's socket is there, or INFERWATT_VLLM=1 says
so; INFERWATT_VLLM=0 switches it off. Nothing here ever raises into vLLM: what goes wrong is written to its log, once.
"""

import functools
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from inferwatt.engines.vllm_recorder import Recorder, metered

VARIABLE = "INFERWATT_VLLM"
ANSWERS = "INFERWATT_VLLM_ANSWERS"
"""Set to 1 it is as `--middleware inferwatt.vllm.Middleware` on the command line."""
_couriers: list[Any] = []
"""Held, so that a scheduler's end does not end them."""


def register() -> None:
    """Wrap the choice of vLLM's scheduler, once in a process; called by vLLM."""
    try:
        if os.environ.get(ANSWERS) == "1":
            from inferwatt.engines.vllm_middleware import put_before

            put_before(import_module("fastapi").FastAPI)
        if not is_wanted():
            return
        from vllm.config import SchedulerConfig  # type: ignore[import-not-found, unused-ignore]

        wrap(SchedulerConfig)
    except Exception as exc:  # noqa: BLE001 - nothing of ours may keep vLLM from starting
        _say(f"the vLLM plugin does nothing: {type(exc).__name__} {exc}")


def is_wanted() -> bool:
    """Whether an agent's socket is there, or INFERWATT_VLLM says what is wanted."""
    from inferwatt.endpoint import socket_path

    said = os.environ.get(VARIABLE, "")
    return said == "1" or (said != "0" and os.path.exists(socket_path()))


def wrap(config: Any) -> None:
    """Let `get_scheduler_cls` of vLLM's SchedulerConfig return a subclass of what it returns; twice is as once."""
    chosen: Callable[..., type] = config.get_scheduler_cls
    if getattr(chosen, "_inferwatt", False):
        return
    classes: dict[type, type] = {}

    @functools.wraps(chosen)
    def get_scheduler_cls(self: Any, *args: Any, **kwargs: Any) -> type:
        base = chosen(self, *args, **kwargs)
        try:
            if base not in classes:
                classes[base] = metered(base, start)
            return classes[base]
        except Exception as exc:  # noqa: BLE001 - vLLM's own class then
            _say(f"the scheduler {base!r} cannot be looked at: {type(exc).__name__} {exc}")
            return base

    get_scheduler_cls._inferwatt = True  # type: ignore[attr-defined]
    config.get_scheduler_cls = get_scheduler_cls


def start(scheduler: Any) -> Recorder | None:
    """Make the recorder and the courier of a scheduler that vLLM has just built.

    Where vLLM lacks what its steps are read from, the agent is told so, and nothing is recorded.
    """
    try:
        from inferwatt.engines.vllm_courier import Courier

        load = EngineLoad(Recorder(), getattr(scheduler, "vllm_config", None))
        courier = Courier(load, load.about)
        courier.start()
        _couriers.append(courier)
    except Exception as exc:  # noqa: BLE001 - nothing of ours may keep vLLM from starting
        _say(f"the engine's steps are not metered: {type(exc).__name__} {exc}")
        return None
    if absent := load.about.get("lacks", {}).get("steps"):
        _say(f"the engine's steps are not metered: this vLLM has no {', '.join(absent)}")
        return None
    return load.recorder


class EngineLoad:
    """What an engine's courier brings: steps, and the requests that they are of."""

    def __init__(self, recorder: Recorder, config: Any) -> None:
        from inferwatt.engines.vllm_books import VllmBooks
        from inferwatt.engines.vllm_shape import served_name

        self.recorder = recorder
        parallel = getattr(config, "parallel_config", None)
        self.about = about_process(config, "engine", getattr(parallel, "data_parallel_index", 0) or 0)
        is_suffixed = os.environ.get("VLLM_DISABLE_REQUEST_ID_RANDOMIZATION", "").strip() not in {"1", "true", "True"}
        self._books = VllmBooks(served_name(config), is_suffixed=is_suffixed, arrival_ns=monotonic)
        self._failed = 0

    def collect(self, outbox: Any) -> None:
        """Make something of what the engine's thread has noted."""
        events = self.recorder.events
        for _ in range(len(events)):
            try:
                self._books.feed(events.popleft())
            except Exception as exc:  # noqa: BLE001 - one step that we do not understand
                self._failed += 1
                if self._failed == 1:
                    _say(f"a step of the engine was not understood: {type(exc).__name__} {exc}")
            if self._books.is_full:
                self._put(outbox)
        self._put(outbox)

    def again(self, outbox: Any) -> None:
        """Say which requests are open."""
        outbox.add(self._books.open_requests())

    @property
    def dropped(self) -> int:
        """How many events were dropped or not understood."""
        return self.recorder.dropped + self.recorder.failed + self._failed + self._books.lost_steps

    def _put(self, outbox: Any) -> None:
        """Say which requests began, then the steps, then which requests have ended: in the order of their truth."""
        from inferwatt.engines.vllm_courier import encode
        from inferwatt.wire_steps import steps_message

        rows, requests = self._books.take(time.monotonic_ns())
        outbox.add([one for one in requests if one.end_ns is None])
        if rows:
            dropped = self.dropped + outbox.dropped_records
            outbox.put(len(rows), lambda seq: encode(steps_message(seq, rows, dropped)))
        outbox.add([one for one in requests if one.end_ns is not None])


def about_process(config: Any, role: str, index: int) -> dict[str, Any]:
    """Return what this process says of itself in its hello."""
    from importlib.metadata import version

    from inferwatt.engines.vllm_lacks import lacks
    from inferwatt.engines.vllm_shape import about, port_of

    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    process = {"pid_namespace": namespace, "parent": os.getppid(), "port": port_of(sys.argv), "lacks": lacks() or None}
    return about(config, version=version("vllm"), role=role, index=index, process=process)


def monotonic(unix_seconds: float) -> int | None:
    """Return a time of the wall clock as CLOCK_MONOTONIC, ns; None where it cannot be right."""
    ago_ns = time.time_ns() - round(unix_seconds * 1e9)
    then_ns = time.monotonic_ns() - ago_ns
    return then_ns if 0 <= ago_ns < 3_600_000_000_000 and then_ns > 0 else None


def _say(text: str) -> None:
    """Write a line to vLLM's log, where there is one."""
    import logging

    try:
        logging.getLogger("vllm.inferwatt").warning("inferwatt: %s", text)
    except Exception:  # noqa: BLE001 - a log that fails is no reason to fail
        sys.stderr.write(f"inferwatt: {text}\n")
