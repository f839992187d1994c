"""What we use of vLLM, looked up in its source without running it: a change is named before it costs anybody a figure.

The installed vLLM is read, and each wheel of vLLM that lies in the folder VLLM_WHEELS, if it is set.
"""

import ast
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.vllm.server import PYTHON

pytestmark = pytest.mark.real

Read = Callable[[str], str]
USED = {
    ("config/scheduler.py", "SchedulerConfig"): {"get_scheduler_cls"},
    ("v1/core/sched/scheduler.py", "Scheduler"): {
        "add_request", "schedule", "update_from_output", "finish_requests",
    },
    ("v1/core/sched/output.py", "SchedulerOutput"): {
        "num_scheduled_tokens", "total_num_scheduled_tokens", "scheduled_new_reqs", "scheduled_cached_reqs",
        "scheduled_spec_decode_tokens",
    },
    ("v1/core/sched/output.py", "CachedRequestData"): {"req_ids", "num_computed_tokens"},
    ("v1/core/sched/output.py", "NewRequestData"): {"req_id", "prompt_token_ids", "num_computed_tokens"},
    ("v1/engine/__init__.py", "EngineCoreOutput"): {"request_id", "new_token_ids", "finish_reason"},
    ("v1/engine/__init__.py", "EngineCoreOutputs"): {"outputs"},
    ("v1/engine/__init__.py", "FinishReason"): {"STOP", "LENGTH", "ABORT", "ERROR"},
    ("v1/metrics/stats.py", "FinishedRequestStats"): {
        "request_id", "finish_reason", "num_prompt_tokens", "num_generation_tokens", "num_cached_tokens",
    },
    ("v1/metrics/loggers.py", "StatLoggerBase"): {"record", "log_engine_initialized"},
}  # fmt: skip
ARGUMENTS = {
    ("v1/core/sched/scheduler.py", "Scheduler", "update_from_output"): ["self", "scheduler_output"],
    ("v1/core/sched/scheduler.py", "Scheduler", "finish_requests"): ["self", "request_ids", "finished_status"],
    ("v1/core/sched/scheduler.py", "Scheduler", "add_request"): ["self", "request"],
    ("v1/metrics/loggers.py", "StatLoggerBase", "__init__"): ["self", "vllm_config", "engine_index"],
    ("v1/metrics/loggers.py", "StatLoggerBase", "record"): ["self", "scheduler_stats", "iteration_stats"],
}


def versions() -> Iterator[tuple[str, Read]]:
    """Return each vLLM that is at hand, and how its files are read."""
    installed = next(Path(PYTHON).parent.parent.glob("lib/python*/site-packages/vllm"), None)
    if installed is not None:
        yield "installed", lambda name: (installed / name).read_text()
    wheels = os.environ.get("VLLM_WHEELS", "")
    for wheel in sorted(Path(wheels).glob("vllm*.whl")) if wheels else ():
        yield wheel.name, partial(read_wheel, wheel)


def read_wheel(wheel: Path, name: str) -> str:
    """Return a file of a wheel's."""
    with zipfile.ZipFile(wheel) as files:
        return files.read(f"vllm/{name}").decode()


VERSIONS = [pytest.param(read, id=name) for name, read in versions()]


def class_of(read: Read, path: str, name: str) -> ast.ClassDef:
    """Return a class of a file."""
    return next(n for n in ast.parse(read(path)).body if isinstance(n, ast.ClassDef) and n.name == name)


def names_in(node: ast.ClassDef) -> set[str]:
    """Return the methods, fields and members that a class declares."""
    found = {n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    found |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    return found | {t.id for n in node.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}


def test_a_vllm_is_at_hand() -> None:
    """There is something to look at."""
    assert VERSIONS


@pytest.mark.parametrize("read", VERSIONS)
def test_every_name_that_we_use_is_there(read: Read) -> None:
    """Classes, methods and fields are where we look for them."""
    missing = {key: used - names_in(class_of(read, *key)) for key, used in USED.items()}

    assert {key: names for key, names in missing.items() if names} == {}


@pytest.mark.parametrize("read", VERSIONS)
def test_methods_are_called_as_we_pass_it_on(read: Read) -> None:
    """The arguments that we name ourselves have the place and the name that they had."""
    found = {}
    for path, owner, method in ARGUMENTS:
        body = class_of(read, path, owner).body
        function = next(n for n in body if isinstance(n, ast.FunctionDef) and n.name == method)
        found[path, owner, method] = [argument.arg for argument in function.args.args]

    assert {key: names[: len(ARGUMENTS[key])] for key, names in found.items()} == ARGUMENTS


@pytest.mark.parametrize("read", VERSIONS)
def test_plugins_are_looked_for_where_we_register(read: Read) -> None:
    """The two groups of entry points keep their names."""
    text = read("plugins/__init__.py")

    assert '"vllm.general_plugins"' in text
    assert '"vllm.stat_logger_plugins"' in text
