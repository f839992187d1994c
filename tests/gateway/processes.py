"""The gateway, and the stand-in of a server, as processes of a test."""

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from tests.real.children import Command
from tests.real.conftest import free_port
from tests.real.pages import get_json, wait_for


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


class StandIn(Listening):
    """The stand-in of an OpenAI-compatible server (standin.py)."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        super().__init__(folder, port, str(port), program=("-m", "tests.gateway.standin"))

    def seen(self) -> dict[str, Any]:
        """Return what it was asked so far."""
        told: dict[str, Any] = get_json(f"{self.url}/seen")
        return told


class Gateway(Listening):
    """The real gateway before some servers; `more` is TOML of `[gateway]`, `agent` the socket of an agent."""

    def __init__(self, folder: Path, upstreams: Iterable[str], more: str = "", agent: str = "") -> None:
        port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        tables = [f'[[gateway.upstream]]\nname = "u{place}"\nurl = "{url}"' for place, url in enumerate(upstreams)]
        head = f'[agent]\nsocket = "{agent or folder / "nobody.sock"}"\n[gateway]\nlisten = "127.0.0.1:{port}"'
        file = folder / f"gateway-{port}.toml"
        file.write_text("\n".join((head, more, *tables)) + "\n")
        super().__init__(folder, port, "gateway", "--config", str(file))
