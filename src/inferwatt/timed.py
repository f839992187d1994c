"""Reading a socket until a moment that does not move: an answer that drips is as late as one that does not come."""

import io
import socket
import time


class TimedReader(io.RawIOBase):
    """Reads a socket until `deadline` (`time.monotonic`), however often it is called; TimeoutError after it."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int | None:  # type: ignore[override]
        """Read what is there into `buffer`, and wait for it no longer than is left."""
        self._sock.settimeout(left_seconds(self._deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Close this view of the socket."""
        self._raw.close()
        super().close()


def left_seconds(deadline: float) -> float:
    """Return how long is left, seconds.

    Raises:
        TimeoutError: nothing is.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the answer took too long to read")
    return left
