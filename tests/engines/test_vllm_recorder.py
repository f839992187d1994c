"""What stands in vLLM's engine thread: every call goes through as it came, and nothing of ours gets out."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from inferwatt.engines import vllm_plugin
from inferwatt.engines.vllm_recorder import ADDED, FINISHED, SCHEDULED, UPDATED, Recorder, metered


class Scheduler:
    """A stand-in for a scheduler class of vLLM's, or of a user's: it notes how it was called."""

    def __init__(self, vllm_config: Any, *, log_stats: bool = False) -> None:
        self.vllm_config = vllm_config
        self.calls: list[tuple[Any, ...]] = [(log_stats,)]

    def add_request(self, request: Any) -> None:
        """Note it."""
        self.calls.append((request,))

    def schedule(self, throttle_prefills: bool = False) -> str:
        """Note it, and return what is scheduled."""
        self.calls.append((throttle_prefills,))
        return "scheduled"

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> dict[int, Any]:
        """Note it, and return outputs."""
        self.calls.append((scheduler_output, model_runner_output))
        return {0: "outputs"}

    def finish_requests(self, request_ids: Any, finished_status: Any) -> list[str]:
        """Note it: the ids may be an iterator, which can be read once."""
        self.calls.append((list(request_ids or ["all"]), finished_status))
        return ["freed"]


def live(scheduler: Any) -> list[Any]:
    """Call everything as an engine does; return what came back."""
    status = SimpleNamespace(name="FINISHED_ABORTED")
    return [
        scheduler.add_request(SimpleNamespace(request_id="r", arrival_time=1.0, num_prompt_tokens=3)),
        scheduler.schedule(throttle_prefills=True),
        scheduler.update_from_output("scheduled", model_runner_output="tokens"),
        scheduler.finish_requests(iter(["r"]), finished_status=status),
        scheduler.finish_requests(None, status),
    ]


def test_calls_go_through_and_are_noted() -> None:
    """The engine gets what it would get without us, and the recorder references to it, in order."""
    recorder = Recorder()
    plain, looked = (
        Scheduler("config", log_stats=True),
        metered(Scheduler, lambda _: recorder)("config", log_stats=True),
    )

    assert isinstance(looked, Scheduler)
    assert live(looked) == live(plain)
    assert [len(call) for call in looked.calls] == [len(call) for call in plain.calls]
    assert looked.calls[2:] == plain.calls[2:] or looked.calls[2:4] == plain.calls[2:4]
    assert [event[0] for event in recorder.events] == [ADDED, SCHEDULED, UPDATED, FINISHED, FINISHED]
    assert [event[2] for event in recorder.events] == ["r", "scheduled", "scheduled", ("r",), None]
    assert recorder.events[0][3:] == (1.0, 3, "")


def test_what_goes_wrong_with_us_is_counted_alone() -> None:
    """A request without a name, a full deque, an engine that nobody wants to look at: vLLM notices nothing."""
    recorder = Recorder(most=1)
    looked = metered(Scheduler, lambda _: recorder)("config")
    looked.add_request(SimpleNamespace())
    looked.schedule()
    looked.schedule()

    assert (recorder.failed, recorder.dropped, len(recorder.events)) == (1, 1, 1)
    assert live(metered(Scheduler, lambda _: None)("config")) == live(Scheduler("config"))


class Config:
    """A stand-in for vLLM's SchedulerConfig, whose method chooses the class."""

    chosen: type = Scheduler

    def get_scheduler_cls(self) -> type:
        """Return the class that was chosen."""
        return self.chosen


def test_whatever_vllm_chooses_is_subclassed_once() -> None:
    """Loaded twice is as loaded once; each choice has one subclass; a class that cannot be subclassed stays."""

    class Other(Config):
        """A config of its own class, so that the wrapping is not everybody's."""

    vllm_plugin.wrap(Other)
    wrapped = Other.get_scheduler_cls
    vllm_plugin.wrap(Other)
    one, two = Other().get_scheduler_cls(), Other().get_scheduler_cls()

    assert Other.get_scheduler_cls is wrapped
    assert one is two
    assert issubclass(one, Scheduler)
    assert metered(one, lambda _: None) is one
    Other.chosen = bool  # a class that takes no subclass
    assert Other().get_scheduler_cls() is bool


@pytest.mark.parametrize(("said", "wanted"), [("1", True), ("0", False), ("", False)])
def test_it_acts_only_where_it_is_wanted(
    said: str, wanted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Without an agent's socket it acts only if it is told to."""
    monkeypatch.setenv("INFERWATT_SOCKET", str(tmp_path / "nobody.sock"))
    monkeypatch.setenv("INFERWATT_VLLM", said)

    assert vllm_plugin.is_wanted() is wanted
    (tmp_path / "nobody.sock").touch()
    assert vllm_plugin.is_wanted() is (said != "0")


def test_a_scheduler_that_we_do_not_understand_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """One without a configuration is not metered, and its log says so."""
    start: Callable[[Any], Recorder | None] = vllm_plugin.start

    assert start(object()) is None
    assert "not metered" in caplog.text


def test_without_vllm_registering_does_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where vLLM cannot be imported, nothing is raised."""
    monkeypatch.setenv("INFERWATT_VLLM", "1")
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    vllm_plugin.register()

    assert "does nothing" in caplog.text
