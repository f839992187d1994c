"""Questions to a syntax tree, and the rows of a contract, on small texts of the forms that vLLM's source has."""

import ast
import inspect
import zipfile
from pathlib import Path

import pytest

from tests.contracts.vllm import source, terms, wheels
from tests.contracts.vllm.source import Changed, Vllm
from tests.contracts.vllm.terms import Loss, Term

CONFIG = "from vllm.scheduler import Scheduler as Chosen\n"
SCHEDULER = '''
import msgspec
from dataclasses import dataclass
from vllm.interface import SchedulerInterface

@dataclass
class Output:
    """Words that are no field."""

    tokens: dict[str, int]
    reason: "Reason | None" = None

class Reason(enum.IntEnum):
    STOP = 0
    ABORT = 1

class Record(msgspec.Struct, array_like=True):
    request_id: str

class Scheduler(SchedulerInterface):
    def __init__(self, config, *, log_stats=False):
        self.vllm_config = config
        self.queue: list[str] = []
        config.other = 1

    def schedule(self, throttle: bool = False) -> "Output": ...
    def update(self, output, result) -> dict[int, Output]: ...
    async def wait(self): ...
    @property
    def size(self): ...

class Engine:
    def __init__(self):
        from vllm.plugins import load_plugins
        load_plugins()
        chosen = config.get_class()
        self.scheduler = chosen(config)

    def step(self):
        output = self.scheduler.schedule(self.throttled())
        self.scheduler.update(output, result=self.run(output))
        self.scheduler.finish(*names)

class Asynchronous(Scheduler):
    pass
'''
INTERFACE = """
class SchedulerInterface(ABC):
    @abstractmethod
    def schedule(self): ...
    @abstractmethod
    def shutdown(self): ...
"""
METRICS = """
GROUP = "vllm.general_plugins"
labelnames = ["model_name", "engine"]
tokens = self._counter_cls(name="vllm:prompt_tokens", labelnames=labelnames)
by_source = self._counter_cls(name="vllm:by_source", labelnames=labelnames + ["source"])
waiting = Gauge(name="vllm:waiting", documentation="", labelnames=["engine"])
title = f"{request.name}-{random():.8}"
"""
FILES = {"config/__init__.py": CONFIG, "scheduler.py": SCHEDULER, "interface.py": INTERFACE, "loggers.py": METRICS}
VLLM = Vllm("vllm==9", FILES.get)
SELF = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]


def has(owner: str, **types: str) -> Term:
    """Return the row of a class of the scheduler's file."""
    return terms.has("scheduler.py", owner, types, "vllm_books.py", Loss.STEPS)


def said(term: Term) -> list[str]:
    """Return what a row says of the small vLLM."""
    return [one.what for one in term.breaks(VLLM)]


def shows(name: str, kind: str, *labels: str) -> list[str]:
    """Return what is said of a metric."""
    return said(terms.shows("loggers.py", "key", [name], kind, labels, Loss.PAGE))


def test_fields_of_each_form_are_found() -> None:
    """Fields of a dataclass and of a struct, members of an enumeration, and what methods give to `self`."""
    assert said(has("Output", tokens="dict[str, int]", reason="Reason | None")) == []
    assert said(has("Record", request_id="str")) == []
    assert said(has("Reason", STOP="")) == []
    assert said(has("Scheduler", vllm_config="", queue="list[str]")) == []


def test_what_is_otherwise_is_named() -> None:
    """A field that is gone, of another type, or a method now, and what was given to somebody else."""
    assert said(has("Output", drafts="")) == ["has no field Output.drafts"]
    assert said(has("Scheduler", other="")) == ["has no field Scheduler.other"]
    assert said(has("Output", tokens="list[int]")) == ["declares Output.tokens as dict[str, int], not as list[int]"]
    assert said(has("Scheduler", schedule="")) == ["has Scheduler.schedule as a method, not as a field"]
    assert said(has("Scheduler", wait="")) == ["has Scheduler.wait as a async method, not as a field"]


def test_a_class_is_found_where_it_went() -> None:
    """An import is followed, by its new name too; what is nowhere is said."""
    assert VLLM.find("config/__init__.py", "Chosen").path == "scheduler.py"
    with pytest.raises(Changed, match="has no class Gone"):
        VLLM.find("scheduler.py", "Gone")
    with pytest.raises(Changed, match="is not there"):
        VLLM.find("gone.py", "Scheduler")


def test_members_come_from_classes_above_too() -> None:
    """A subclass has what its base has, in another file too, and the nearest counts."""
    assert VLLM.method("scheduler.py", "Asynchronous", "schedule").args.args[1].arg == "throttle"
    assert [one.node.name for one in VLLM.line("scheduler.py", "Asynchronous")] == [
        "Asynchronous", "Scheduler", "SchedulerInterface",
    ]  # fmt: skip
    assert VLLM.abstract("scheduler.py", "Asynchronous") == {"shutdown"}


def test_a_method_is_a_plain_one() -> None:
    """A coroutine or a property by the name of a method is a change."""
    with pytest.raises(Changed, match=r"has Scheduler\.wait as async method, not as a plain method"):
        VLLM.method("scheduler.py", "Scheduler", "wait")
    with pytest.raises(Changed, match=r"has Scheduler\.size as property"):
        VLLM.method("scheduler.py", "Scheduler", "size")
    with pytest.raises(Changed, match=r"has no method Scheduler\.finish"):
        VLLM.method("scheduler.py", "Scheduler", "finish")


@pytest.mark.parametrize(
    ("named", "returns", "expected"),
    [
        (("output", "result"), "dict[int, Output]", []),
        (("output",), "", []),
        (("result",), "", ["has Scheduler.update(output, result), not Scheduler.update(result, ...)"]),
        ((), "list[Output]", ["lets Scheduler.update return dict[int, Output], not list[Output]"]),
    ],
)
def test_parameters_have_their_places_and_names(named: tuple[str, ...], returns: str, expected: list[str]) -> None:
    """A method that we override is called as we pass it on, and returns what we read."""
    assert said(terms.takes("scheduler.py", "Scheduler", "update", named, "vllm_recorder.py", returns)) == expected


@pytest.mark.parametrize(
    ("declaration", "does_fit"),
    [
        ("def f(self, a, b): ...", True),
        ("def f(self, *args, **kwargs): ...", True),
        ("def f(self, a, /, *, b, c=1): ...", True),
        ("def f(self, a, *, b, c): ...", False),
        ("def f(self, a): ...", False),
        ("def f(self, b, a): ...", False),
        ("def f(self, a, b, c=1): ...", True),
    ],
)
def test_a_call_fits_or_does_not(declaration: str, does_fit: bool) -> None:
    """`x.f(1, b=2)` binds as Python would bind it."""
    function = ast.parse(declaration).body[0]
    (call,) = source.calls(ast.parse("x.f(1, b=2)"), "f")

    assert isinstance(function, ast.FunctionDef)
    assert source.fits(call, source.signature(function.args)) is does_fit


def test_calls_are_compared_with_ours() -> None:
    """A call that ours would not take is told with its line, and so is one that is not made any more."""
    ours = inspect.Signature(SELF)

    def row(callee: str) -> list[str]:
        return said(terms.calls_ours("scheduler.py", callee, ours, "vllm_recorder.py", Loss.STEPS))

    assert row("scheduler.finish") == []
    assert row("scheduler.gone") == ["does not call scheduler.gone any more"]
    assert row("scheduler.schedule") == [
        "calls self.scheduler.schedule(self.throttled()) in line 40, which ours does not take: (self)"
    ]


def test_the_order_of_two_calls_counts() -> None:
    """Plugins are loaded before the scheduler's class is chosen, not after."""

    def row(first: str, then: str) -> list[str]:
        return said(terms.after("scheduler.py", "Engine", "__init__", first, then, "vllm_plugin.py"))

    assert row("load_plugins", "get_class") == []
    assert row("get_class", "load_plugins") == [
        "calls get_class() after load_plugins() in Engine.__init__, not before it"
    ]
    assert row("load_all", "get_class") == ["does not call load_all() in Engine.__init__ any more"]


def test_what_a_subclass_must_have_is_known() -> None:
    """A new abstract method, or another class above, is told."""
    demands = terms.demands("interface.py", "SchedulerInterface", frozenset({"schedule"}), "vllm_front.py")

    assert said(demands) == ["demands a method SchedulerInterface.shutdown of every subclass, and ours has none"]
    assert said(terms.derives("scheduler.py", "Asynchronous", "Scheduler", "x.py")) == []
    assert said(terms.derives("scheduler.py", "Engine", "Scheduler", "x.py")) == [
        "does not derive Engine from Scheduler any more"
    ]


def test_texts_and_expressions_are_found() -> None:
    """The group of an entry point and the form of a name are what they were, whatever the quotes."""
    assert said(terms.spells("loggers.py", "GROUP", "vllm.general_plugins", "x.py", Loss.STEPS)) == []
    assert said(terms.spells("loggers.py", "GROUP", "other", "x.py", Loss.STEPS)) == [
        "has GROUP = 'vllm.general_plugins', not 'other'"
    ]
    assert said(terms.writes("loggers.py", "f'{request.name}-{random():.8}'", "x.py", Loss.NAMES)) == []
    assert said(terms.writes("loggers.py", "f'{request.name}-{random():.9}'", "x.py", Loss.NAMES)) != []


def test_ends_are_those_that_we_know() -> None:
    """An end that is gone and an end that is new are told apart."""
    assert said(terms.ends("scheduler.py", "Reason", {"ABORT"}, {"ABORT", "STOP"}, "", "x.py")) == []
    assert said(terms.ends("scheduler.py", "Reason", {"ERROR"}, {"ERROR", "STOP"}, "", "x.py")) == [
        "has no Reason.ERROR",
        "has a new Reason.ABORT: is it an abort, a failure or neither?",
    ]


def test_metrics_have_their_types_and_labels() -> None:
    """A metric by its name on the page, with the labels of a list that is made elsewhere in the file."""
    assert shows("vllm:prompt_tokens_total", "counter", "model_name") == []
    assert shows("vllm:by_source_total{source!=local}", "counter", "engine") == []
    assert shows("vllm:waiting", "gauge", "model_name") == ["makes vllm:waiting without the label model_name"]
    assert shows("vllm:waiting{reason=x}", "counter") == [
        "makes vllm:waiting a gauge, not a counter",
        "makes vllm:waiting without the label reason",
    ]
    assert shows("vllm:gone", "gauge") == ["makes none of vllm:gone"]


def test_a_change_is_told_with_what_it_costs() -> None:
    """Version, file, class and field, the tier, and where it is to be mended."""
    (broken,) = has("Output", drafts="").breaks(VLLM)

    assert str(broken) == (
        "vllm==9: vllm/scheduler.py has no field Output.drafts\n"
        f"  lost:  {Loss.STEPS}\n"
        "  fix:   src/inferwatt/engines/vllm_books.py, then tests/contracts/vllm/contract.py"
    )


def test_of_a_wheel_only_its_python_is_kept(tmp_path: Path) -> None:
    """Kernels, models and metadata are left out; what is kept is as it was."""
    with zipfile.ZipFile(tmp_path / "vllm.whl", "w") as wheel:
        for name in ("vllm/envs.py", "vllm/_C.so", "vllm/model_executor/models/llama.py", "vllm.dist-info/METADATA"):
            wheel.writestr(name, f"# {name}")

    wheels.keep_source(tmp_path / "vllm.whl", tmp_path / "slim.zip")

    with zipfile.ZipFile(tmp_path / "slim.zip") as kept:
        assert {name: kept.read(name) for name in kept.namelist()} == {"vllm/envs.py": b"# vllm/envs.py"}


def test_a_wheel_that_cannot_be_had_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network pip's words are passed on, pip is not asked again, and nothing is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(wheels.NoWheel, match=r"vllm==0\.0\.dev1: pip could not bring it .*No matching") as first:
        wheels.vllm_of("vllm==0.0.dev1")
    with pytest.raises(wheels.NoWheel) as second:
        wheels.vllm_of("vllm==0.0.dev1")

    assert second.value is first.value
    assert list(wheels.cache_folder().iterdir()) == []
