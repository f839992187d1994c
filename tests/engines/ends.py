"""Two ends of the socket for tests: a bare client whose bytes are in our hands, an agent that is only an inbox."""

import contextlib
import os
import queue
import socket
import threading
import time
from collections.abc import Callable

from inferwatt import endpoint, wire
from inferwatt.clock import SystemClock
from inferwatt.engines.inbox import Inbox
from inferwatt.engines.session import Incoming
from inferwatt.records import Component, EnergyPart, Provenance, RequestEnergy, Tier

WAIT_SECONDS = 10.0
PRODUCER = "ab" * 16


def eventually(fact: Callable[[], bool]) -> bool:
    """Wait until `fact` holds; what another thread does takes the time that it takes."""
    give_up = time.monotonic() + WAIT_SECONDS
    while not fact() and time.monotonic() < give_up:
        threading.Event().wait(0.005)
    return fact()


class Client:
    """A bare client: what it sends is in our hands."""

    def __init__(self, path: str, producer: str = PRODUCER) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)  # blocks while the backlog is full
        self.socket.settimeout(WAIT_SECONDS)
        self.producer = producer
        self._decoder = wire.Decoder()
        self._heard: list[wire.Message] = []

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.socket.close()

    def hello(self) -> wire.Message:
        """Say hello and return the answer."""
        words = wire.hello(self.producer, kind="sdk", pid=os.getpid(), boot_id="", monotonic_ns=1, unix_ns=1)
        self.socket.sendall(wire.encode(words))
        return self.hear()

    def send(self, seq: int, *names: str) -> None:
        """Hand in open requests."""
        rows = [{"request": name, "arrival_ns": 1} for name in names]
        self.socket.sendall(wire.encode(wire.records_message(seq, rows)))

    def hear(self) -> wire.Message:
        """Return the next message of the agent."""
        while not self._heard:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._heard += [one for one in self._decoder.feed(data) if isinstance(one, dict)]
        return self._heard.pop(0)

    def is_hung_up(self) -> bool:
        """Read to the end; a reset is an end too."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(65536):
                pass
        return True


class Agent:
    """An inbox whose records lie in a queue."""

    def __init__(self, path: str, **options: object) -> None:
        self.records: queue.Queue[Incoming] = queue.Queue()
        self.inbox = Inbox(path, self.records.put, clock=SystemClock(), **options)  # type: ignore[arg-type]

    def next(self) -> Incoming:
        """Return the next record."""
        return self.records.get(timeout=WAIT_SECONDS)


def some_energy(name: str, *, final: bool, systematic_ratio: float = 0.4) -> RequestEnergy:
    """A few microjoules of a request."""
    part = EnergyPart(Component.CPU, Provenance.MODELLED, 1, 2, 3, 4, systematic_ratio)
    return RequestEnergy(name, (part,), Tier.REQUEST_SPAN, final)


def listens(path: str) -> bool:
    """Return whether somebody takes connections at `path`: it is there a moment before that."""
    try:
        endpoint.connect(path).close()
    except OSError:
        return False
    return True
