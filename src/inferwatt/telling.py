"""What producers are told: acknowledgements after the commit, joules of their requests, what tokens cost. No I/O."""

from collections.abc import Iterable

from inferwatt.engines.session import Incoming
from inferwatt.metering import Metering
from inferwatt.plugins import Plugins
from inferwatt.ports import Outbox, Store, newest
from inferwatt.rates import Recent
from inferwatt.receipts import Receipts
from inferwatt.records import Request, RequestEnergy

RATES_EVERY = 5
"""Every so many calls of `provisional` who answers clients hears what tokens cost."""


class Telling:
    """Tells producers, by the outbox, what they are owed."""

    def __init__(self, outbox: Outbox, metering: Metering, receipts: Receipts, plugins: Plugins) -> None:
        self._outbox = outbox
        self._metering = metering
        self._receipts = receipts
        self._plugins = plugins
        self._recent = Recent()
        self._calls = 0
        self._knows_rates: dict[str, str] = {}

    def settled(self, settled: Iterable[tuple[Request, RequestEnergy]]) -> None:
        """Tell what is kept for good now."""
        finals: dict[str, list[RequestEnergy]] = {}
        told = list(settled)
        for request, energy in told:
            self._receipts.settled(request.request)
            self._recent.add(request, energy)
            if request.producer and not self._plugins.is_engine(request.producer):  # an engine has nobody to tell
                finals.setdefault(request.producer, []).append(energy)
        for producer, energy in self._plugins.settled(energy for _, energy in told):
            finals.setdefault(producer, []).append(energy)
        for producer, energies in finals.items():
            self._outbox.push(producer, energies)
        for producer, seq in self._receipts.due():
            self._outbox.ack(producer, seq)

    def again(self, incoming: Incoming, store: Store | None) -> None:
        """Tell what is kept already of a record that is said again: the agent before may have had no time to."""
        row = newest(store, incoming.producer, incoming.request.request)
        if row is not None and row.energy is not None and not self._plugins.is_engine(incoming.producer):
            self._outbox.push(incoming.producer, [row.energy])
        self._receipts.done(incoming.producer, incoming.seq)

    def provisional(self) -> None:
        """Tell what is settled so far of open requests."""
        energies: dict[str, list[RequestEnergy]] = {}
        for request in self._metering.open_requests():
            is_told = request.producer and not self._plugins.is_engine(request.producer)
            energy = self._metering.energy(request.request) if is_told else None
            if energy is not None and energy.parts:
                energies.setdefault(request.producer, []).append(energy)
        for producer, energy in self._plugins.watched():
            energies.setdefault(producer, []).append(energy)
        for producer, known in energies.items():
            self._outbox.push(producer, known)
        self._calls += 1
        if self._calls % RATES_EVERY == 0:
            self._tell_rates()

    def _tell_rates(self) -> None:
        """Tell who answers clients what its server's tokens cost: all of it once, then what has changed."""
        answering = dict(self._plugins.answering())
        changed = self._recent.changed()
        everything = self._recent.all() if answering.keys() - self._knows_rates.keys() else []
        for producer, server in answering.items():
            rates = changed if self._knows_rates.get(producer) == server else everything
            own = [one for one in rates if getattr(self._metering.engines.get(one.engine), "server", "") == server]
            if own:
                self._outbox.rates(producer, own)
        self._knows_rates = answering
