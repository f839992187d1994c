"""What the next commit to the ledger writes: rows, hourly sums and totals, gathered until it succeeds. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from inferwatt.attribution.accounts import TickEnergy
from inferwatt.books import Books
from inferwatt.ledger.rows import ClockPair, DeviceHourKey, DeviceState, HourKey, HourValue, LedgerBatch, RequestRow
from inferwatt.ports import Store, newest
from inferwatt.records import Device, Engine, Request, RequestEnergy
from inferwatt.snapshot import HistogramValue, Labels
from inferwatt.tallies import accounts_of
from inferwatt.units import NS_PER_SECOND

MAX_ROWS = 200_000
"""What waits at most for a disk that is full; rows beyond are dropped, and counted."""
_HOUR_SECONDS = 3600


def row_of(request: Request, energy: RequestEnergy, engine: Engine | None, offset_ns: int) -> RequestRow:
    """Return an ended request's row; `offset_ns` is UTC less the monotonic clock."""
    return RequestRow(
        request=request,
        energy=energy if energy.parts else None,
        server=engine.server if engine else "",
        end_unix_ns=(request.end_ns or request.arrival_ns) + offset_ns,
        arrival_unix_ns=request.arrival_ns + offset_ns,
    )


@dataclass(slots=True)
class _DeviceHour:
    """What one device used in one hour, µJ: all of it, and by server, model and account where no request did."""

    device: Device
    energy_uj: int = 0
    by_account_uj: dict[tuple[str, str, str], int] = field(default_factory=dict)


@dataclass(slots=True)
class Pending:
    """Increments and rows since the last commit that succeeded; changed totals with their absolute values."""

    rows: list[RequestRow] = field(default_factory=list)
    settled: list[tuple[Request, RequestEnergy]] = field(default_factory=list)
    corrections: list[RequestRow] = field(default_factory=list)
    clock_pair: ClockPair | None = None
    _accounts: dict[tuple[int, str], _DeviceHour] = field(default_factory=dict)
    _counters: dict[str, dict[Labels, float]] = field(default_factory=dict)
    _histograms: dict[str, dict[Labels, HistogramValue]] = field(default_factory=dict)

    def add_row(self, row: RequestRow, energy: RequestEnergy) -> bool:
        """Add an ended request; False where too many wait."""
        if len(self.rows) >= MAX_ROWS:
            return False
        self.rows.append(row)
        self.settled.append((row.request, energy))
        return True

    def correct(
        self, corrected: Iterable[tuple[Request, RequestEnergy]], store: Store | None
    ) -> Iterator[RequestEnergy]:
        """Correct the joules of requests that have ended: where their rows wait, else by rows of their own.

        Yield those whose row cannot be found, or that are too many.
        """
        for request, energy in corrected:
            if self._corrects_waiting(request, energy) or store is None:
                continue
            kept = newest(store, request.producer, request.request)
            if kept is None or len(self.corrections) >= MAX_ROWS:
                yield energy
            else:
                called = replace(kept.request, traceparent=request.traceparent)  # the ledger does not keep it
                self.corrections.append(replace(kept, request=called, energy=energy, corrects=kept.seq, seq=None))

    def _corrects_waiting(self, request: Request, energy: RequestEnergy) -> bool:
        for rows in (self.corrections, self.rows):
            for number, row in enumerate(rows):
                if (row.request.producer, row.request.request) == (request.producer, request.request):
                    rows[number] = replace(row, energy=energy)
                    self.settled = [(each, energy if each == row.request else was) for each, was in self.settled]
                    return True
        return False

    def add_tick(self, tick: TickEnergy, books: Books, end_unix_ns: int) -> None:
        """Add a closed tick to the sums of its hour (requests come with their rows)."""
        hour_unix = end_unix_ns // NS_PER_SECOND // _HOUR_SECONDS * _HOUR_SECONDS
        device = books.devices[tick.device]
        accounts = self._accounts.get((hour_unix, tick.device))
        if accounts is None:
            accounts = self._accounts[hour_unix, tick.device] = _DeviceHour(device)
        accounts.energy_uj += tick.energy_uj
        for account, engine, uj in accounts_of(tick):
            if uj:
                known = books.engines.get(engine)
                key = (known.server, known.model, account) if known else ("", "", account)
                accounts.by_account_uj[key] = accounts.by_account_uj.get(key, 0) + uj

    def _hours(self) -> dict[HourKey, HourValue]:
        hours: dict[HourKey, HourValue] = {}
        for (hour_unix, _), sums in self._accounts.items():
            component, provenance = sums.device.component.value, sums.device.provenance.value
            for (server, model, account), uj in sums.by_account_uj.items():
                key = HourKey(hour_unix, server, model, "", component, provenance, account)
                before = hours.get(key, HourValue(0))
                systematic_uj = before.systematic_uj + uj * sums.device.systematic_ratio
                hours[key] = before._replace(energy_uj=before.energy_uj + uj, systematic_uj=systematic_uj)
        return hours

    def _device_hours(self) -> dict[DeviceHourKey, int]:
        return {
            DeviceHourKey(hour_unix, name, sums.device.domain, sums.device.provenance.value): sums.energy_uj
            for (hour_unix, name), sums in self._accounts.items()
        }

    def take_changes(self, books: Books) -> None:
        """Take what changed in the books since the last call."""
        counters, histograms = books.take_changes()
        for name, series in counters.items():
            self._counters.setdefault(name, {}).update(series)
        for name, rows in histograms.items():
            self._histograms.setdefault(name, {}).update(rows)

    def batch(self, device_states: Sequence[DeviceState]) -> LedgerBatch:
        """Return all of it as one transaction."""
        return LedgerBatch(
            rows=[*self.rows, *self.corrections],
            hours=self._hours(),
            device_hours=self._device_hours(),
            counters=self._counters,
            histograms=self._histograms,
            device_states=device_states,
            clock_pair=self.clock_pair,
        )
