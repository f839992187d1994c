"""What the meter has settled since it was last asked. Pure."""

from dataclasses import dataclass, field

from inferwatt.attribution.accounts import TickEnergy, merged
from inferwatt.attribution.attributor import Closed
from inferwatt.records import Request, RequestEnergy


@dataclass(slots=True)
class Settled:
    """Closed ticks and final requests; and what late records moved of ticks that were closed before."""

    ticks: list[TickEnergy] = field(default_factory=list)
    requests: list[tuple[Request, RequestEnergy]] = field(default_factory=list)
    corrections: list[TickEnergy] = field(default_factory=list)
    """Entries without energy: what accounts gave, and what requests got."""
    corrected: list[tuple[Request, RequestEnergy]] = field(default_factory=list)
    """Requests that were final before, and what they hold now."""

    def add(self, closed: Closed) -> None:
        """Add what was just closed."""
        self.ticks.extend(closed.ticks)
        self.corrections.extend(closed.corrections)
        self.add_requests(closed)

    def add_requests(self, closed: Closed) -> None:
        """Add the requests of it alone."""
        self.requests.extend(closed.requests)
        self.corrected.extend(closed.corrected)

    def final(self) -> list[tuple[Request, RequestEnergy]]:
        """Return the final requests with their corrections in their places."""
        final = list(self.requests)
        newest = {record.request: number for number, (record, _) in enumerate(final)}
        for record, energy in self.corrected:
            final[newest[record.request]] = record, energy
        return final

    def merged(self) -> "Settled":
        """Return the same with one tick for each device."""
        return Settled(merged(self.ticks), self.requests, merged(self.corrections), self.corrected)
