"""One connection of a producer to the agent: hello, then frames out and messages in, without ever waiting."""

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from inferwatt import wire
from inferwatt.clock import boot_id
from inferwatt.outbox import Outbox

READ_BYTES = 65_536
MOST_READS = 64
"""Reads of one turn: an agent that never stops talking must not keep us from sending."""
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
"""The host may have set SIGPIPE to its default, which would end it."""


class Link:
    """A non-blocking connection on which hello was said; `greeted` once the agent answered."""

    def __init__(
        self, connection: socket.socket, producer: str, *, kind: str = "sdk", about: Mapping[str, Any] | None = None
    ) -> None:
        """Say hello on a connection; `about` is what more a producer of this kind says of itself."""
        clocks = {"monotonic_ns": time.monotonic_ns(), "unix_ns": time.time_ns()}
        hello = wire.hello(producer, kind=kind, pid=os.getpid(), boot_id=boot_id(), **clocks)
        if about:
            hello[kind] = dict(about)
        hello["pid_namespace"] = pid_namespace()
        self.socket = connection
        self.greeted = False
        self.out = memoryview(wire.encode(hello))
        self._decoder = wire.Decoder()

    def read(self) -> tuple[list[wire.Message], bool]:
        """Return what arrived, and whether the connection lives."""
        messages: list[wire.Message] = []
        for _ in range(MOST_READS):
            try:
                data = self.socket.recv(READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                return messages, False
            messages += [one for one in self._decoder.feed(data) if isinstance(one, dict)]
            if not data or self._decoder.broken:
                return messages, False
        return messages, True

    def flush(self, outbox: Outbox) -> bool:
        """Send as much as the kernel takes, hello first, records once greeted; return whether the connection lives."""
        while True:
            if not self.out:
                frame = outbox.next_frame() if self.greeted else None
                if frame is None:
                    return True
                self.out = memoryview(frame)
            try:
                self.out = self.out[self.socket.send(self.out, _NO_SIGNAL) :]
            except BlockingIOError:
                return True
            except OSError:
                return False


def pid_namespace() -> int:
    """Return in which PID namespace the number of this process means it, by the inode; 0 where that is not shown."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
