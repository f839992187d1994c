"""An inbox in the place of the agent, where what runs in a server looks for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.ends import Agent


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """Return an inbox where the middleware looks for the agent."""
    monkeypatch.setenv("INFERWATT_SOCKET", str(tmp_path / "agent.sock"))
    listening = Agent(str(tmp_path / "agent.sock"))
    listening.inbox.start()
    yield listening
    listening.inbox.close()
