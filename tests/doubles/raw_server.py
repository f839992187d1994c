"""A server that a test scripts byte by byte: what no well-behaved library would send."""

import socket
import threading
from collections.abc import Callable

PATIENCE_SECONDS = 20.0

Script = Callable[[socket.socket, bytes], None]


class RawServer:
    """Answers each question by the next script, on one connection or on several."""

    def __init__(self, *scripts: Script) -> None:
        self.questions: list[bytes] = []
        self.connections = 0
        self.stop = threading.Event()
        self._scripts = list(scripts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Stop, and hang up on whoever is still there."""
        self.stop.set()
        with socket.create_connection(self._listener.getsockname()):
            pass
        self._thread.join(PATIENCE_SECONDS)
        self._listener.close()

    def _serve(self) -> None:
        while not self.stop.is_set():
            connection, _ = self._listener.accept()
            with connection:
                self.connections += 1
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        asked = b""
        while self._scripts:
            while b"\r\n\r\n" not in asked:
                more = connection.recv(65536)
                if not more:
                    return
                asked += more
            self.questions.append(asked)
            asked = b""
            script = self._scripts.pop(0)
            try:
                script(connection, self.questions[-1])
            except OSError:
                return
            if script is HANG_UP:
                return


def say(answer: bytes) -> Script:
    """Return a script that sends `answer` and waits for the next question."""
    return lambda connection, _: connection.sendall(answer)


def _hang_up(_connection: socket.socket, _asked: bytes) -> None:
    """Say nothing and hang up."""


HANG_UP: Script = _hang_up
