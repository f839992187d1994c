"""The SDK's thread and a real inbox, over real sockets: nothing lost, nothing twice, nothing that waits."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inferwatt import delivery as delivery_module
from inferwatt import wire
from inferwatt.delivery import Delivery
from inferwatt.handle import RequestHandle
from inferwatt.records import Outcome
from tests.engines.ends import Agent, eventually, some_energy


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off as ever, but its longest pause is short."""
    monkeypatch.setattr(delivery_module, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(delivery_module, "LAST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(delivery_module, "POLL_SECONDS", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the socket of a test is."""
    return str(tmp_path / "run" / "agent.sock")


@pytest.fixture
def begin(path: str) -> Iterator[Callable[[], Delivery]]:
    """Start producers that end with the test."""
    started: list[Delivery] = []

    def start() -> Delivery:
        started.append(Delivery(path))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.close(5.0)
        assert not one._thread.is_alive()


@pytest.fixture
def agents(path: str) -> Iterator[Callable[[], Agent]]:
    """Start agents that end with the test."""
    started: list[Agent] = []

    def start() -> Agent:
        started.append(Agent(path))
        started[-1].inbox.start()
        return started[-1]

    yield start
    for one in started:
        one.inbox.close()


Begin = Callable[[], Delivery]
Agents = Callable[[], Agent]


def handle_on(sink: Delivery, name: str) -> RequestHandle:
    """A request that was started."""
    return RequestHandle(sink, name, "m", "t", "", None).start()


def ended_names(agent: Agent, count: int, *, commit: bool = True) -> list[str]:
    """Read records until `count` requests have ended."""
    names: list[str] = []
    while len(names) < count:
        incoming = agent.next()
        if incoming.request.end_ns is not None:
            names.append(incoming.request.request.partition(":")[2])
        if commit:
            agent.inbox.ack(incoming.producer, incoming.seq)
    return names


def test_an_open_request_is_told_while_it_runs(agents: Agents, begin: Begin) -> None:
    """The agent hears of the start, the first token and the end as they happen."""
    agent, sink = agents(), begin()
    handle = handle_on(sink, "1")
    opened = agent.next()
    handle.first_token()
    first = agent.next()
    handle.usage(output=5)
    handle.finish()
    last = agent.next()

    assert (opened.request.first_token_ns, first.request.end_ns, last.request.output_tokens) == (None, None, 5)
    assert first.request.first_token_ns is not None
    assert last.request.outcome == Outcome.FINISHED
    assert {one.pid for one in (opened, first, last)} == {os.getpid()}


def test_joules_come_back(agents: Agents, begin: Begin) -> None:
    """Provisional joules can be read while it runs; the final ones can be waited for, and end the waiting."""
    agent, sink = agents(), begin()
    handle = handle_on(sink, "1")
    producer = agent.next().producer
    assert handle.energy() is None
    agent.inbox.push(producer, [some_energy(handle.id, final=False)])
    assert eventually(lambda: handle.energy() is not None)
    handle.finish()
    assert handle.energy(wait_seconds=0.0) == some_energy(handle.id, final=False)
    threading.Timer(0.05, agent.inbox.push, (producer, [some_energy(handle.id, final=True)])).start()

    assert handle.energy(wait_seconds=10.0) == some_energy(handle.id, final=True)


def test_without_an_agent_it_says_so_once_and_does_nothing(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    """One line in the log with what to do; no record is kept, no call waits, and no joule is invented."""
    sink = begin()
    for turn in range(50):
        handle = handle_on(sink, str(turn))
        handle.finish()
        assert handle.energy(wait_seconds=10.0) is None
    assert eventually(lambda: sink.counts["unmetered"] > 0)

    assert [record.getMessage().endswith("inferwatt agent") for record in caplog.records] == [True]
    assert sink._outbox.is_empty


def test_an_agent_that_comes_later_hears_what_is_open(begin: Begin, agents: Agents) -> None:
    """A request that was open before the agent started is told to it."""
    sink = begin()
    handle = handle_on(sink, "1")
    assert eventually(lambda: not sink.may_come(handle))
    agent = agents()

    assert agent.next().request.request == handle.id
    handle.finish()
    assert ended_names(agent, 1) == ["1"]


def test_a_restarted_agent_gets_what_was_not_committed(agents: Agents, begin: Begin) -> None:
    """What the first agent had not committed and what ended while none was there reaches the second; the rest not."""
    first, sink = agents(), begin()
    long = handle_on(sink, "long")
    for name in ("a", "b"):
        handle_on(sink, name).finish()
        assert ended_names(first, 1) == [name]
    assert eventually(lambda: sink._outbox.is_empty)
    handle_on(sink, "c").finish()
    assert ended_names(first, 1, commit=False) == ["c"]
    first.inbox.close()
    handle_on(sink, "d").finish()
    second = agents()

    assert sorted(ended_names(second, 2)) == ["c", "d"]
    long.finish()
    assert ended_names(second, 1) == ["long"]
    assert eventually(lambda: sink._outbox.is_empty)
    assert second.records.empty()


def test_a_lost_connection_loses_and_doubles_nothing(agents: Agents, begin: Begin) -> None:
    """The connection is cut again and again while threads work: each request ends once at the agent."""
    agent, sink = agents(), begin()
    stop = threading.Event()

    def cut() -> None:
        for _ in range(20):
            stop.wait(0.03)
            with contextlib.suppress(OSError, AttributeError):  # between two connections there is none to cut
                sink._link.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def work(number: int) -> None:
        for turn in range(100):
            handle_on(sink, f"{number}-{turn}").finish()
            stop.wait(0.005)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    cutter = threading.Thread(target=cut)
    for thread in (*threads, cutter):
        thread.start()
    names = ended_names(agent, 400)
    stop.set()
    cutter.join()

    assert sorted(names) == sorted(f"{number}-{turn}" for number in range(4) for turn in range(100))
    assert eventually(lambda: sink._outbox.is_empty)
    assert agent.records.empty()


def test_an_agent_that_never_reads_holds_nobody_up(path: str, begin: Begin) -> None:
    """Stopped after hello, with a full socket: the host goes on, and memory stays within the ring."""
    os.makedirs(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        sink = begin()
        handle_on(sink, "first").finish()
        stopped, _ = listener.accept()
        with stopped:
            stopped.sendall(wire.encode(wire.hello_back("stopped")))
            assert eventually(lambda: sink._link is not None and sink._link.greeted)
            sink._outbox._max_bytes = 200_000
            for turn in range(20):
                for number in range(500):
                    handle_on(sink, f"{turn}-{number}").finish()
                assert eventually(lambda: not sink._ended)

            assert sink._outbox.held_bytes <= 200_000
            assert sink.counts["dropped_unacknowledged"] > 0


@pytest.mark.parametrize(
    "words",
    [
        b"\xff" * 100_000,
        wire.encode({"t": "hello"}) + b"\x00\x00\x00\x00",
        wire.encode({"t": "energy", "requests": [{"request": 1}, None]}),
        wire.encode({"t": "ack", "seq": "x"}),
        wire.encode({"t": "error", "what": "version 2", "where": "v", "fix": "install"}),
        wire.encode({"t": ["?"]}),
    ],
)
def test_nothing_that_an_agent_says_hurts_the_host(path: str, begin: Begin, words: bytes) -> None:
    """Junk, broken frames and odd messages from the other end cost a connection at most."""
    os.makedirs(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        sink = begin()
        handle = handle_on(sink, "1")
        odd, _ = listener.accept()
        with odd:
            odd.sendall(words)
        handle.finish()
        again, _ = listener.accept()
        again.close()

    assert sink._thread.is_alive()
    assert sink.counts["internal"] == 0


def test_an_agent_of_another_version_is_named_in_the_log(
    path: str, begin: Begin, agents: Agents, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent refuses the hello with what to do, the SDK logs that once, and the host goes on."""
    agent = agents()
    told = wire.hello
    monkeypatch.setattr(wire, "hello", lambda *args, **more: {**told(*args, **more), "v": 2})
    sink = begin()
    handle_on(sink, "1").finish()
    assert eventually(lambda: sink.counts["refused"] > 1)

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "install the agent's version" in caplog.text
    assert agent.records.empty()


def test_closing_sends_what_is_waiting(agents: Agents, begin: Begin) -> None:
    """At exit the last records are sent, and what is open ends as aborted."""
    agent, sink = agents(), begin()
    handle_on(sink, "ended").finish()
    handle_on(sink, "open")
    sink.close(5.0)

    outcomes = {one.request.request.partition(":")[2]: one.request.outcome for one in (agent.next(), agent.next())}
    assert outcomes == {"ended": Outcome.FINISHED, "open": Outcome.ABORTED}


def test_bad_values_are_counted_and_logged_once(agents: Agents, begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    """A host that is wrong a thousand times reads about it once."""
    agent, sink = agents(), begin()
    for turn in range(100):
        handle = handle_on(sink, str(turn))
        handle.usage(output=-1)
        handle.finish()
    ended_names(agent, 100)
    assert eventually(lambda: bool(caplog.records))

    assert sink.counts["a number of tokens that is none"] == 100
    assert len(caplog.records) == 1


def test_an_idle_producer_sleeps(agents: Agents, begin: Begin) -> None:
    """When nothing is open and everything is acknowledged, the thread waits for the host alone."""
    agent, sink = agents(), begin()
    handle = handle_on(sink, "1")
    handle.finish()
    producer = agent.next().producer
    agent.inbox.push(producer, [some_energy(handle.id, final=True)])
    agent.inbox.ack(producer, 9)

    assert eventually(lambda: sink._idle)
    handle_on(sink, "2").finish()
    assert ended_names(agent, 1, commit=False)[-1:] in (["1"], ["2"])
