"""What vLLM's API servers say of the requests that they have finished: the other half of a request's truth.

Where this vLLM lacks what its steps are read from, it is all that there is: whole requests then, with their times.

A stop string is found by the front end: for the engine such a request was aborted, and it may have given a token more
than the client got. vLLM calls `record` on its event loop after each step, and an exception there would end serving:
only references are kept, and a thread of ours does the rest (entry point `vllm.stat_logger_plugins`, vllm_logger.py).

With several tokens a step the string may end before the last of them. vLLM (since 0.32) takes the others back from the
answer, but not from the counts that it hands to a stat logger: what it takes back is heard where it does so.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from inferwatt.engines.vllm_names import names_of_external
from inferwatt.engines.vllm_plugin import about_process, is_wanted
from inferwatt.records import Request
from inferwatt.units import NS_PER_SECOND
from inferwatt.wire_steps import MAX_STEPS, End, ends_message

MAX_WAITING = 16_384
MOST_LATELY = 64
Surplus = Mapping[tuple[str, int], int]
"""Tokens that a step took back, by a request's name and the count that vLLM has of it, which they are in."""
_started: list["Front"] = []
"""One courier a process, however many engines it talks to: requests are told apart by their names."""


class Front:
    """What one front end's courier brings."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.about = about
        self.dropped = 0
        self.lately: deque[tuple[Any, Surplus]] = deque(maxlen=MOST_LATELY)
        """What the last steps finished, for the answers of this process (vllm_middleware_call.py)."""
        self._waiting: deque[tuple[int, Any, Surplus]] = deque()
        self._surplus: dict[tuple[str, int], int] = {}
        self._has_steps = "steps" not in about.get("lacks", {})
        self._count = 0

    def note(self, iteration: Any) -> None:
        """Keep what a step finished, and what was taken back of it; called on vLLM's event loop."""
        finished = getattr(iteration, "finished_requests", None)
        surplus, self._surplus = self._surplus, {}
        if finished:
            self.lately.append((finished, surplus))
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append((time.monotonic_ns(), finished, surplus))
            else:
                self.dropped += 1

    def took_back(self, request: Any, tokens: int) -> None:
        """Note that vLLM takes back tokens of a request that it then finishes, in the same step; called on its loop."""
        self._surplus[request.external_req_id, request.stats.num_generation_tokens] = tokens

    def collect(self, outbox: Any) -> None:
        """Put what was finished into the outbox."""
        from inferwatt.engines.vllm_courier import encode

        ends: list[End] = []
        requests: list[Request] = []
        while self._waiting and len(ends) < MAX_STEPS // 2:
            t_ns, finished, surplus = self._waiting.popleft()
            told = [(end, one) for one in finished if (end := _end(one, t_ns, surplus)) is not None]
            ends += [end for end, _ in told]
            if not self._has_steps:
                requests += [self._whole(end, one) for end, one in told]
        outbox.add(requests)
        if ends and self._has_steps:
            outbox.put(len(ends), lambda seq: encode(ends_message(seq, ends)))

    def _whole(self, end: End, one: Any) -> Request:
        """Return a finished request by what the front end knows; of n > 1 answers each is one."""
        from inferwatt.engines.vllm_sequences import ENDS

        self._count += 1
        names = names_of_external(end.name)
        outcome, ending = ENDS.get(end.reason, ENDS["STOP"])
        ends_by_text = end.reason == "STOP"  # EOS or a stop string: it does not say which
        arrival_ns = end.t_ns - _ns(one, "e2e_latency")
        return Request(
            f"{end.name[:200]}/{self._count}",
            model=self.about.get("model", ""),
            arrival_ns=max(arrival_ns, 0),
            first_token_ns=max(end.t_ns - _ns(one, "decode_time"), arrival_ns, 0) if end.output_tokens else None,
            end_ns=end.t_ns,
            prompt_tokens=end.prompt_tokens,
            cached_tokens=min(end.cached_tokens, end.prompt_tokens),
            output_tokens=end.output_tokens,
            outcome=outcome,
            response_id=names.response_id,
            trace_id=names.request_id,
            ending=None if ends_by_text else ending,
            queued_ns=min(_ns(one, "queued_time"), _ns(one, "e2e_latency")) if hasattr(one, "queued_time") else None,
        )

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
        _hear_surplus(front)
        courier = Courier(front, front.about)
        courier.start()
        _started.append(front)
    return _started[0]


def finished(response_id: str) -> list[End]:
    """Return what was finished lately of a call, by the id of its answer: called where `note` is."""
    steps = (step for front in _started for step in reversed(front.lately))
    named = (
        (one, surplus)
        for finished, surplus in steps
        for one in finished
        if response_id in str(getattr(one, "request_id", ""))
    )
    ends = (_end(one, 0, surplus) for one, surplus in named)
    return [end for end in ends if end is not None and names_of_external(end.name).response_id == response_id]


def _ns(one: Any, name: str) -> int:
    """Return a duration of vLLM's, which it gives in seconds; none where it does not."""
    return max(round(float(getattr(one, name, 0.0) or 0.0) * NS_PER_SECOND), 0)


def _hear_surplus(front: Front) -> None:
    """Hear what vLLM takes back of a step's tokens beyond a stop string, where this version does it as we know it."""
    try:
        from vllm.v1.engine.output_processor import OutputProcessor  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return
    trim = vars(OutputProcessor).get("_trim_surplus_tokens")
    if isinstance(trim, staticmethod):
        OutputProcessor._trim_surplus_tokens = staticmethod(heard(trim.__func__, front))


def heard(trim: Callable[..., Any], front: Front) -> Callable[..., Any]:
    """Return vLLM's function so that the front end is told what it took back."""

    def trimmed(req_state: Any, output: Any, *args: Any, **kwargs: Any) -> Any:
        before = len(getattr(output, "new_token_ids", ()))
        result = trim(req_state, output, *args, **kwargs)
        try:
            if len(output.new_token_ids) < before:
                front.took_back(req_state, before - len(output.new_token_ids))
        except Exception:  # noqa: BLE001 - it would end serving
            front.dropped += 1
        return result

    return trimmed


def _end(one: Any, t_ns: int, surplus: Surplus) -> End | None:
    """Return what is said of one finished request; None where this version of vLLM does not name it."""
    name = getattr(one, "request_id", None)
    if not isinstance(name, str) or not name:
        return None
    reason = getattr(getattr(one, "finish_reason", None), "name", "")
    prompt, cached, output = (
        max(int(getattr(one, field, 0) or 0), 0)
        for field in ("num_prompt_tokens", "num_cached_tokens", "num_generation_tokens")
    )
    return End(name[:256], t_ns, reason, prompt, cached, max(output - surplus.get((name, output), 0), 0))
