"""The composition root as the command line sees it: run an agent, or record, until a signal comes.

What it is made of is `service.py`; nobody imports either but the command line.
"""

import logging
import signal
from collections.abc import Iterable
from pathlib import Path

import msgspec

from inferwatt.ledger.sqlite import LedgerConfig
from inferwatt.service import Agent
from inferwatt.settings import AgentConfig, configuration

__all__ = ["Agent", "AgentConfig", "configuration", "main", "record"]

log = logging.getLogger("inferwatt")


def main(
    *,
    config: Path | None = None,
    listen: str | None = None,
    record: Path | None = None,
    state_dir: Path | None = None,
    socket: Path | None = None,
) -> int:
    """Run the agent until SIGINT or SIGTERM; return the exit status.

    Raises:
        InferwattError: it cannot start.
    """
    flags = {
        "web.listen": listen,
        "agent.state_dir": None if state_dir is None else str(state_dir),
        "agent.socket": None if socket is None else str(socket),
    }
    return _run(Agent(configuration(config, flags).value, record=record), None)


def record(folder: Path, *, duration_seconds: float | None = None, config: Path | None = None) -> int:
    """Record live sources into `folder` until SIGINT, SIGTERM or the end of the duration; return the exit status.

    Raises:
        InferwattError: it cannot start.
    """
    settings = msgspec.structs.replace(configuration(config).value, ledger=LedgerConfig(enabled=False))
    return _run(Agent(settings, record=folder, serve_http=False), duration_seconds)


def _run(agent: Agent, duration_seconds: float | None) -> int:
    _log_to_stderr()
    before = {number: signal.signal(number, lambda *_: agent.wake()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        agent.start()
        _tell(agent.opening_lines())
        agent.wait(duration_seconds)
    finally:
        agent.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        log.info("%s", line)


def _log_to_stderr() -> None:
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
