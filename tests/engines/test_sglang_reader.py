import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from inferwatt.clock import SystemClock
from inferwatt.engines.servers import Target
from inferwatt.engines.sglang_reader import LOOK_NS, PassReader
from inferwatt.engines.sglang_sockets import publishers
from inferwatt.records import Sums
from inferwatt.testing import FakeClock
from tests.engines.ends import eventually

pytest.importorskip("zmq")

from tests.doubles.sglang import Publisher, scheduled

DOUBLE = str(Path(__file__).parents[1] / "doubles" / "sglang.py")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the path of a Unix socket has 108 bytes."""
    with TemporaryDirectory(prefix="iw-") as name:
        yield Path(name)


class Reading:
    """A reader of one server, and what it told."""

    def __init__(self, *addresses: str) -> None:
        self.told: list[Sums] = []
        self.reader = PassReader(SystemClock(), self.told.append, find_pids=lambda _url: frozenset())
        self.reader.add(Target("sglang:30000", "http://127.0.0.1:30000", "sglang", passes=addresses))
        self.reader.look(0)

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.reader.stop()

    def is_subscribed(self, publisher: Publisher) -> bool:
        """Publish heartbeats until one is heard: what is published before a subscription is nobody's."""
        before = self.reader.health()[0].numbers.get(publisher.address)

        def heard() -> bool:
            publisher.publish()
            return self.reader.health()[0].numbers.get(publisher.address) != before

        return eventually(heard)


def settled(told: list[Sums], steps: int) -> Callable[[], bool]:
    """Return whether so many steps were told."""
    return lambda: sum(sums.steps or 0 for sums in told) >= steps


def test_a_real_publisher_s_passes_are_read_and_a_gap_is_counted(folder: Path) -> None:
    """By the real pyzmq at both ends, over a Unix socket: each pass once, and what was skipped as lost."""
    with Publisher(f"ipc://{folder}/fpm.0") as publisher, Reading(publisher.address) as reading:
        assert reading.is_subscribed(publisher)
        for _ in range(20):
            publisher.publish(0.002, scheduled(decode=(2, 100)))
        publisher.number += 3
        publisher.publish(0.002, scheduled(prefill=(1, 64)))
        publisher.publish()
        assert eventually(settled(reading.told, 21))

    told = reading.told
    assert sum(sums.steps or 0 for sums in told) == 21
    assert sum(sums.decode_requests or 0 for sums in told) == 40
    assert sum(sums.context_tokens or 0 for sums in told) == 2000
    assert sum(sums.prefill_tokens or 0 for sums in told) == 64
    assert sum(sums.lost_passes or 0 for sums in told) == 3
    assert {sums.engine for sums in told} == {"sglang:30000"}


def test_two_ranks_and_a_restart_are_one_server(folder: Path) -> None:
    """Each rank has an address of its own; one that comes back, at a number long past, is heard without loss."""
    first, second = f"ipc://{folder}/fpm.0", f"ipc://{folder}/fpm.1"
    with Reading(first, second) as reading, Publisher(second) as other:
        with Publisher(first) as publisher:
            publisher.number = 1_000_000
            assert reading.is_subscribed(publisher)
            assert reading.is_subscribed(other)
            publisher.publish(0.001, scheduled(decode=(1, 1)))
            other.publish(0.001, scheduled(decode=(1, 1)))
            assert eventually(settled(reading.told, 2))
        with Publisher(first) as again:
            assert reading.is_subscribed(again)
            again.publish(0.001, scheduled(decode=(1, 1)))
            assert eventually(settled(reading.told, 3))

    assert reading.reader.health()[0].lost == 0


def test_nonsense_and_an_address_that_is_none_harm_nobody(folder: Path) -> None:
    """What is no message, and too large a one, are left out; an address that ZeroMQ refuses is refused once."""
    with Publisher(f"ipc://{folder}/fpm.0") as publisher, Reading("ipc://", publisher.address) as reading:
        assert reading.is_subscribed(publisher)
        publisher.send(b"nonsense")
        publisher.send(b"", b"12345678", b"\xc1")
        publisher.publish(0.001, scheduled(decode=(1, 1)))
        assert eventually(settled(reading.told, 1))
        bad = dict(reading.reader.health()[0].bad)

    assert bad == {"address": 1, "frames": 1, "payload": 1}
    assert reading.reader.errors == 0


def test_a_server_that_publishes_nothing_starts_no_thread() -> None:
    """Without an address nothing is imported and nobody waits; it is looked for again each ten seconds."""
    looks: list[int] = []

    def find(pids: object) -> tuple[str, ...]:
        looks.append(1)
        return ()

    before = threading.active_count()
    reader = PassReader(FakeClock(), lambda _sums: None, find_pids=lambda _url: frozenset({1}), find=find)
    reader.add(Target("sglang:1", "http://127.0.0.1:1", "sglang"))
    reader.add(Target("vllm:1", "http://127.0.0.1:2", "vllm"))
    for now_ns in (0, 1, LOOK_NS - 1, LOOK_NS):
        reader.look(now_ns)
    reader.stop()

    assert len(looks) == 2
    assert threading.active_count() == before


def test_without_its_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyzmq is not installed the remedy is the one command that installs it."""
    monkeypatch.setitem(sys.modules, "zmq", None)
    with Reading("tcp://127.0.0.1:1") as reading:
        assert reading.reader.lack is not None
        assert reading.reader.lack.fix == "pip install 'inferwatt[sglang]'"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["--enable-forward-pass-metrics"], "ipc://{}/tmpab12.0"),
        (["--enable-forward-pass-metrics", "--forward-pass-metrics-ipc-name", "ipc:///x"], "ipc:///x.0"),
        (
            ["--enable-forward-pass-metrics", "--dp-size", "2", "--forward-pass-metrics-ipc-name=ipc:///x"],
            "ipc:///x.0 ipc:///x.1",
        ),
        (["--forward-pass-metrics-port", "20380", "--dp", "2"], "tcp://127.0.0.1:20380 tcp://127.0.0.1:20381"),
        ([], ""),
    ],
)
def test_a_server_s_process_shows_where_it_publishes(folder: Path, command: list[str], expected: str) -> None:
    """By its command line; where that says only that it does, by the real sockets of its real process."""
    arguments = [sys.executable, DOUBLE, f"ipc://{folder}/tmpab12.0", *command]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = publishers({process.pid})
        process.communicate()

    assert found == tuple(expected.format(folder).split())


def test_a_scheduler_s_socket_is_found_below_its_server(folder: Path) -> None:
    """The server's process says that it publishes; its child does. Another's socket is not taken for it."""
    script = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:3]])"
    flags = "--enable-forward-pass-metrics"
    with (
        Publisher(f"ipc://{folder}/another.0"),
        subprocess.Popen(
            [sys.executable, "-c", script, DOUBLE, f"ipc://{folder}/fpm.0", flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as server,
    ):
        assert server.stdout is not None
        server.stdout.readline()
        found = publishers({server.pid})
        server.communicate()

    assert found == (f"ipc://{folder}/fpm.0",)
