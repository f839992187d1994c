"""What producers are told: acknowledgements after the commit, and the joules of their requests. No I/O."""

from collections.abc import Iterable

from inferwatt.metering import Metering
from inferwatt.plugins import Plugins
from inferwatt.ports import Outbox
from inferwatt.receipts import Receipts
from inferwatt.records import Request, RequestEnergy


class Telling:
    """Tells producers, by the outbox, what they are owed."""

    def __init__(self, outbox: Outbox, metering: Metering, receipts: Receipts, plugins: Plugins) -> None:
        self._outbox = outbox
        self._metering = metering
        self._receipts = receipts
        self._plugins = plugins

    def settled(self, settled: Iterable[tuple[Request, RequestEnergy]]) -> None:
        """Tell what is kept for good now."""
        finals: dict[str, list[RequestEnergy]] = {}
        for request, energy in settled:
            self._receipts.settled(request.request)
            for producer, told in ((request.producer, energy), *self._plugins.answers(energy)):
                if producer and not self._plugins.is_engine(producer):  # an engine has nobody to tell
                    finals.setdefault(producer, []).append(told)
        for producer, energies in finals.items():
            self._outbox.push(producer, energies)
        for producer, seq in self._receipts.due():
            self._outbox.ack(producer, seq)

    def provisional(self) -> None:
        """Tell what is settled so far of open requests."""
        energies: dict[str, list[RequestEnergy]] = {}
        for request in self._metering.open_requests():
            is_told = request.producer and not self._plugins.is_engine(request.producer)
            energy = self._metering.energy(request.request) if is_told else None
            if energy is not None and energy.parts:
                energies.setdefault(request.producer, []).append(energy)
        for producer, known in energies.items():
            self._outbox.push(producer, known)
