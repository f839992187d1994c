"""The thread inside vLLM that brings to the agent what was seen there: bounded, and never in anybody's way.

It looks ten times a second; nobody wakes it, since waking costs the engine's thread more than it is worth. What the
agent has not acknowledged is kept, at most 16 MiB, and said again after a lost connection; what had to be dropped is
counted, and the agent is told how much.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.util import Finalize
from typing import Any, Protocol

import msgspec

from inferwatt import endpoint, wire
from inferwatt.errors import RecordRejected, Unavailable
from inferwatt.link import Link
from inferwatt.outbox import Outbox

TURN_SECONDS = 0.1
FIRST_RETRY_SECONDS = 0.2
LAST_RETRY_SECONDS = 2.0
LAST_WORDS_SECONDS = 0.3

_encoder = msgspec.json.Encoder()


class Load(Protocol):
    """What there is to bring: called by the courier's thread only."""

    def collect(self, outbox: Outbox) -> None:
        """Put what is new into the outbox."""
        ...

    def again(self, outbox: Outbox) -> None:
        """Put into the outbox what an agent that has just started must know."""
        ...


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as one frame, ten times as fast as `wire.encode`.

    Raises:
        RecordRejected: it is larger than a frame may be.
    """
    body = _encoder.encode(message)
    if len(body) > wire.MAX_FRAME_BYTES:
        raise RecordRejected(f"a frame of {len(body)} bytes", where="frame", fix="send fewer records per frame")
    return len(body).to_bytes(4, "big") + body


class Courier:
    """One producer of a vLLM process: a thread, a connection, and what is not acknowledged yet."""

    def __init__(self, load: Load, about: Mapping[str, Any], path: Callable[[], str] = endpoint.socket_path) -> None:
        """Prepare a courier.

        Args:
            load: what there is to bring.
            about: what this process says of itself.
            path: where the agent's socket is now.
        """
        self.producer = os.urandom(16).hex()
        self.failed = 0
        self.outbox = Outbox()
        self._load = load
        self._about = about
        self._path = path
        self._link: Link | None = None
        self._agent = ""
        self._retry_at = 0.0
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inferwatt-courier", daemon=True)

    def start(self) -> None:
        """Start the thread; what waits at the process's end is still sent, within 0.3 s."""
        self._thread.start()
        Finalize(None, self.close, exitpriority=10)  # vLLM's engines are children that never come to atexit

    def close(self) -> None:
        """Say what is there, and end; waits at most 0.3 s."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(LAST_WORDS_SECONDS)

    def _run(self) -> None:
        while not self._closing.wait(TURN_SECONDS):
            self.turn()
        self.turn()
        self._hang_up()

    def turn(self) -> None:
        """Collect, send and listen once; whatever goes wrong is counted, never raised."""
        try:
            self._load.collect(self.outbox)
            if self._link is None:
                self._connect()
            if self._link is not None:
                self._talk(self._link)
        except Exception:  # noqa: BLE001 - nothing of ours may hurt the host
            self.failed += 1
            self._hang_up()

    def _connect(self) -> None:
        if time.monotonic() < self._retry_at:
            return
        try:
            self._link = Link(endpoint.connect(self._path()), self.producer, kind="vllm", about=self._about)
        except (OSError, Unavailable):
            self._back_off()

    def _talk(self, link: Link) -> None:
        messages, alive = link.read()
        for message in messages:
            self._heed(link, message)
        if not (alive and link.flush(self.outbox)):
            self._hang_up()

    def _heed(self, link: Link, message: wire.Message) -> None:
        kind = message.get("t")
        if kind == "hello":
            link.greeted = True
            self._retry_seconds = FIRST_RETRY_SECONDS
            agent, self._agent = self._agent, str(message.get("agent"))
            if self._agent != agent:
                self._load.again(self.outbox)
        elif kind == "ack" and type(message.get("seq")) is int:
            self.outbox.acked(message["seq"])

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.socket.close()
            self._link = None
            self.outbox.again()
            self._back_off()

    def _back_off(self) -> None:
        self._retry_at = time.monotonic() + self._retry_seconds * (0.5 + os.urandom(1)[0] / 510)
        self._retry_seconds = min(2 * self._retry_seconds, LAST_RETRY_SECONDS)
