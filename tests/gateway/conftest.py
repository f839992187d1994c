"""A stand-in of a server, an inbox in place of the agent, and a gateway between them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatt.records import Request
from tests.engines.ends import WAIT_SECONDS, Agent
from tests.gateway.processes import Gateway, StandIn

TRUSTING = '[gateway.tenants]\npeers = ["127.0.0.1"]'


class Desk:
    """An inbox that keeps what it is told of calls, by the names that their clients got."""

    def __init__(self, path: str) -> None:
        self.agent = Agent(path)
        self.agent.inbox.start()

    def ended(self, name: str) -> Request:
        """Return the record of a call that has ended."""
        return next(one for one in self.ended_all(1, name) if one.trace_id == name)

    def ended_all(self, count: int, name: str = "") -> list[Request]:
        """Return so many records of calls that have ended, of one name if it is given."""
        found: list[Request] = []
        while len(found) < count:
            incoming = self.agent.records.get(timeout=WAIT_SECONDS)
            self.agent.inbox.ack(incoming.producer, incoming.seq)
            request = incoming.request
            if request.end_ns is not None and name in {"", request.trace_id}:
                found.append(request)
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes of a file's tests write."""
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[StandIn]:
    """Return the stand-in."""
    with StandIn(folder) as running:
        yield running


@pytest.fixture(scope="module")
def desk(folder: Path) -> Iterator[Desk]:
    """Return the inbox."""
    told = Desk(str(folder / "agent.sock"))
    yield told
    told.agent.inbox.close()


@pytest.fixture(scope="module")
def gateway(folder: Path, server: StandIn, desk: Desk) -> Iterator[Gateway]:
    """Return the gateway before the stand-in, telling the inbox; it believes the headers of who calls from here."""
    with Gateway(folder, [server.url], TRUSTING, str(folder / "agent.sock")) as running:
        yield running


@pytest.fixture(scope="module")
def silent(folder: Path, server: StandIn) -> Iterator[Gateway]:
    """Return a gateway that puts nothing into answers, and asks for nothing more."""
    table = f'name = "u"\nurl = "{server.url}"\nask_usage = false\n'
    with Gateway(folder / "silent", [table], "embed = false") as running:
        yield running
