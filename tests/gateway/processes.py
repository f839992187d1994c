"""The gateway, and the stand-in of a server, as processes of a test; and a bare client."""

import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.real.children import Command
from tests.real.conftest import free_port
from tests.real.pages import get_json, wait_for

CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got; `is_whole` unless the connection ended before the answer did."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool = True

    @property
    def name(self) -> str:
        """The id of the call."""
        return self.headers["x-inferwatt-request-id"]

    def json(self) -> Any:
        """Return the body, decoded."""
        return json.loads(self.body)

    def data(self) -> list[Any]:
        """Return the JSON of each event of a stream."""
        lines = [line.removeprefix(b"data: ") for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        return [json.loads(line) for line in lines]


class Listening(Command):
    """A command that listens on a port."""

    def __init__(
        self, folder: Path, port: int, *arguments: str, program: tuple[str, ...] = ("-m", "inferwatt")
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(folder, *arguments, program=program)

    def __enter__(self) -> Self:
        try:
            wait_for(f"who listens on {self.port}", self._listens)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _listens(self) -> bool:
        self.check()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def ask(
        self, body: object, path: str = CHAT, method: str = "POST", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make one call and return all that comes."""
        sent = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, sent, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            try:
                return Answer(answer.status, told, answer.read())
            except http.client.IncompleteRead as cut:
                return Answer(answer.status, told, cut.partial, is_whole=False)
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """Send bytes and return all that comes until the connection is closed."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))


class StandIn(Listening):
    """The stand-in of a server (standin.py)."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        port = port or free_port()
        super().__init__(folder, port, str(port), program=("-m", "tests.gateway.standin"))

    def seen(self) -> dict[str, Any]:
        """Return what it was asked so far."""
        told: dict[str, Any] = get_json(f"{self.url}/seen")
        return told


class Gateway(Listening):
    """The real gateway before some servers.

    Args:
        folder: where its configuration is written.
        upstreams: the servers' addresses, or whole tables of TOML.
        more: TOML of `[gateway]`; a line that begins with `[` begins a table.
        agent: the socket of an agent.
        program: what of Python is run.
    """

    def __init__(
        self,
        folder: Path,
        upstreams: Iterable[str],
        more: str = "",
        agent: str = "",
        program: tuple[str, ...] = ("-m", "inferwatt"),
    ) -> None:
        port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        tables = [
            "[[gateway.upstream]]\n" + (one if "\n" in one else f'name = "u{place}"\nurl = "{one}"')
            for place, one in enumerate(upstreams)
        ]
        head = f'[agent]\nsocket = "{agent or folder / "nobody.sock"}"\n[gateway]\nlisten = "127.0.0.1:{port}"'
        file = folder / f"gateway-{port}.toml"
        file.write_text("\n".join((head, more, *tables)) + "\n")
        super().__init__(folder, port, "gateway", "--config", str(file), program=program)
