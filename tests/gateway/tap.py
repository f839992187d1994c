"""A wire tap between the gateway and a server: bytes go through, and those that the server sent are kept."""

import http.client
import io
import socket
import threading
from contextlib import suppress
from typing import Self


class Tap:
    """Listens on a port of its own and passes each connection on to a server."""

    def __init__(self, server: str) -> None:
        host, _, port = server.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sent: list[bytearray] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()

    def last_body(self) -> bytes:
        """Return the body of the last answer of the connection that was opened last, its chunks joined."""
        data = bytes(self._sent[-1])
        answer = http.client.HTTPResponse(_Bytes(data[data.rindex(b"HTTP/1.1 200 OK\r\n") :]))  # type: ignore[arg-type]
        answer.begin()
        return answer.read()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sent.append(bytearray())
                threading.Thread(target=self._serve, args=(client, self._sent[-1]), daemon=True).start()

    def _serve(self, client: socket.socket, kept: bytearray) -> None:
        with client, socket.create_connection(self._server) as server:
            asking = threading.Thread(target=_pass_on, args=(client, server, bytearray()), daemon=True)
            asking.start()
            _pass_on(server, client, kept)
            asking.join()


def _pass_on(one: socket.socket, other: socket.socket, keep: bytearray) -> None:
    with suppress(OSError):
        while data := one.recv(1 << 16):
            keep += data
            other.sendall(data)
    for end in (one, other):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class _Bytes:
    """Bytes in a socket's place, as http.client reads them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        """Return them as a file."""
        return io.BytesIO(self._data)
