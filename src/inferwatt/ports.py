"""What the desk takes in, and what it talks to: seams, so that a test can stand at each of them."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from inferwatt.engines.plugged import Plugged
from inferwatt.engines.session import Incoming
from inferwatt.engines.watch import EngineSeen
from inferwatt.errors import LedgerRetry
from inferwatt.ledger.rows import Committed, LedgerBatch, RequestRow
from inferwatt.rates import Rates
from inferwatt.records import UNKNOWN_TENANT, Condition, Event, Reading, Request, RequestEnergy, Sums, Usage


@dataclass(frozen=True, slots=True)
class ProducerGone:
    """A producer's connection has ended."""

    producer: str


Item = Reading | Usage | Condition | Event | Sums | EngineSeen | Incoming | Plugged | ProducerGone


class Outbox(Protocol):
    """Where acknowledgements and joules go (engines.inbox.Inbox)."""

    def ack(self, producer: str, seq: int) -> None:
        """Tell a producer that everything up to message `seq` is kept."""
        ...

    def push(self, producer: str, energies: Iterable[RequestEnergy]) -> None:
        """Tell a producer the joules of its requests."""
        ...

    def rates(self, producer: str, rates: Iterable[Rates]) -> None:
        """Tell a producer what tokens cost lately."""
        ...


class Store(Protocol):
    """Where rows and totals are kept (ledger.sqlite.Ledger)."""

    def commit(self, batch: LedgerBatch) -> Committed:
        """Keep a batch, or raise LedgerRetry."""
        ...

    def known(self, producer: str, request: str) -> bool:
        """Return whether a request is kept already."""
        ...

    def find(self, alias: str) -> list[RequestRow]:
        """Return the rows of a name, oldest first, or raise LedgerRetry."""
        ...


def is_kept(store: Store | None, producer: str, request: str) -> bool:
    """Return whether a store has a request; one that cannot say has not."""
    with suppress(LedgerRetry):
        return store is not None and store.known(producer, request)
    return False


def is_told(store: Store | None, said: Request) -> bool:
    """Return whether a store has the request of which a client tells, with the tenant that the client names."""
    names = {said.trace_id, said.response_id} - {""}
    with suppress(LedgerRetry):
        rows = [row for name in names for row in store.find(name)] if store is not None else []
        return any(said.tenant in {UNKNOWN_TENANT, row.request.tenant} for row in rows)
    return False


def newest(store: Store | None, producer: str, request: str) -> RequestRow | None:
    """Return the row of a request that stands; None where there is none, or a store cannot say."""
    with suppress(LedgerRetry):
        rows = store.find(request) if store is not None else []
        return next((row for row in reversed(rows) if row.request.producer == producer), None)
    return None
