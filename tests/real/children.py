"""The meter's own commands as processes of a test: each has a mark in its environment, by which leftovers are found."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from tests.real.conftest import free_port
from tests.real.pages import get, get_json, samples, wait_for

CLIENT = str(Path(__file__).with_name("client.py"))
MARK = "TEST_RUN_MARK"
END_SECONDS = 30.0


class Command:
    """`inferwatt ARGUMENTS` (or any program, where `program` names it) as a child; killed with its context.

    Its standard output and error go to files in `folder`, so that it never waits for us.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        program: tuple[str, ...] = ("-m", "inferwatt"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.mark = uuid.uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        self.out, self.err = folder / f"{self.mark}.out", folder / f"{self.mark}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *program, *arguments],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=clean_environment({MARK: self.mark, **(environment or {})}),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(END_SECONDS)
        self.stdin.close()

    @property
    def stdin(self) -> IO[bytes]:
        """Its standard input; a client of ours goes on until it is closed."""
        assert self.process.stdin is not None
        return self.process.stdin

    def wait(self, timeout_seconds: float = END_SECONDS) -> int:
        """Wait for its end and return its exit status."""
        return self.process.wait(timeout_seconds)

    def end(self, number: int = signal.SIGTERM, timeout_seconds: float = END_SECONDS) -> int:
        """Send a signal, wait for the end and return the exit status."""
        self.process.send_signal(number)
        return self.wait(timeout_seconds)

    def check(self) -> None:
        """Fail with its last words if it has ended."""
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.err.read_text()[-2000:]}"


class AgentProcess(Command):
    """An agent that keeps all that it has under `home`: a second one of the same home is its restart."""

    def __init__(
        self, home: Path, *arguments: str, port: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.url = f"http://127.0.0.1:{port or free_port()}"
        self.home = home
        own = ("--state-dir", str(home / "state"), "--socket", str(home / "agent.sock"))
        listen = ("--listen", self.url.removeprefix("http://"))
        super().__init__(home, "agent", *listen, *own, *arguments, environment=environment)

    def __enter__(self) -> Self:
        try:
            wait_for("the agent's page", self._is_up)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _is_up(self) -> bool:
        self.check()
        return bool(get(f"{self.url}/healthz"))

    @property
    def ledger(self) -> Path:
        """Where its ledger is."""
        return self.home / "state" / "ledger.sqlite"

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment needs to reach it."""
        return {"INFERWATT_SOCKET": str(self.home / "agent.sock")}

    def health(self) -> Any:
        """Return what /healthz says."""
        return get_json(f"{self.url}/healthz")

    def servers_up(self) -> set[str]:
        """Return the addresses of the servers whose pages it reads."""
        return {server["url"] for server in self.health()["servers"] if server["state"] == "up"}

    def wait_for_server(self, url: str) -> None:
        """Wait until it reads the server at `url`, and knows its model."""
        port = url.rpartition(":")[2]
        wait_for(f"server {url}", lambda: url in self.servers_up())
        wait_for(
            f"the model of {url}",
            lambda: any(("server", f"llamacpp:{port}") in labels for _, labels in samples(self.url)),
        )


class Client(Command):
    """The program of client.py beside an agent; it asks until it is told to end, or `count` times."""

    def __init__(self, agent: AgentProcess, server: str, count: int | None = None) -> None:
        arguments = (server,) if count is None else (server, str(count))
        super().__init__(agent.home, *arguments, program=(CLIENT,), environment=agent.environment)

    def lines(self, kind: str) -> dict[str, Any]:
        """Return its lines that are whole, of one kind, by request."""
        whole = self.out.read_text().rpartition("\n")[0].splitlines()
        return {line[kind]: line for line in map(json.loads, whole) if kind in line}

    def finals(self) -> dict[str, int | None]:
        """Return the final joules that it was told, microjoules by request."""
        return {name: line["energy_uj"] for name, line in self.lines("final").items()}

    def wait_for_answers(self, count: int) -> None:
        """Wait until `count` more requests were answered, and it was told their final joules."""

        def answered() -> int:
            ended = self.lines("ended")
            return sum("output" in ended[name] for name in self.finals())

        before = answered()
        wait_for(f"{count} more answers", lambda: answered() >= before + count, 2 * END_SECONDS)

    def finish(self) -> None:
        """Let it ask no more, hear of its last joules, and end."""
        self.stdin.close()
        status = self.wait(2 * END_SECONDS)
        assert status == 0, self.err.read_text()


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without any setting of ours, and `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("INFERWATT_")} | dict(more)


def left_behind(mark: str) -> list[str]:
    """Return the command lines of processes that have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
