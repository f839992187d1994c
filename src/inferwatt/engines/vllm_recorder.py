"""What runs in vLLM's engine thread: a subclass of its scheduler that keeps references, and nothing more.

Whatever class vLLM chose (sync, async, a user's own) is subclassed, and every argument is passed through. What was seen
goes into a bounded deque; a thread of ours (vllm_courier.py) makes something of it later. Nothing here blocks, nothing
here raises: what goes wrong is counted.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_WAITING = 16_384
"""Events that our thread has not looked at yet: some seconds of a fast engine. Beyond, they are dropped and counted."""

ADDED, SCHEDULED, UPDATED, FINISHED = range(4)
Event = tuple[Any, ...]

_now_ns = time.monotonic_ns


class Recorder:
    """Events of one engine in order: references to what vLLM made, with the time (CLOCK_MONOTONIC, ns)."""

    def __init__(self, most: int = MAX_WAITING) -> None:
        self.events: deque[Event] = deque()
        self.dropped = 0
        self.failed = 0
        self._most = most

    def note(self, event: Event) -> None:
        """Keep an event; one too many is dropped, and counted."""
        if len(self.events) < self._most:
            self.events.append(event)
        else:
            self.dropped += 1

    def added(self, request: Any) -> None:
        """Note a request's arrival: when (UTC, seconds), its prompt's tokens, its LoRA adapter."""
        try:
            lora = getattr(getattr(request, "lora_request", None), "lora_name", None) or ""
            arrival_unix = getattr(request, "arrival_time", None)
            prompt_tokens = getattr(request, "num_prompt_tokens", None)
            self.note((ADDED, _now_ns(), request.request_id, arrival_unix, prompt_tokens, lora))
        except Exception:  # noqa: BLE001 - nothing of ours may reach the engine
            self.failed += 1

    def finished(self, t_ns: int, names: Any, status: Any) -> None:
        """Note that requests were ended from outside."""
        try:
            self.note((FINISHED, t_ns, names, getattr(status, "name", "")))
        except Exception:  # noqa: BLE001 - nothing of ours may reach the engine
            self.failed += 1


class _Looked:
    """What is put before a scheduler's class: each call goes through unchanged, and is noted."""

    _inferwatt: Recorder | None = None
    _inferwatt_start: Callable[[Any], Recorder | None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._inferwatt = type(self)._inferwatt_start(self)

    def add_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if self._inferwatt is not None:
            self._inferwatt.added(request)
        return super().add_request(request, *args, **kwargs)  # type: ignore[misc]

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        t_ns = _now_ns()
        output = super().schedule(*args, **kwargs)  # type: ignore[misc]
        if self._inferwatt is not None:
            self._inferwatt.note((SCHEDULED, t_ns, output))
        return output

    def update_from_output(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        t_ns = _now_ns()
        result = super().update_from_output(scheduler_output, *args, **kwargs)  # type: ignore[misc]
        if self._inferwatt is not None:
            self._inferwatt.note((UPDATED, t_ns, scheduler_output, result))
        return result

    def finish_requests(self, request_ids: Any, *args: Any, **kwargs: Any) -> Any:
        t_ns = _now_ns()
        if request_ids is not None and not isinstance(request_ids, str):
            request_ids = tuple(request_ids)  # an iterator can be read once, and vLLM reads it after us
        result = super().finish_requests(request_ids, *args, **kwargs)  # type: ignore[misc]
        if self._inferwatt is not None:
            status = args[0] if args else kwargs.get("finished_status")
            self._inferwatt.finished(t_ns, request_ids, status)
        return result


def metered(base: type, start: Callable[[Any], Recorder | None]) -> type:
    """Return a subclass of a scheduler class that tells a recorder what happens; one that does already as it is.

    Args:
        base: the class that vLLM chose.
        start: called with each scheduler that was built; returns where its events go, None where nobody wants them.
    """
    if issubclass(base, _Looked):
        return base
    return type(f"Metered{base.__name__}", (_Looked, base), {"_inferwatt_start": staticmethod(start)})
