"""What this version of vLLM lacks of what we read there: looked up once, by name, before anything relies on it.

Without what `STEPS` names no step can be told: the stat logger tells requests that have finished then, which is a lower
tier. Without what `ENDS` names no finished request can be told.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

STEPS = {
    ("vllm.config", "SchedulerConfig"): ("get_scheduler_cls",),
    ("vllm.v1.core.sched.interface", "SchedulerInterface"): (
        "add_request",
        "schedule",
        "update_from_output",
        "finish_requests",
    ),
    ("vllm.v1.core.sched.output", "SchedulerOutput"): (
        "num_scheduled_tokens",
        "total_num_scheduled_tokens",
        "scheduled_new_reqs",
        "scheduled_cached_reqs",
        "scheduled_spec_decode_tokens",
    ),
    ("vllm.v1.core.sched.output", "NewRequestData"): ("req_id", "num_computed_tokens", "prompt_token_ids"),
    ("vllm.v1.core.sched.output", "CachedRequestData"): ("req_ids", "num_computed_tokens"),
    ("vllm.v1.engine", "EngineCoreOutputs"): ("outputs",),
    ("vllm.v1.engine", "EngineCoreOutput"): ("request_id", "new_token_ids", "finish_reason"),
}
ENDS = {("vllm.v1.metrics.stats", "FinishedRequestStats"): ("request_id", "num_prompt_tokens", "num_generation_tokens")}


@cache
def lacks() -> Mapping[str, list[str]]:
    """Return what is absent of `steps` and of `ends`, as `Class.field` or a class; nothing where all is there."""
    found = {"steps": _absent(STEPS), "ends": _absent(ENDS)}
    return {what: names for what, names in found.items() if names}


def _absent(needed: Mapping[tuple[str, str], tuple[str, ...]]) -> list[str]:
    names: list[str] = []
    for (module, owner), fields in needed.items():
        known = _class(module, owner)
        if known is None:
            names.append(owner)
        names += [f"{owner}.{field}" for field in fields if known is not None and not _has(known, field)]
    return names


def _class(module: str, name: str) -> Any:
    """Return a class of vLLM's, None where it is not there."""
    try:
        return getattr(import_module(module), name, None)
    except ModuleNotFoundError:
        return None


def _has(owner: Any, name: str) -> bool:
    """Whether a class has a field, an attribute or a method: a field without a default is none of the class itself."""
    return hasattr(owner, name) or name in getattr(owner, "__dataclass_fields__", ())
