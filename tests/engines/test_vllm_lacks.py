"""What a version of vLLM lacks: looked up in stand-ins for its modules, and what a front end tells then."""

import sys
from collections.abc import Iterator
from dataclasses import make_dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from inferwatt import wire
from inferwatt.engines import vllm_lacks
from inferwatt.engines.plugged import plugin_of
from inferwatt.engines.vllm_front import Front
from inferwatt.outbox import Outbox
from inferwatt.records import Ending, Outcome, Request
from inferwatt.units import NS_PER_SECOND

NEEDED = {**vllm_lacks.STEPS, **vllm_lacks.ENDS}
FIELDS = [(owner, field) for owner, fields in NEEDED.items() for field in fields]


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """Modules by vLLM's names with classes that have all that is needed."""
    found: dict[str, ModuleType] = {"vllm": ModuleType("vllm")}
    for (module, owner), fields in NEEDED.items():
        where = found.setdefault(module, ModuleType(module))
        setattr(where, owner, make_dataclass(owner, fields))
    for name, each in found.items():
        monkeypatch.setitem(sys.modules, name, each)
    vllm_lacks.lacks.cache_clear()
    yield found
    vllm_lacks.lacks.cache_clear()


def test_a_version_that_has_all_lacks_nothing(modules: dict[str, ModuleType]) -> None:
    """Fields without a default are there too."""
    assert modules
    assert vllm_lacks.lacks() == {}


@pytest.mark.parametrize(("owner", "field"), FIELDS)
def test_what_is_absent_is_named(owner: tuple[str, str], field: str, modules: dict[str, ModuleType]) -> None:
    """Each field and method by its name, under what cannot be told without it."""
    module, name = owner
    left = [one for one in NEEDED[owner] if one != field]
    setattr(modules[module], name, make_dataclass(name, left))

    assert vllm_lacks.lacks() == {"steps" if owner in vllm_lacks.STEPS else "ends": [f"{name}.{field}"]}


def test_a_class_or_module_that_is_gone_is_named(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is raised for it."""
    del modules["vllm.v1.engine"].EngineCoreOutput
    monkeypatch.delitem(sys.modules, "vllm.v1.metrics.stats")

    assert vllm_lacks.lacks() == {"steps": ["EngineCoreOutput"], "ends": ["FinishedRequestStats"]}


LACKS = {"lacks": {"steps": ["SchedulerOutput.num_scheduled_tokens"]}, "model": "m"}


def whole(reason: str, **more: Any) -> Request:
    """Return what a front end tells of a request where no step is told, as the agent reads it."""
    known = {"request_id": "cmpl-a-0", "finish_reason": SimpleNamespace(name=reason), "num_generation_tokens": 2}
    known |= {"num_prompt_tokens": 7, "num_cached_tokens": 4, "e2e_latency": 3.0, "decode_time": 0.5}
    front, outbox = Front(LACKS), Outbox()
    front.note(SimpleNamespace(finished_requests=[SimpleNamespace(**{**known, **more})]))
    front.collect(outbox)
    frame = outbox.next_frame()
    assert frame is not None
    assert outbox.next_frame() is None
    [message] = wire.Decoder().feed(frame)
    assert isinstance(message, dict)
    assert message["t"] == "records"
    return wire.request_from_wire(message["records"][0])


def test_where_no_step_is_told_finished_requests_are_told_whole() -> None:
    """With the times that vLLM itself took, its counts, its names, and how they ended."""
    request = whole("LENGTH", queued_time=1.25)
    assert request.end_ns is not None

    assert request.end_ns - request.arrival_ns == 3 * NS_PER_SECOND
    assert request.end_ns - (request.first_token_ns or 0) == NS_PER_SECOND // 2
    assert request.queued_ns == 5 * NS_PER_SECOND // 4
    assert (request.model, request.response_id, request.trace_id) == ("m", "cmpl-a", "a")
    assert (request.prompt_tokens, request.cached_tokens, request.output_tokens) == (7, 4, 2)
    assert (request.outcome, request.ending) == (Outcome.FINISHED, Ending.LENGTH)


@pytest.mark.parametrize(
    ("reason", "outcome", "ending"),
    [
        ("STOP", Outcome.FINISHED, None),  # EOS or a stop string: it does not say which
        ("ABORT", Outcome.ABORTED, Ending.DISCONNECT),
        ("ERROR", Outcome.FAILED, Ending.ERROR),
    ],
)
def test_how_they_ended_is_vllms_word(reason: str, outcome: Outcome, ending: Ending | None) -> None:
    """As far as it says it."""
    request = whole(reason)

    assert (request.outcome, request.ending) == (outcome, ending)


def test_times_that_vllm_does_not_tell_are_not_made_up() -> None:
    """A request without output has no first token; a version without times tells its end."""
    request = whole("LENGTH", num_generation_tokens=0, e2e_latency=None)

    assert request.first_token_ns is None
    assert request.queued_ns is None
    assert request.arrival_ns == request.end_ns


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({"steps": ["A.b"]}, ("A.b",)),
        ({"steps": ["A.b", 7, "x\n", "y" * 300, ""]}, ("A.b",)),
        ({"steps": ["A.b"] * 1000}, ("A.b",) * 32),
        ({"steps": "A.b"}, ()),
        (["steps"], ()),
        (None, ()),
    ],
)
def test_a_hello_names_what_is_absent(said: object, steps: tuple[str, ...]) -> None:
    """As names, not too many; what is none is left out."""
    hello: wire.Message = {"t": "hello", "kind": "vllm", "producer": "p", "vllm": {"role": "engine", "lacks": said}}
    seen = plugin_of(hello, 1, 2)

    assert seen is not None
    assert (seen.lacks_steps, seen.tells_requests) == (steps, not steps)
