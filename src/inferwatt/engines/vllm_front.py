"""What vLLM's API servers say of the requests that they have finished: the other half of a request's truth.

A stop string is found by the front end: for the engine such a request was aborted, and it may have given a token more
than the client got. vLLM calls `record` on its event loop after each step, and an exception there would end serving:
only references are kept, and a thread of ours does the rest (entry point `vllm.stat_logger_plugins`, vllm_logger.py).
"""

import time
from collections import deque
from typing import Any

from inferwatt.engines.vllm_names import names_of_external
from inferwatt.engines.vllm_plugin import about_process, is_wanted
from inferwatt.wire_steps import MAX_STEPS, End, ends_message

MAX_WAITING = 16_384
MOST_LATELY = 64
_started: list["Front"] = []
"""One courier a process, however many engines it talks to: requests are told apart by their names."""


class Front:
    """What one front end's courier brings."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.about = about
        self.dropped = 0
        self.lately: deque[Any] = deque(maxlen=MOST_LATELY)
        """What the last steps finished, for the answers of this process (vllm_middleware_call.py)."""
        self._waiting: deque[tuple[int, Any]] = deque()

    def note(self, iteration: Any) -> None:
        """Keep what a step finished; called on vLLM's event loop."""
        finished = getattr(iteration, "finished_requests", None)
        if finished:
            self.lately.append(finished)
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append((time.monotonic_ns(), finished))
            else:
                self.dropped += 1

    def collect(self, outbox: Any) -> None:
        """Put what was finished into the outbox."""
        from inferwatt.engines.vllm_courier import encode

        ends: list[End] = []
        while self._waiting and len(ends) < MAX_STEPS // 2:
            t_ns, finished = self._waiting.popleft()
            ends += [end for one in finished if (end := _end(one, t_ns)) is not None]
        if ends:
            outbox.put(len(ends), lambda seq: encode(ends_message(seq, ends)))

    def again(self, outbox: Any) -> None:
        """An agent that has just started needs to know nothing from here."""


class FrontLogger:
    """What vLLM builds for each engine of a front end, and calls; never raises."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        del engine_index
        self._front: Front | None = None
        try:
            if is_wanted():
                self._front = _front(vllm_config)
        except Exception:  # noqa: BLE001 - nothing of ours may keep vLLM from starting
            self._front = None

    def record(self, scheduler_stats: Any = None, iteration_stats: Any = None, *args: Any, **kwargs: Any) -> None:
        """Note what a step finished."""
        del scheduler_stats, args, kwargs
        if self._front is not None and iteration_stats is not None:
            try:
                self._front.note(iteration_stats)
            except Exception:  # noqa: BLE001 - it would end serving
                self._front.dropped += 1

    def log_engine_initialized(self) -> None:
        """Nothing is logged."""

    def log(self) -> None:
        """Nothing is logged."""

    def record_sleep_state(self, *args: Any, **kwargs: Any) -> None:
        """Sleep is seen by its idle power."""


def _front(config: Any) -> Front:
    from inferwatt.engines.vllm_courier import Courier

    if not _started:
        front = Front(about_process(config, "front", 0))
        courier = Courier(front, front.about)
        courier.start()
        _started.append(front)
    return _started[0]


def finished(response_id: str) -> list[End]:
    """Return what was finished lately of a call, by the id of its answer: called where `note` is."""
    steps = (step for front in _started for step in reversed(front.lately))
    named = (one for step in steps for one in step if response_id in str(getattr(one, "request_id", "")))
    ends = (_end(one, 0) for one in named)
    return [end for end in ends if end is not None and names_of_external(end.name).response_id == response_id]


def _end(one: Any, t_ns: int) -> End | None:
    """Return what is said of one finished request; None where this version of vLLM does not name it."""
    name = getattr(one, "request_id", None)
    if not isinstance(name, str) or not name:
        return None
    reason = getattr(getattr(one, "finish_reason", None), "name", "")
    tokens = (getattr(one, field, 0) for field in ("num_prompt_tokens", "num_cached_tokens", "num_generation_tokens"))
    return End(name[:256], t_ns, reason, *(max(int(each or 0), 0) for each in tokens))
