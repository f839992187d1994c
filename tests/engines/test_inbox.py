"""The inbox on real Unix sockets."""

import contextlib
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatt import endpoint, wire
from inferwatt.endpoint import Peer
from inferwatt.engines.inbox import MAX_CONNECTIONS
from inferwatt.errors import Unavailable
from tests.engines.ends import PRODUCER, Agent, Client, eventually, listens, some_energy


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the socket of a test is."""
    return str(tmp_path / "run" / "agent.sock")


@pytest.fixture
def agent(path: str) -> Iterator[Agent]:
    """An inbox that listens."""
    one = Agent(path)
    one.inbox.start()
    yield one
    one.inbox.close()


def test_a_record_goes_in_and_its_acknowledgement_and_joules_come_out(agent: Agent, path: str) -> None:
    """Hello, record, commit, acknowledgement, joules: the whole conversation over a real socket."""
    energy = some_energy(f"{PRODUCER}:1", final=False)
    with Client(path) as client:
        assert client.hello()["t"] == "hello"
        client.send(1, "1")
        incoming = agent.next()
        agent.inbox.ack(incoming.producer, incoming.seq)
        agent.inbox.push(incoming.producer, [energy])

        assert (incoming.request.request, incoming.pid) == (energy.request, os.getpid())
        assert client.hear() == wire.ack(1)
        assert [wire.energy_from_wire(one) for one in client.hear()["requests"]] == [energy]


def test_the_socket_is_for_its_owner_and_group(agent: Agent, path: str) -> None:
    """Mode 0660 in a folder of mode 0700: nobody else can even look."""
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) in {0o700, 0o750}


def test_closing_leaves_nothing_behind(path: str) -> None:
    """After close there is no socket, no thread, and a client's connection has ended."""
    agent = Agent(path)
    agent.inbox.start()
    with Client(path) as client:
        client.hello()
        agent.inbox.close()
        agent.inbox.close()

        assert client.is_hung_up()
    assert os.listdir(os.path.dirname(path)) == []
    assert "inferwatt-inbox" not in {thread.name for thread in threading.enumerate()}


def test_a_second_agent_is_told_who_is_first(agent: Agent, path: str) -> None:
    """A live socket is never taken away; the error names the process and what to do."""
    second = Agent(path)
    with pytest.raises(Unavailable, match=f"another agent runs \\(pid {os.getpid()}\\)\n.*{path}\n.*INFERWATT_SOCKET"):
        second.inbox.start()
    second.inbox.close()

    with Client(path) as client:
        assert client.hello()["t"] == "hello"


def test_the_socket_of_a_killed_agent_is_replaced(path: str) -> None:
    """A socket file that nobody listens on is no agent."""
    os.makedirs(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(path)
    agent = Agent(path)
    agent.inbox.start()
    with Client(path) as client:
        assert client.hello()["t"] == "hello"
    agent.inbox.close()


def test_a_file_in_the_way_is_not_removed(path: str) -> None:
    """What is no socket is somebody's."""
    os.makedirs(os.path.dirname(path))
    Path(path).write_text("precious")
    agent = Agent(path)
    with pytest.raises(Unavailable, match="in the way"):
        agent.inbox.start()

    assert Path(path).read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    """The agent stops with a sentence, not with a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot make the agent's socket"):
        Agent(str(tmp_path / "file" / "agent.sock")).inbox.start()


def test_a_stopped_agents_socket_is_not_taken_for_a_dead_one(path: str) -> None:
    """An agent that does not answer (SIGSTOP, full backlog) is alive: its socket stays."""
    os.makedirs(os.path.dirname(path))
    with contextlib.ExitStack() as stack:
        stopped = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        stopped.bind(path)
        stopped.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            waiting.setblocking(False)
            waiting.connect_ex(path)
        with pytest.raises(Unavailable, match="another agent runs"):
            Agent(path).inbox.start()


def test_ten_megabytes_of_junk_end_one_connection_only(agent: Agent, path: str) -> None:
    """Junk is counted and cut off; a client beside it is served."""
    junk = os.urandom(1 << 20) * 10
    with Client(path) as honest, Client(path, "cd" * 16) as vandal:
        honest.hello()
        with contextlib.suppress(ConnectionError):
            vandal.socket.sendall(b"\xff" + junk)
        assert vandal.is_hung_up()
        honest.send(1, "1")

        assert agent.next().producer == PRODUCER
    assert agent.inbox.health().rejected == {"frame": 1}


def test_a_frame_that_is_cut_off_is_dropped(agent: Agent, path: str) -> None:
    """A client killed in the middle of a frame leaves no record and no trouble."""
    with Client(path) as client:
        client.hello()
        client.socket.sendall(wire.encode(wire.records_message(1, [{"request": "1", "arrival_ns": 1}]))[:-3])
    assert eventually(lambda: agent.inbox.health().connections == 0)

    assert agent.records.empty()


def test_a_client_that_never_reads_is_dropped(agent: Agent, path: str) -> None:
    """It gets 2 MiB of memory, then it is cut off; the agent's loop is not held up."""
    with Client(path) as client:
        client.hello()
        nonsense = wire.encode({"t": "nonsense"}) * 1000
        with contextlib.suppress(OSError):
            while not agent.inbox.health().refused.get("never_reads"):
                client.socket.sendall(nonsense)

        assert eventually(lambda: agent.inbox.health().connections == 0)
    assert agent.inbox.health().refused["never_reads"] == 1


def test_connections_have_a_limit(agent: Agent, path: str) -> None:
    """One more than 256 connections is turned away and counted; when one leaves there is room again."""
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(Client(path))
        with Client(path) as extra:
            assert extra.is_hung_up()
    assert agent.inbox.health().refused == {"connections": 1}
    assert eventually(lambda: agent.inbox.health().connections == 0)
    with Client(path) as client:
        assert client.hello()["t"] == "hello"


def test_who_is_not_allowed_is_refused_and_counted(path: str) -> None:
    """The kernel says who connects, and the rule decides."""
    asked: list[Peer] = []

    def nobody(peer: Peer) -> bool:
        asked.append(peer)
        return False

    agent = Agent(path, allow=nobody)
    agent.inbox.start()
    with Client(path) as client:
        assert client.is_hung_up()
    agent.inbox.close()

    assert asked == [Peer(os.getpid(), os.geteuid(), os.getegid())]
    assert agent.inbox.health().refused == {"peer": 1}


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        (Peer(1, os.geteuid(), 0), True),
        (Peer(1, 0, 0), True),
        (Peer(-1, -1, -1), True),
        (Peer(1, 54_321, 54_321), False),
    ],
)
def test_the_rule_lets_in_ourselves_and_root(peer: Peer, allowed: bool) -> None:
    """This user and root; a user that is not in the group is refused; no word from the kernel: the folder decides."""
    assert allowed == endpoint.is_allowed(peer)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_process_of_another_user_is_refused(agent: Agent, path: str) -> None:
    """Even with the file modes opened by mistake, SO_PEERCRED keeps another user out."""
    folder = os.path.dirname(path)
    while folder != "/":
        os.chmod(folder, os.stat(folder).st_mode | 0o055)
        folder = os.path.dirname(folder)
    os.chmod(path, 0o666)
    script = f"import os, socket; os.setgid(65534); os.setuid(65534); s = socket.socket(1, 1); s.connect({path!r})"
    subprocess.run([sys.executable, "-c", script + "; s.recv(1)"], check=True)

    assert eventually(lambda: agent.inbox.health().refused == {"peer": 1})


def test_many_threads_may_acknowledge_and_push(agent: Agent, path: str) -> None:
    """Acknowledgements from any thread arrive, and the last one is the highest."""
    with Client(path) as client:
        client.hello()
        client.send(1, *(str(number) for number in range(10)))
        client.send(2, "last")
        for _ in range(11):
            agent.next()
        threads = [threading.Thread(target=agent.inbox.ack, args=(PRODUCER, 1 + turn // 10)) for turn in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(client.hear()["seq"] for _ in threads)[-1] == 2


def test_the_inbox_survives_a_figure_that_cannot_be_written(agent: Agent, path: str) -> None:
    """A NaN from the agent's side is counted; the connection and the thread go on."""
    bad = some_energy("1", final=True, systematic_ratio=float("nan"))
    with Client(path) as client:
        client.hello()
        agent.inbox.push(PRODUCER, [bad])
        client.send(1, "1")
        agent.next()
        agent.inbox.ack(PRODUCER, 1)

        assert client.hear() == wire.ack(1)
    assert agent.inbox.health().refused == {"internal": 1}


def test_no_descriptors_left_is_waited_out(path: str) -> None:
    """With every file descriptor taken, new clients wait and are served later; the thread does not spin or end."""
    agent = Agent(path)
    agent.inbox.start()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        hoard = []
        with contextlib.suppress(OSError):
            while True:
                hoard.append(os.dup(0))
        client.connect(path)
        assert eventually(lambda: agent.inbox.health().refused.get("no_descriptors", 0) >= 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in hoard:
            os.close(descriptor)
    assert eventually(lambda: agent.inbox.health().connections == 1)
    client.close()
    agent.inbox.close()


def test_an_agent_in_another_process_that_is_stopped_keeps_its_socket(path: str) -> None:
    """A real agent under SIGSTOP still owns its path, and its pid is named."""
    child = os.fork()
    if child == 0:
        agent = Agent(path)
        agent.inbox.start()
        signal.pause()
        os._exit(0)
    try:
        assert eventually(lambda: listens(path))
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(Unavailable, match=f"another agent runs \\(pid {child}\\)"):
            Agent(path).inbox.start()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
