"""vLLM's own scheduler and sentinel, and what our books make of a step that never came back; run by vLLM's Python.

Argument: the folder of a model. The scheduler is the real one under our wrapper, its objects are vLLM's own, and
`EngineCoreSentinel.on_fault` is what vLLM runs when a step raises. No model is loaded and nothing is computed.
"""

import json
import queue
import sys
from collections import deque
from types import SimpleNamespace
from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]
from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.fault_tolerance.engine_core_sentinel import EngineCoreSentinel
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from inferwatt.engines.vllm_books import GIVEN_UP_NS, VllmBooks
from inferwatt.engines.vllm_recorder import Recorder, metered
from vllm import SamplingParams


def scheduler_of(model: str, recorder: Recorder) -> Any:
    """Return vLLM's asynchronous scheduler, with our subclass over it."""
    model_config = ModelConfig(model=model, dtype="float32")
    scheduling = SchedulerConfig(
        max_num_seqs=8, max_num_batched_tokens=256, max_model_len=256, is_encoder_decoder=False, async_scheduling=True
    )
    cache = CacheConfig(block_size=16, enable_prefix_caching=False)
    cache.num_gpu_blocks = 100
    config = VllmConfig(model_config=model_config, scheduler_config=scheduling, cache_config=cache)
    spec = FullAttentionSpec(block_size=16, num_kv_heads=1, head_size=8, dtype=torch.float32)
    blocks = KVCacheConfig(num_blocks=100, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)])
    return metered(AsyncScheduler, lambda _: recorder)(
        vllm_config=config,
        kv_cache_config=blocks,
        structured_output_manager=StructuredOutputManager(config),
        block_size=16,
        log_stats=True,
    )


def output_of(step: Any) -> ModelRunnerOutput:
    """Return what a model runner would: one token for each member."""
    names = list(step.num_scheduled_tokens)
    return ModelRunnerOutput(
        req_ids=names,
        req_id_to_index={name: place for place, name in enumerate(names)},
        sampled_token_ids=[[5] for _ in names],
        logprobs=None,
        prompt_logprobs_dict={},
        pooler_output=[],
    )


def main() -> None:
    """Compute one step, lose two that are in flight, and print what the books say."""
    recorder = Recorder()
    books = VllmBooks("m", is_suffixed=False, arrival_ns=lambda _unix: None)
    scheduler = scheduler_of(sys.argv[1], recorder)
    for name in ("a", "b"):
        params = SamplingParams(max_tokens=50, ignore_eos=True)
        params.update_from_generation_config({}, 1)
        scheduler.add_request(Request(name, [7] * 20, params, None))
    done, lost = scheduler.schedule(), [scheduler.schedule()]
    scheduler.update_from_output(done, output_of(done))
    lost.append(scheduler.schedule())
    engine = SimpleNamespace(
        scheduler=scheduler,
        batch_queue=deque(lost),
        model_executor=SimpleNamespace(is_failed=False),
        engine_index=0,
        output_queue=queue.Queue(),
        _send_abort_outputs=lambda _aborted: None,
    )
    sentinel = EngineCoreSentinel(engine, VllmConfig().parallel_config)
    sentinel._push_status = lambda: None
    sentinel.on_fault(RuntimeError("a step failed"))
    while recorder.events:
        event = recorder.events.popleft()
        books.feed(event)
    failed_ns = event[1]
    _, early = books.take(failed_ns)
    rows, late = books.take(failed_ns + GIVEN_UP_NS + 1)
    said = {
        "queue": len(engine.batch_queue),
        "scheduled": [step.total_num_scheduled_tokens for step in (done, *lost)],
        "ended_at_once": sum(one.end_ns is not None for one in early),
        "ended": [(one.request, one.outcome, one.output_tokens, one.wasted_tokens) for one in late],
        "lost_steps": books.lost_steps,
        "rows": len(rows),
        "failed": recorder.failed,
    }
    sys.stdout.write(json.dumps(said) + "\n")


main()
