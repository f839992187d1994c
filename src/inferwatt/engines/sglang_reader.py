"""Reads SGLang's forward passes: one thread that subscribes to every server that publishes them.

ZeroMQ connects again by itself, and drops what we do not take in time: the numbers of the messages show that. A server
that was not heard for ten seconds is looked for anew, since it may publish elsewhere after a restart. It needs the
extra `sglang`; where that is missing, it is said.
"""

import importlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from inferwatt.clock import Clock
from inferwatt.engines.servers import Target
from inferwatt.engines.sglang_passes import MAX_MESSAGE_BYTES, Passes
from inferwatt.engines.sglang_sockets import SGLANG, publishers
from inferwatt.records import Sums
from inferwatt.snapshot import Lack
from inferwatt.units import NS_PER_SECOND

LOOK_NS = 10 * NS_PER_SECOND
_POLL_MS = 100
_MOST_MESSAGES = 1000
"""What is taken from one socket before the others have their turn."""
_MOST_WAITING = 10_000
"""Messages that wait for us, as many as wait at the publisher."""
_STOP_SECONDS = 1.0
_NO_LIBRARY = Lack("SGLang's steps cannot be read: pyzmq is missing", "zmq", "pip install 'inferwatt[sglang]'")


@dataclass(frozen=True, slots=True)
class PassesHealth:
    """How the passes of one server were read; `numbers` is the newest message of each publisher."""

    server: str
    publishers: tuple[str, ...]
    numbers: Mapping[str, int]
    messages: int
    lost: int
    bad: Mapping[str, int]


@dataclass(slots=True)
class _Server:
    """One server: what it publishes, where, and when it was looked for."""

    target: Target
    passes: Passes
    addresses: tuple[str, ...] = ()
    look_ns: int = 0


class PassReader:
    """Subscribes to the servers that it is given; `emit` is called from its own thread.

    Args:
        clock: where the time comes from.
        emit: takes what passes did; must not block.
        find_pids: who listens at a server's address.
        find: where a server publishes, by its processes.
    """

    def __init__(
        self,
        clock: Clock,
        emit: Callable[[Sums], None],
        *,
        find_pids: Callable[[str], frozenset[int]],
        find: Callable[[Iterable[int]], tuple[str, ...]] = publishers,
    ) -> None:
        self.lack: Lack | None = None
        self.errors = 0
        self._clock = clock
        self._emit = emit
        self._find_pids = find_pids
        self._find = find
        self._servers: dict[str, _Server] = {}
        self._refused: set[str] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, target: Target) -> None:
        """Read one more server, if it is one that may publish."""
        if target.kind == SGLANG or target.passes:
            self._servers = {**self._servers, target.name: _Server(target, Passes(target.name))}

    def look(self, now_ns: int) -> None:
        """Look where those publish that are not heard; the thread starts with the first that does."""
        for server in self._servers.values():
            heard_ns = server.passes.heard_ns
            is_silent = heard_ns is None or now_ns - heard_ns >= LOOK_NS
            if is_silent and now_ns >= server.look_ns:
                server.look_ns = now_ns + LOOK_NS
                target = server.target
                server.addresses = target.passes or self._find(self._find_pids(target.url) or target.pids)
        if self._thread is None and any(server.addresses for server in self._servers.values()):
            self._start()

    def health(self) -> tuple[PassesHealth, ...]:
        """Return how each server's passes are read."""
        return tuple(
            PassesHealth(
                name, s.addresses, dict(s.passes.numbers), s.passes.messages, s.passes.lost, dict(s.passes.bad)
            )
            for name, s in self._servers.items()
        )

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def _start(self) -> None:
        try:
            zmq = importlib.import_module("zmq")
        except ImportError:
            self.lack = _NO_LIBRARY
            return
        self._thread = threading.Thread(target=self._run, args=(zmq,), name="inferwatt-passes", daemon=True)
        self._thread.start()

    def _run(self, zmq: Any) -> None:  # noqa: ANN401 - pyzmq is an extra: it has no types where it is missing
        context = zmq.Context()
        sockets: dict[tuple[str, str], Any] = {}
        try:
            while not self._stopping.is_set():
                try:
                    self._turn(zmq, context, sockets)
                except Exception:  # noqa: BLE001 - the thread's border: a server's messages must not end the meter
                    self.errors += 1
                    self._stopping.wait(_POLL_MS / 1000)
        finally:
            context.destroy(linger=0)

    def _turn(self, zmq: Any, context: Any, sockets: dict[tuple[str, str], Any]) -> None:  # noqa: ANN401 - as above
        """Connect to who is new, leave who is gone, and take what has come."""
        addresses = ((name, address) for name, server in self._servers.items() for address in server.addresses)
        wanted = {key for key in addresses if key[1] not in self._refused}
        for key in sockets.keys() - wanted:
            sockets.pop(key).close(linger=0)
        for key in wanted - sockets.keys():
            try:
                sockets[key] = _subscribed(zmq, context, key[1])
            except zmq.ZMQError:  # no address that it understands: asked again, it would say the same
                self._refused.add(key[1])
                self._servers[key[0]].passes.bad["address"] += 1
        poller = zmq.Poller()
        for socket in sockets.values():
            poller.register(socket, zmq.POLLIN)
        ready = dict(poller.poll(_POLL_MS))
        for (name, address), socket in sockets.items():
            if socket in ready:
                self._drain(zmq, socket, self._servers[name].passes, address)
        now_ns = self._clock.monotonic_ns()
        for server in self._servers.values():
            self._tell(server.passes.due(now_ns))

    def _drain(self, zmq: Any, socket: Any, passes: Passes, address: str) -> None:  # noqa: ANN401 - as above
        for _ in range(_MOST_MESSAGES):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._tell(passes.take(address, frames, self._clock.monotonic_ns()))

    def _tell(self, sums: Sums | None) -> None:
        if sums is not None and sums.t1_ns > sums.t0_ns:
            self._emit(sums)


def _subscribed(zmq: Any, context: Any, address: str) -> Any:  # noqa: ANN401 - as above
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, _MOST_WAITING)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.LINGER, 0)
    socket.subscribe(b"")
    try:
        socket.connect(address)
    except zmq.ZMQError:
        socket.close(linger=0)
        raise
    return socket
