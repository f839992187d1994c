"""The courier and a real inbox, over a real socket: nothing lost, nothing twice, and never more than 16 MiB."""

import os
from pathlib import Path

import pytest

from inferwatt import wire
from inferwatt.clock import SystemClock
from inferwatt.engines import vllm_courier
from inferwatt.engines.inbox import Inbox
from inferwatt.engines.plugged import Ends, Plugged, PluginSeen, Steps
from inferwatt.engines.session import Incoming
from inferwatt.engines.vllm_courier import Courier, encode
from inferwatt.outbox import Outbox
from inferwatt.records import Request
from inferwatt.wire_steps import End, StepRow, ends_message, steps_message
from tests.engines.ends import Client, eventually

ABOUT = {
    "role": "engine",
    "model": "m",
    "version": "0.32.0",
    "port": 8000,
    "shape": {"flops_per_token": 2.5, "experts": 8},
}


class Load:
    """What there is to bring: a step a turn, as long as there are any."""

    def __init__(self, steps: int) -> None:
        self.left = list(range(steps))

    def collect(self, outbox: Outbox) -> None:
        """Put the next step into the outbox."""
        if self.left:
            number = self.left.pop(0)
            rows = [StepRow(number, number + 1, ["a"], [1], [number], [])]
            outbox.put(1, lambda seq: encode(steps_message(seq, rows, dropped=3)))

    def again(self, outbox: Outbox) -> None:
        """Say which request is open."""
        outbox.add([Request("a", arrival_ns=1)])


class Agent:
    """An inbox that keeps what it is told, and acknowledges it if it is told to."""

    def __init__(self, path: str) -> None:
        self.heard: list[Incoming | Plugged] = []
        self.inbox = Inbox(path, self.heard.append, clock=SystemClock())

    def steps(self) -> list[int]:
        """The steps that came, by their beginnings."""
        return [step.t0_ns for one in self.heard if isinstance(one, Steps) for step in one.steps]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn as ever, but soon."""
    monkeypatch.setattr(vllm_courier, "TURN_SECONDS", 0.005)
    monkeypatch.setattr(vllm_courier, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(vllm_courier, "LAST_RETRY_SECONDS", 0.05)


def test_an_agent_that_starts_anew_hears_what_was_not_acknowledged(tmp_path: Path) -> None:
    """Steps come once each, also when the agent was away; what is open is told to each agent anew."""
    path = str(tmp_path / "agent.sock")
    courier = Courier(Load(20), ABOUT, lambda: path)
    courier.start()
    first = Agent(path)
    first.inbox.start()
    try:
        assert eventually(lambda: len(first.steps()) == 20)
        first.inbox.ack(courier.producer, 5)
        assert eventually(lambda: courier.outbox.held_bytes > 0 and courier.outbox._sent[0].seq > 5)
    finally:
        first.inbox.close()
    second = Agent(path)
    second.inbox.start()
    try:
        assert eventually(lambda: len(second.steps()) > 0 and any(isinstance(one, Incoming) for one in second.heard))
        seen = second.heard[0]
    finally:
        second.inbox.close()
        courier.close()

    assert first.steps() == list(range(20))
    assert set(second.steps()) < set(first.steps())
    assert isinstance(seen, PluginSeen)
    assert (seen.pid, seen.role, seen.model.model, seen.port) == (os.getpid(), "engine", "m", 8000)
    assert (seen.model.flops_per_token, seen.model.experts, seen.model.weight_bytes) == (2.5, 8, None)
    assert courier.failed == 0


def test_nobody_there_costs_a_bounded_memory() -> None:
    """Without an agent the newest 16 MiB are kept, and the rest is counted."""
    outbox = Outbox(max_bytes=2000)
    load = Load(100)
    courier = Courier(load, ABOUT, lambda: "/nowhere/agent.sock")
    courier.outbox = outbox
    for _ in range(100):
        courier.turn()

    assert outbox.held_bytes <= 2000
    assert outbox.dropped_records > 50
    assert courier.failed == 0


def test_a_load_that_fails_is_counted(tmp_path: Path) -> None:
    """Whatever goes wrong inside is a count, not an exception in vLLM's process."""

    class Broken(Load):
        """One that cannot be collected."""

        def collect(self, outbox: Outbox) -> None:
            """Fail."""
            raise KeyError(outbox)

    courier = Courier(Broken(0), ABOUT, lambda: str(tmp_path / "none"))
    courier.turn()

    assert courier.failed == 1


def test_a_message_that_is_too_large_is_dropped_and_counted() -> None:
    """A frame has at most 1 MiB."""
    outbox = Outbox()
    rows = [StepRow(1, 2, [str(number) * 20 for number in range(16_000)], [1] * 16_000, [2**60] * 16_000, [])] * 4
    outbox.put(4, lambda seq: encode(steps_message(seq, rows)))

    assert (outbox.dropped_records, outbox.next_frame()) == (4, None)


def error_of(client: Client) -> wire.Message:
    """Return the next error that a client hears; acknowledgements are passed over."""
    while (message := client.hear())["t"] != "error":
        pass
    return message


def test_ends_and_steps_before_hello_are_refused(tmp_path: Path) -> None:
    """Nobody speaks before a hello; what is not understood is answered with a reason, and the connection goes on."""
    agent = Agent(str(tmp_path / "agent.sock"))
    agent.inbox.start()
    try:
        with Client(agent.inbox.path) as client:
            client.socket.sendall(wire.encode(ends_message(1, [])))
            refused = error_of(client)
            client.hello()
            client.socket.sendall(wire.encode({"t": "steps", "seq": 1, "names": [], "steps": [[1, 1]]}))
            malformed = error_of(client)
            late = End("a", 2**62, "STOP", 1, 0, 1)
            client.socket.sendall(wire.encode(ends_message(2, [late])))
            future = error_of(client)
            client.socket.sendall(wire.encode(ends_message(3, [late._replace(t_ns=1)])))
            assert eventually(lambda: any(isinstance(one, Ends) for one in agent.heard))
    finally:
        agent.inbox.close()

    assert [said["where"] for said in (refused, malformed, future)] == ["hello", "steps", "future"]
