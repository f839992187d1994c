"""What a step costs in vLLM's engine thread and in ours, with vLLM's own objects; runs in vLLM's environment.

Prints one JSON line: microseconds a step by batch, and bytes a step on the socket.
"""

import inspect
import json
import time
from typing import Any

from vllm.v1.core.sched.output import CachedRequestData, SchedulerOutput
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs

from inferwatt.engines.vllm_books import VllmBooks
from inferwatt.engines.vllm_courier import encode
from inferwatt.engines.vllm_recorder import Recorder, metered
from inferwatt.wire_steps import steps_message

STEPS = 400
ROUNDS = 7
STEPS_PER_MESSAGE = 10
BATCHES = (1, 32, 256)


def scheduled(names: list[str], context: int) -> Any:
    """Return the SchedulerOutput of a step of steady decode."""
    needed = {n: None for n, p in inspect.signature(SchedulerOutput).parameters.items() if p.default is p.empty}
    count = len(names)
    cached = CachedRequestData(list(names), set(), [], {}, [None] * count, [context] * count, [context] * count)
    known = {
        "scheduled_new_reqs": [],
        "scheduled_cached_reqs": cached,
        "num_scheduled_tokens": dict.fromkeys(names, 1),
        "total_num_scheduled_tokens": count,
        "scheduled_spec_decode_tokens": {},
        "finished_req_ids": set(),
    }
    return SchedulerOutput(**{**needed, **known})


def engine_class(names: list[str]) -> type:
    """Return a scheduler that hands out steps made before, and does nothing else."""
    outputs = [scheduled(names, 100 + number) for number in range(STEPS)]
    results = [
        {0: EngineCoreOutputs(outputs=[EngineCoreOutput(request_id=name, new_token_ids=[5]) for name in names])}
        for _ in range(STEPS)
    ]

    class Engine:
        """The stand-in of a scheduler."""

        def __init__(self) -> None:
            self._next = 0

        def schedule(self, throttle_prefills: bool = False) -> Any:
            """Return the next step."""
            self._next += 1
            return outputs[self._next - 1]

        def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
            """Return what the step gave."""
            return results[self._next - 1]

    return Engine


def microseconds_per_step(engine: Any) -> float:
    """Let an engine make all its steps; return what one took."""
    begin_ns = time.perf_counter_ns()
    for _ in range(STEPS):
        engine.update_from_output(engine.schedule(False), None)
    return (time.perf_counter_ns() - begin_ns) / STEPS / 1000


def figures(batch: int) -> dict[str, float]:
    """Measure one batch; the least of several rounds."""
    names = [f"chatcmpl-{number:032x}-{number:08x}" for number in range(batch)]
    base = engine_class(names)
    plain = min(microseconds_per_step(base()) for _ in range(ROUNDS))
    hooked, encoded, size = [], [], 0
    for _ in range(ROUNDS):
        recorder = Recorder()
        hooked.append(microseconds_per_step(metered(base, lambda _, recorder=recorder: recorder)()))  # type: ignore[misc]
        books, size, events = VllmBooks("m", arrival_ns=lambda _: None), 0, list(recorder.events)
        begin_ns = time.perf_counter_ns()
        for start in range(0, len(events), 2 * STEPS_PER_MESSAGE):
            for event in events[start : start + 2 * STEPS_PER_MESSAGE]:
                books.feed(event)
            size += len(encode(steps_message(1, books.take()[0])))
        encoded.append((time.perf_counter_ns() - begin_ns) / STEPS / 1000)
    return {
        f"hook_us_per_step_b{batch}": round(min(hooked) - plain, 2),
        f"encode_us_per_step_b{batch}": round(min(encoded), 1),
        f"bytes_per_step_b{batch}": round(size / STEPS),
    }


if __name__ == "__main__":
    print(json.dumps({name: value for batch in BATCHES for name, value in figures(batch).items()}))
