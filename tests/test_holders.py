import json
import os

import pytest

from inferwatt.engines.glance import Glance
from inferwatt.engines.places import Found
from inferwatt.engines.plugged import PluginSeen
from inferwatt.engines.servers import Target, server_kinds
from inferwatt.holders import held, lacks
from inferwatt.listing import print_engines
from inferwatt.records import NOWHERE, Device, Model, Place
from inferwatt.snapshot import EngineView, Lack
from inferwatt.testing import FakeClock, ScriptedSource
from tests.sources.devices import HeldGpu

PARENT = frozenset({os.getppid()})


def whose(target: Target, *sources: ScriptedSource) -> tuple[str, ...] | None:
    """Return which accelerators a server holds, None where there are none."""
    clock = FakeClock()
    found = held(sources, [target], clock=clock, wait=lambda seconds: clock.advance(int(seconds * 1e9)))
    return None if found is None else found[target.name]


def test_a_child_s_gpu_is_its_server_s() -> None:
    """A process on the GPU that descends from the server's is the server's; a stranger's GPU is not."""
    assert whose(Target("s", "http://h", pids=PARENT), HeldGpu(os.getpid())) == ("gpu-0",)
    assert whose(Target("s", "http://h", pids=frozenset({1 << 30})), HeldGpu(os.getpid())) == ()


def test_what_is_configured_stands_and_nothing_is_guessed() -> None:
    """A server whose processes cannot be seen has the accelerators that are named for it, and no others."""
    assert whose(Target("s", "http://h", devices=("gpu-7",)), HeldGpu(os.getpid())) == ("gpu-7",)
    assert whose(Target("s", "http://h", pids=PARENT)) is None


def test_a_place_says_what_no_driver_lists() -> None:
    """What a container holds alone counts beside the driver's list; what is only seen counts where there is no list."""
    target = Target("s", "http://h", pids=frozenset({1 << 30}))
    silent = ScriptedSource(Device("gpu-0", uuid="GPU-0000"), [1, 2, 3])

    def of(place: Place, source: ScriptedSource) -> tuple[str, ...]:
        clock = FakeClock()
        wait = lambda seconds: clock.advance(int(seconds * 1e9))  # noqa: E731 - one line of a double
        found = held([source], [target], clock=clock, places={"s": place}, wait=wait)
        assert found is not None
        return found["s"]

    assert of(Place(holds=("GPU-0000",)), silent) == of(Place(sees=("GPU-0000",)), silent) == ("gpu-0",)
    assert of(Place(sees=("GPU-0000",)), HeldGpu(os.getpid())) == of(Place(sees=("GPU-9",)), silent) == ()


def test_what_keeps_a_server_from_being_mapped_is_said_where_it_matters() -> None:
    """No name for its pod, always; its environment's numbers only where it was not mapped otherwise."""
    unnamed, unmapped = Lack("no name", "processes 7", "mount"), Lack("numbers", "environ", "UUIDs")
    looks = {"s": Found(NOWHERE, unnamed, unmapped)}

    assert [lack.what for lack in lacks(looks, {"s": ()})] == ["s: no name", "s: numbers"]
    assert [lack.what for lack in lacks(looks, {"s": ("gpu-0",)})] == ["s: no name"]
    assert [lack.what for lack in lacks(looks, None)] == ["s: no name"]


def test_the_listing_names_the_pod_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """As namespace/pod/container; a column that would be empty is not there."""
    target = Target("vllm:8000", "http://127.0.0.1:8000", "vllm")
    place = Place("chat", "vllm-0", "server")
    print_engines([Glance(target, "up")], [], kinds=server_kinds(), places={"vllm:8000": place}, as_json=False)
    assert "chat/vllm-0/server" in capsys.readouterr().out.splitlines()[1]

    print_engines([Glance(target, "up")], [], kinds=server_kinds(), places={"vllm:8000": NOWHERE}, as_json=False)
    assert "pod" not in capsys.readouterr().out.splitlines()[0]
    print_engines([Glance(target, "up")], [], kinds=server_kinds(), places={"vllm:8000": place}, as_json=True)
    assert '"pod": "vllm-0"' in capsys.readouterr().out


def test_a_driver_that_tells_nothing_is_not_waited_for_long() -> None:
    """A source that only reads a counter names no process: after its time it is not mapped."""
    source = ScriptedSource("gpu-0", [1, 2, 3])

    assert whose(Target("s", "http://h", pids=PARENT), source) == ()
    assert 10 < source.reads < 60


def test_the_listing_says_why_what_is_missing_and_what_would_tell_more(capsys: pytest.CaptureFixture[str]) -> None:
    """Each server with its reason and accelerators, `cannot map` where that is so, lacks, and the better tier."""
    targets = [
        Target("vllm:8000", "http://127.0.0.1:8000", "vllm", pids=frozenset({41}), why="its process, and its own word"),
        Target("ollama:11434", "http://127.0.0.1:11434", "ollama"),
    ]
    lacks = [Lack("ollama:11434 has no metrics page", "http://127.0.0.1:11434", "the SDK")]
    seen = [Glance(target, "up") for target in targets]
    print_engines(seen, lacks, kinds=server_kinds(), held={"vllm:8000": ("gpu-0", "gpu-1")}, as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert "its process, and its own word" in lines[1]
    assert "gpu-0 gpu-1" in lines[1]
    assert "cannot map" in lines[2]
    assert lines[3] == "lacks: ollama:11434 has no metrics page (http://127.0.0.1:11434); fix: the SDK"
    assert lines[4:] == [
        "better: each request of vllm:8000 (step_exact) is told by: python -m pip install 'inferwatt[vllm]'",
        "better: each request of ollama:11434 (step_reconstructed) is told by: inferwatt gateway --upstream "
        "http://127.0.0.1:11434",
    ]


def test_a_server_with_our_plugin_says_its_tier_and_needs_no_advice(capsys: pytest.CaptureFixture[str]) -> None:
    """By what the agent was told; what its version lacks stands among the lacks."""
    target = Target("vllm:8000", "http://127.0.0.1:8000", "vllm")
    plugged = [EngineView("vllm:8000", "vllm", "9.9", "step_reconstructed")]
    absent = PluginSeen("p", 1, 2, "engine", Model("m"), "9.9", lacks_steps=("A.b", "C")).lacks("vllm:8000")
    print_engines([Glance(target, "up")], absent, kinds=server_kinds(), plugged=plugged, as_json=False)
    lines = capsys.readouterr().out.splitlines()

    assert lines[2].startswith("lacks: vllm 9.9 has no A.b, C: step_exact is not possible")
    assert lines[3:] == ["plugin: vllm:8000 (vllm 9.9) tells its requests by the best tier step_reconstructed"]
    print_engines([Glance(target, "up")], (), kinds=server_kinds(), plugged=plugged, as_json=True)
    assert json.loads(capsys.readouterr().out)["tier"] == "step_reconstructed"


def test_a_server_that_tells_its_steps_needs_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it publishes is shown; one that does not gets the one flag that would give it."""
    seen = [Glance(Target(f"sglang:3000{n}", f"http://127.0.0.1:3000{n}", "sglang"), "up") for n in (0, 1)]
    passes = {"sglang:30000": ("ipc:///tmp/x.0",), "sglang:30001": ()}
    print_engines(seen[:1], [], kinds=server_kinds(), passes=passes, as_json=False)
    out = capsys.readouterr().out
    assert "steps: sglang:30000 tells what each did, at ipc:///tmp/x.0" in out
    assert "--enable-forward-pass-metrics" not in out

    print_engines(seen, [], kinds=server_kinds(), passes=passes, as_json=False)
    assert "steps: sglang:30001 does not tell what each did; start it with --enable-forward" in capsys.readouterr().out


@pytest.mark.parametrize("state", ["down", "late", "other_kind"])
def test_what_is_not_there_gets_no_advice(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that does not answer, or is of another kind, is shown as that; nothing would be better of it yet."""
    target = Target("chat", "http://127.0.0.1:8000", "vllm")
    print_engines([Glance(target, state)], [], kinds=server_kinds(), as_json=False)
    out = capsys.readouterr().out

    assert state.replace("_", " ") in out
    assert "better" not in out
