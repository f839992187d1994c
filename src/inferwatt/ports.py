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
from inferwatt.units import NS_PER_SECOND


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


def told_of(store: Store | None, said: Request) -> list[RequestRow]:
    """Return the rows of the requests of which a client tells: by its names, of its time, of its tenant."""
    names = {said.trace_id, said.response_id} - {""}
    since_ns, until_ns = said.arrival_ns - NS_PER_SECOND, said.end_ns or said.arrival_ns
    with suppress(LedgerRetry):
        rows = [row for name in names for row in store.find(name)] if store is not None else []
        own = [row for row in rows if said.tenant in {UNKNOWN_TENANT, row.request.tenant}]
        return list({r.request.request: r for r in own if since_ns <= r.request.arrival_ns <= until_ns}.values())
    return []


def newest(store: Store | None, producer: str, request: str) -> RequestRow | None:
    """Return the row of a request that stands; None where there is none, or a store cannot say."""
    with suppress(LedgerRetry):
        rows = store.find(request) if store is not None else []
        return next((row for row in reversed(rows) if row.request.producer == producer), None)
    return None
