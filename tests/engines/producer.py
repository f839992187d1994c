"""What a middleware tells the inbox that stands in the agent's place."""

from collections.abc import Iterator

from inferwatt.engines.session import Incoming
from inferwatt.records import Request
from tests.engines.ends import Agent


def first(agent: Agent) -> Incoming:
    """Return the next record of a call."""
    return next(_records(agent))


def ended(agent: Agent) -> Request:
    """Return the next record of a call that has ended."""
    return next(one.request for one in _records(agent) if one.request.end_ns is not None)


def _records(agent: Agent) -> Iterator[Incoming]:
    while True:
        said = agent.next()
        if isinstance(said, Incoming):  # a hello is none
            yield said
