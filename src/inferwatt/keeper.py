"""The agent's desk: what the threads bring is metered, kept, acknowledged and shown, in this order.

`step` is the whole work of the agent's loop without the loop, so that a simulation can drive it with a fake clock, a
fake inbox and a fake disk. Figures are shown, and records acknowledged, only after the ledger has committed them: a
counter that was seen can never fall, whenever the agent is killed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from inferwatt.attribution.accounts import TickEnergy
from inferwatt.books import Books, accounts_of
from inferwatt.clock import Clock
from inferwatt.engines.session import Incoming
from inferwatt.engines.watch import EngineSeen
from inferwatt.errors import LedgerRetry
from inferwatt.ledger.rows import (
    ClockPair,
    Committed,
    DeviceHourKey,
    DeviceState,
    HourKey,
    HourValue,
    LedgerBatch,
    RequestRow,
)
from inferwatt.metering import Metering
from inferwatt.receipts import Receipts
from inferwatt.records import (
    Device,
    Engine,
    Event,
    EventKind,
    Provenance,
    Reading,
    Request,
    RequestEnergy,
    Sums,
    Usage,
)
from inferwatt.snapshot import HistogramValue, Labels, Lack, LiveView, Snapshot
from inferwatt.units import NS_PER_SECOND
from inferwatt.views import Views

COMMIT_NS = NS_PER_SECOND
"""How often totals are committed and shown while nothing ends."""
SOON_NS = NS_PER_SECOND // 5
"""How soon the rows of ended requests are committed, and how often joules are told to the SDK."""
RESOLVE_NS = NS_PER_SECOND // 2
"""How long a request may wait until its connection shows which server it talks to."""
GONE_NS = 10 * NS_PER_SECOND
"""How long a lost producer may take to come back before its open requests are ended."""
CLOCK_STEP_NS = NS_PER_SECOND
MAX_ITEMS = 200_000
"""What may wait for the loop; beyond, readings and records are dropped and counted."""
MAX_PENDING_ROWS = 200_000
_BRIDGED_PROVENANCES = frozenset({Provenance.MEASURED, Provenance.REPORTED})
_GENEROUS_WATTS = 1000.0


@dataclass(frozen=True, slots=True)
class ProducerGone:
    """A producer's connection has ended."""

    producer: str


Item = Reading | Usage | Event | Sums | EngineSeen | Incoming | ProducerGone


class Outbox(Protocol):
    """Where acknowledgements and joules go (engines.inbox.Inbox)."""

    def ack(self, producer: str, seq: int) -> None:
        """Tell a producer that everything up to message `seq` is kept."""
        ...

    def push(self, producer: str, energies: Iterable[RequestEnergy]) -> None:
        """Tell a producer the joules of its requests."""
        ...


class Store(Protocol):
    """Where rows and totals are kept (ledger.sqlite.Ledger)."""

    def commit(self, batch: LedgerBatch) -> Committed:
        """Keep a batch, or raise LedgerRetry."""
        ...

    def known(self, producer: str, request: str) -> bool:
        """Return whether a request is kept already."""
        ...


@dataclass(slots=True)
class _Pending:
    """What the next commit writes."""

    rows: list[RequestRow] = field(default_factory=list)
    hours: dict[HourKey, HourValue] = field(default_factory=dict)
    device_hours: dict[DeviceHourKey, int] = field(default_factory=dict)
    counters: dict[str, dict[Labels, float]] = field(default_factory=dict)
    histograms: dict[str, dict[Labels, HistogramValue]] = field(default_factory=dict)
    clock_pair: ClockPair | None = None


class Keeper:
    """Takes items from any thread by `put`; `step` is called by one."""

    def __init__(
        self,
        *,
        clock: Clock,
        metering: Metering,
        outbox: Outbox,
        store: Store | None,
        boot_id: str = "",
        version: str = "",
        host: str = "",
        tag_keys: frozenset[str] = frozenset(),
        talks_to: Callable[[int, str], bool] = lambda _pid, _url: False,
        health: Callable[[Books], frozenset[str]] = lambda _books: frozenset(),
        resolutions: Callable[[], Mapping[str, int]] = dict,
        device_states: Mapping[str, DeviceState] | None = None,
    ) -> None:
        self._clock = clock
        self._metering = metering
        self._books = metering.books
        self._views = Views(metering.books)
        self._outbox = outbox
        self._store = store
        self._boot_id = boot_id
        self._version = version
        self._host = host
        self._tag_keys = tag_keys
        self._talks_to = talks_to
        self._health = health
        self._resolutions = resolutions
        self._items: deque[Item] = deque()
        self._dropped_items = 0
        self._receipts = Receipts()
        self._pending = _Pending()
        self._unresolved: list[Incoming] = []
        self._urls: dict[str, str] = {}
        self._routes: dict[tuple[str, str], str] = {}
        self._gone: dict[str, int] = {}
        self._states = dict(device_states or {})
        self._last_readings: dict[str, Reading] = {}
        self._started_ns = clock.monotonic_ns()
        self._started_unix_ns = clock.unix_ns()
        self._offset_ns = self._started_unix_ns - self._started_ns
        self._commit_due_ns = self._push_due_ns = 0
        self._committed_ns = 0
        self._busy_until_ns = 0
        self._stale: frozenset[str] = frozenset()
        self.lacks: tuple[Lack, ...] = ()
        self.ledger_error = ""
        self.recent: list[tuple[Request, RequestEnergy]] = []
        self._pending.clock_pair = ClockPair(self._started_ns, self._started_unix_ns)
        metering.add_clock_pair(self._started_ns, self._started_unix_ns)
        self.snapshot = self._make_snapshot(self._started_unix_ns)

    def put(self, item: Item) -> None:
        """Hand in one item; from any thread, never blocks."""
        if len(self._items) < MAX_ITEMS:
            self._items.append(item)
        else:
            self._dropped_items += 1

    @property
    def is_busy(self) -> bool:
        """Whether requests are open, or a server says that it works."""
        return bool(self._metering.open_requests()) or self._clock.monotonic_ns() < self._busy_until_ns

    # One step.

    def step(self) -> None:
        """Do what has become due."""
        now_ns = self._clock.monotonic_ns()
        self._watch_clock(now_ns)
        while self._items:
            self._take(self._items.popleft())
        self._resolve_waiting(now_ns)
        self._end_lost(now_ns)
        self._book(now_ns)
        if (self._pending.rows and now_ns - self._committed_ns >= SOON_NS) or now_ns >= self._commit_due_ns:
            self._commit(now_ns)
        if now_ns >= self._push_due_ns:
            self._push_due_ns = now_ns + SOON_NS
            self._push_provisional()

    def finish(self) -> None:
        """Close everything that is open, at the end."""
        self.step()
        now_ns = self._clock.monotonic_ns()
        for incoming in self._unresolved:
            self._route(incoming, "")
        self._unresolved.clear()
        self._metering.finish()
        self._book(now_ns)
        self._commit(now_ns)

    def _watch_clock(self, now_ns: int) -> None:
        """Note a step of the wall clock: what is placed on it from now on is placed by the new one."""
        unix_ns = self._clock.unix_ns()
        step_ns = unix_ns - now_ns - self._offset_ns
        self._offset_ns += step_ns
        if abs(step_ns) >= CLOCK_STEP_NS:
            self._metering.feed(Event(now_ns, EventKind.CLOCK_STEP, detail=f"{step_ns / NS_PER_SECOND:+.3f} s"))
            self._metering.add_clock_pair(now_ns, unix_ns)
            self._pending.clock_pair = ClockPair(now_ns, unix_ns, "clock_step")

    def _take(self, item: Item) -> None:
        match item:
            case Reading():
                self._reading(item)
            case Incoming():
                self._incoming(item)
            case EngineSeen():
                self._urls[item.engine.engine] = item.url
                self._metering.engine_seen(item.engine, item.model, item.pids, item.t_ns, item.version)
            case ProducerGone():
                self._gone[item.producer] = self._clock.monotonic_ns() + GONE_NS
            case Sums():
                if item.running or item.output_tokens:
                    self._busy_until_ns = item.t1_ns + 2 * NS_PER_SECOND
                self._metering.feed(item)
            case _:
                self._metering.feed(item)

    def _reading(self, reading: Reading) -> None:
        before = self._states.pop(reading.device, None)
        if before is not None and reading.counter_uj is not None:
            self._bridge(before, reading)
        self._last_readings[reading.device] = reading
        self._metering.feed(reading)

    def _bridge(self, before: DeviceState, reading: Reading) -> None:
        """Book what a device used while no agent ran, once: unattributed, if its counter went on."""
        elapsed_ns = reading.t_ns - before.t_ns
        wraps = before.wraps_at_uj
        may_have_wrapped = wraps is not None and wraps < _GENEROUS_WATTS * elapsed_ns / 1000
        if before.boot_id != self._boot_id or elapsed_ns <= 0 or may_have_wrapped:
            return
        self._metering.feed(Reading(before.t_ns, reading.device, before.counter_uj, wraps_at_uj=wraps))
        self._metering.feed(Event(reading.t_ns, EventKind.READ_FAILURE, reading.device, detail="no agent ran"))

    # Requests.

    def _incoming(self, incoming: Incoming) -> None:
        self._gone.pop(incoming.producer, None)
        request = replace(
            incoming.request, tags={k: v for k, v in incoming.request.tags.items() if k in self._tag_keys}
        )
        incoming = replace(incoming, request=request)
        self._receipts.came(incoming.producer, incoming.seq)
        if request.arrival_ns < self._started_ns and self._is_kept(incoming):
            self._receipts.done(incoming.producer, incoming.seq)
            self._books.dropped("duplicate")
            return
        self._books.add("inferwatt_records_total", (), 1)
        engine = self._engine_for(incoming)
        if engine is None:
            self._unresolved.append(incoming)
        else:
            self._route(incoming, engine)

    def _is_kept(self, incoming: Incoming) -> bool:
        if self._store is None:
            return False
        with suppress(LedgerRetry):
            return self._store.known(incoming.producer, incoming.request.request)
        return False

    def _engine_for(self, incoming: Incoming) -> str | None:
        """Return the engine that computes a request: by its model's name, else by its process's connections."""
        route = (incoming.producer, incoming.request.model)
        known = self._routes.get(route)
        if known is not None:
            return known
        engines = [engine for engine in self._metering.engines.values() if engine.kind != "sdk"]
        named = [e for e in engines if e.model and e.model.casefold() == incoming.request.model.casefold()]
        found = (
            named
            if len(named) == 1
            else [e for e in named or engines if self._talks_to(incoming.pid, self._urls.get(e.engine, ""))]
        )
        if len(found) == 1:
            self._routes[route] = found[0].engine
            return found[0].engine
        return None

    def _resolve_waiting(self, now_ns: int) -> None:
        waiting, self._unresolved = self._unresolved, []
        for incoming in waiting:
            engine = self._engine_for(incoming)
            if engine is not None:
                self._route(incoming, engine)
            elif now_ns - incoming.received_ns >= RESOLVE_NS:
                self._route(incoming, "")
            else:
                self._unresolved.append(incoming)

    def _route(self, incoming: Incoming, engine: str) -> None:
        """Hand a request to its engine; where none is known, the process that asked is all that can be metered."""
        if not engine:
            engine = f"sdk:{incoming.pid}"
            self._routes[incoming.producer, incoming.request.model] = engine
            if engine not in self._metering.engines:
                local = Engine(engine, "", server="sdk", kind="sdk")
                self._metering.engine_seen(local, None, {incoming.pid}, incoming.received_ns)
        request = replace(incoming.request, engine=engine)
        taken = self._metering.request(request)
        if taken and request.end_ns is not None:
            self._receipts.upon(incoming.producer, incoming.seq, request.request)
        else:
            self._receipts.done(incoming.producer, incoming.seq)

    def _end_lost(self, now_ns: int) -> None:
        for producer in [name for name, due_ns in self._gone.items() if now_ns >= due_ns]:
            del self._gone[producer]
            self._metering.producer_gone(producer, now_ns - GONE_NS)
            self._receipts.forget(producer)
            self._routes = {route: engine for route, engine in self._routes.items() if route[0] != producer}

    # Keeping.

    def _book(self, now_ns: int) -> None:
        if self._dropped_items:
            self._books.add("inferwatt_records_dropped_total", ("overload",), self._dropped_items)
            self._dropped_items = 0
        ticks, requests = self._metering.take()
        for tick in ticks:
            self._views.tick(tick)
            self._count_hours(tick)
        for request, energy in requests:
            self._book_request(request, energy, now_ns)

    def _book_request(self, request: Request, energy: RequestEnergy, now_ns: int) -> None:
        end_ns = now_ns if request.end_ns is None else request.end_ns
        end_unix_ns = end_ns + self._offset_ns
        self._books.request(request, energy, end_unix_ns / NS_PER_SECOND)
        self._views.request(request, energy, end_unix_ns / NS_PER_SECOND)
        engine = self._metering.engines.get(request.engine)
        row = RequestRow(
            request=request,
            energy=energy if energy.parts else None,
            server=engine.server if engine else "",
            end_unix_ns=end_unix_ns,
            arrival_unix_ns=request.arrival_ns + self._offset_ns,
        )
        if len(self._pending.rows) < MAX_PENDING_ROWS:
            self._pending.rows.append(row)
            self._books.add("inferwatt_ledger_rows_total", (), 1)
            self.recent.append((request, energy))
        else:
            self._books.dropped("ledger")

    def _count_hours(self, tick: TickEnergy) -> None:
        hour_unix = (tick.t1_ns + self._offset_ns) // NS_PER_SECOND // 3600 * 3600
        device = self._books.devices[tick.device]
        key = DeviceHourKey(hour_unix, device.device, device.domain, device.provenance.value)
        hours = self._pending.device_hours
        hours[key] = hours.get(key, 0) + tick.energy_uj
        for account, engine, uj in accounts_of(tick):
            if uj:
                self._count_account(hour_unix, account, engine, device, uj)

    def _count_account(self, hour_unix: int, account: str, engine: str, device: Device, uj: int) -> None:
        known = self._metering.engines.get(engine)
        server, model = (known.server, known.model) if known else ("", "")
        key = HourKey(hour_unix, server, model, "", device.component.value, device.provenance.value, account)
        before = self._pending.hours.get(key, HourValue(0))
        self._pending.hours[key] = before._replace(
            energy_uj=before.energy_uj + uj, systematic_uj=before.systematic_uj + uj * device.systematic_ratio
        )

    def _commit(self, now_ns: int) -> None:
        """Commit what is pending; then, and only then, acknowledge and show it."""
        self._commit_due_ns = now_ns + COMMIT_NS
        self._committed_ns = now_ns
        self._describe(now_ns)
        self._merge_changes()
        if self._store is not None and not self._try_commit(self._store):
            self.snapshot = self._make_snapshot(self._clock.unix_ns())
            return
        settled = self.recent
        self._pending, self.recent = _Pending(), []
        finals: dict[str, list[RequestEnergy]] = {}
        for request, energy in settled:
            self._receipts.settled(request.request)
            if request.producer:
                finals.setdefault(request.producer, []).append(energy)
        for producer, energies in finals.items():
            self._outbox.push(producer, energies)
        for producer, seq in self._receipts.due():
            self._outbox.ack(producer, seq)
        self.snapshot = self._make_snapshot(self._clock.unix_ns())

    def _try_commit(self, store: Store) -> bool:
        pending = self._pending
        batch = LedgerBatch(
            rows=pending.rows,
            hours=pending.hours,
            device_hours=pending.device_hours,
            counters=pending.counters,
            histograms=pending.histograms,
            device_states=self._device_states(),
            clock_pair=pending.clock_pair,
        )
        try:
            store.commit(batch)
        except LedgerRetry as exc:
            self.ledger_error = str(exc)
            self._books.add("inferwatt_ledger_errors_total", (), 1)
            self._books.gauge("inferwatt_ledger_pending_rows", (), len(pending.rows))
            return False
        self.ledger_error = ""
        self._books.gauge("inferwatt_ledger_pending_rows", (), 0)
        return True

    def _merge_changes(self) -> None:
        counters, histograms = self._books.take_changes()
        for name, series in counters.items():
            self._pending.counters.setdefault(name, {}).update(series)
        for name, rows in histograms.items():
            self._pending.histograms.setdefault(name, {}).update(rows)

    def _device_states(self) -> list[DeviceState]:
        return [
            DeviceState(name, self._boot_id, reading.counter_uj, reading.t_ns, reading.wraps_at_uj)
            for name, reading in self._last_readings.items()
            if reading.counter_uj is not None and self._books.devices[name].provenance in _BRIDGED_PROVENANCES
        ]

    # Showing.

    def _describe(self, now_ns: int) -> None:
        """Set the gauges and the figures of the last window."""
        self._views.mark(now_ns)
        open_by_engine: dict[str, int] = {}
        for request in self._metering.open_requests():
            open_by_engine[request.engine] = open_by_engine.get(request.engine, 0) + 1
        self._books.open_requests(open_by_engine)
        self._books.reconcile(now_ns, self._resolutions())
        self._stale = self._health(self._books)

    def _make_snapshot(self, unix_ns: int) -> Snapshot:
        live = self._views.live(
            unix_seconds=unix_ns / NS_PER_SECOND,
            started_unix_seconds=self._started_unix_ns / NS_PER_SECOND,
            version=self._version,
            host=self._host,
            stale=self._stale,
        )
        self._books.forget("inferwatt_device_power_watts")
        for view in live.devices:
            if view.power_watts is not None:
                labels = (view.device, view.domain, view.provenance)
                self._books.gauge("inferwatt_device_power_watts", labels, view.power_watts)
        return Snapshot(
            values={name: dict(series) for name, series in self._books.values.items()},
            histograms={name: dict(series) for name, series in self._books.histograms.items()},
            live=self._with_lacks(live),
        )

    def _with_lacks(self, live: LiveView) -> LiveView:
        lacks = self.lacks
        if self.ledger_error:
            what, _, rest = self.ledger_error.partition("\n")
            lacks = (*lacks, Lack(what, "the ledger", rest.rpartition("fix:")[2].strip() or "free disk space"))
        if self._metering.recorder_error:
            lacks = (
                *lacks,
                Lack(f"the recording ended: {self._metering.recorder_error}", "--record", "free disk space"),
            )
        return replace(live, lacks=lacks)

    def _push_provisional(self) -> None:
        energies: dict[str, list[RequestEnergy]] = {}
        for request in self._metering.open_requests():
            energy = self._metering.energy(request.request) if request.producer else None
            if energy is not None and energy.parts:
                energies.setdefault(request.producer, []).append(energy)
        for producer, known in energies.items():
            self._outbox.push(producer, known)
