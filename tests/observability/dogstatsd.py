"""DogStatsD as documented (datagram format 1.0 to 1.6), taken apart strictly; and sockets that receive it."""

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,199}")
VALUE = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
TAG = re.compile(r"[\w\-:/.]{1,200}")
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Told:
    """One line."""

    name: str
    kind: str
    value: float
    tags: tuple[str, ...]


def lines_of(packet: bytes) -> Iterator[Told]:
    """Yield the lines of a packet.

    Raises:
        ValueError: one is not of the grammar.
    """
    for line in packet.decode("utf-8").removesuffix("\n").split("\n"):
        name, _, rest = line.partition(":")
        value, kind, *parts = rest.split("|")
        if not NAME.fullmatch(name) or not VALUE.fullmatch(value) or kind not in {"c", "g", "d"}:
            raise ValueError(f"no line of DogStatsD: {line!r}")
        tags: tuple[str, ...] = ()
        for part in parts:
            if part.startswith("#"):
                tags = tuple(part[1:].split(","))
            elif not part.startswith(("c:", "e:", "card:")):
                raise ValueError(f"no part of a line: {part!r}")
        if not all(TAG.fullmatch(tag) for tag in tags):
            raise ValueError(f"no tags: {tags!r}")
        yield Told(name, kind, float(value), tags)


class Receiver:
    """What an Agent's socket would receive."""

    def __init__(self, listener: socket.socket, url: str) -> None:
        self._socket = listener
        self._stream: socket.socket | None = None
        self.url = url
        self.largest_bytes = 0

    def told(self, until: str) -> list[Told]:
        """Return all lines up to the packet with a metric of this name."""
        found: list[Told] = []
        while not any(each.name == until for each in found):
            packet = self._packet()
            self.largest_bytes = max(self.largest_bytes, len(packet))
            found += lines_of(packet)
        return found

    def rest(self) -> list[Told]:
        """Return the lines that are there already."""
        found: list[Told] = []
        self._socket.setblocking(False)
        try:
            while True:
                found += lines_of(self._packet())
        except BlockingIOError:
            return found
        finally:
            self._socket.settimeout(PATIENCE_SECONDS)

    def _packet(self) -> bytes:
        if self._socket.type is socket.SOCK_DGRAM:
            return self._socket.recv(65536)
        if self._stream is None:
            self._stream, _ = self._socket.accept()
            self._stream.settimeout(PATIENCE_SECONDS)
        (length,) = struct.unpack("<I", self._read(4))
        return self._read(length)

    def _read(self, length: int) -> bytes:
        assert self._stream is not None
        data = b""
        while len(data) < length:
            chunk = self._stream.recv(length - len(data))
            assert chunk, "the stream ended"
            data += chunk
        return data

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
        if self._stream is not None:
            self._stream.close()


@contextmanager
def receiving(scheme: str, folder: Path) -> Iterator[Receiver]:
    """Listen on a socket of this kind: udp, unixgram or unixstream."""
    if scheme == "udp":
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("127.0.0.1", 0))
        url = f"udp://127.0.0.1:{listener.getsockname()[1]}"
    else:
        path = folder / "dsd.socket"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if scheme == "unixgram" else socket.SOCK_STREAM)
        listener.bind(str(path))
        if scheme == "unixstream":
            listener.listen()
        url = f"{scheme}://{path}"
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    listener.settimeout(PATIENCE_SECONDS)
    receiver = Receiver(listener, url)
    try:
        yield receiver
    finally:
        receiver.close()
