"""The agent's desk: what the threads bring is metered, kept, acknowledged and shown, in this order.

`step` is the whole work of the agent's loop without the loop, so that a simulation can drive it with a fake clock, a
fake inbox and a fake disk. Figures are shown, and records acknowledged, only after the ledger has committed them: a
counter that was seen can never fall, whenever the agent is killed.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from inferwatt.books import Books
from inferwatt.clients.carbon import Intensity
from inferwatt.clock import Clock
from inferwatt.conditions import Conditions
from inferwatt.engines.plugged import Ends, PluginSeen, Steps
from inferwatt.engines.session import Incoming
from inferwatt.engines.vllm_server import Found
from inferwatt.engines.watch import EngineSeen
from inferwatt.errors import LedgerRetry
from inferwatt.gaps import Gaps
from inferwatt.ledger.rows import ClockPair, DeviceState, RequestRow
from inferwatt.managed import Managed
from inferwatt.metering import Metering
from inferwatt.pending import Pending, row_of
from inferwatt.plugins import Plugins
from inferwatt.ports import Item, Outbox, ProducerGone, Store, is_kept
from inferwatt.receipts import Receipts
from inferwatt.records import Condition, Engine, Event, Reading, Request, RequestEnergy, Sums
from inferwatt.routing import SDK_KIND, Routes
from inferwatt.showing import Showing
from inferwatt.snapshot import Lack
from inferwatt.telling import Telling
from inferwatt.units import NS_PER_SECOND
from inferwatt.views import Views
from inferwatt.wall import Wall

COMMIT_NS = NS_PER_SECOND
"""How often totals are committed and shown while nothing ends."""
SOON_NS = NS_PER_SECOND // 5
"""How soon the rows of ended requests are committed, and how often joules are told to the SDK."""
GONE_NS = 10 * NS_PER_SECOND
"""How long a lost producer may take to come back before its open requests are ended."""
MAX_ITEMS = 200_000
"""What may wait for the loop; beyond, readings and records are dropped and counted."""


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
        server_of: Callable[[int, int | None], Found | None] = lambda _pid, _port: None,
        health: Callable[[Books], frozenset[str]] = lambda _books: frozenset(),
        resolutions: Callable[[], Mapping[str, int]] = dict,
        device_states: Mapping[str, DeviceState] | None = None,
        on_kept: Callable[[Sequence[RequestRow]], object] = lambda _rows: None,
        carbon: Intensity | None = None,
    ) -> None:
        self._clock = clock
        self._metering = metering
        self._books = metering.books
        self._views = Views(metering.books)
        self._conditions = Conditions(metering.books, metering.feed)
        self._store, self._tag_keys, self._on_kept = store, tag_keys, on_kept
        self._items: deque[Item] = deque()
        self._dropped_items = 0
        self._receipts, self._pending = Receipts(), Pending()
        self._routes = Routes(lambda: metering.engines.values(), talks_to)
        self._gone, self._given_up = dict[str, int](), set[str]()
        self._gaps = Gaps(boot_id, device_states or {})
        self._started_ns, self._started_unix_ns = clock.monotonic_ns(), clock.unix_ns()
        self._managed = Managed(metering.books, carbon)
        self._plugins = Plugins(metering, self._receipts, server_of, self._started_ns, self._routes.add_server, store)
        self._telling = Telling(outbox, metering, self._receipts, self._plugins)
        self._wall = Wall(self._started_unix_ns - self._started_ns)
        self._commit_due_ns = self._push_due_ns = self._committed_ns = self._busy_until_ns = 0
        self._showing = Showing(metering, self._views, self._started_unix_ns, version, host, health, resolutions)
        self._pending.clock_pair = ClockPair(self._started_ns, self._started_unix_ns)
        metering.add_clock_pair(self._started_ns, self._started_unix_ns)
        self.snapshot = self._showing.snapshot(self._started_unix_ns)

    @property
    def ledger_error(self) -> str:
        """Why the last commit failed; empty where it did not."""
        return self._showing.ledger_error

    @property
    def silent_ns(self) -> int:
        """How long nothing was committed, nanoseconds."""
        return self._clock.monotonic_ns() - max(self._committed_ns, self._started_ns)

    def set_lacks(self, lacks: tuple[Lack, ...]) -> None:
        """Say what is lacking, as the page shows it."""
        self._showing.lacks, self._showing.engines = (*lacks, *self._plugins.lacks()), self._plugins.told()

    def put(self, item: Item) -> None:
        """Hand in one item; from any thread, never blocks.

        Raises:
            OverflowError: too much waits already to take a request in: its producer keeps it, and sends it again.
        """
        if len(self._items) < MAX_ITEMS:
            self._items.append(item)
            return
        self._dropped_items += 1
        if isinstance(item, Incoming | Steps | Ends):
            raise OverflowError("too many records wait for the desk")

    @property
    def is_busy(self) -> bool:
        """Whether requests are open, or a server says that it works."""
        return bool(self._metering.open_requests()) or self._clock.monotonic_ns() < self._busy_until_ns

    # One step.

    def step(self) -> None:
        """Do what has become due."""
        now_ns = self._clock.monotonic_ns()
        if (note := self._wall.look(now_ns, self._clock.unix_ns())) is not None:
            self._metering.feed(note.event)
            self._metering.add_clock_pair(now_ns, note.pair.unix_ns)
            self._pending.clock_pair = note.pair
        while self._items:
            self._take(self._items.popleft())
        self._meter_waiting(now_ns)
        self._end_lost(now_ns)
        self._metering.beat(now_ns)
        if now_ns >= self._commit_due_ns or self._metering.has_settled:
            self._book()
        if now_ns >= self._commit_due_ns or (self._pending.rows and now_ns - self._committed_ns >= SOON_NS):
            self._commit(now_ns)
        if now_ns >= self._push_due_ns:
            self._push_due_ns = now_ns + SOON_NS
            self._telling.provisional()

    def finish(self) -> None:
        """Close everything that is open, at the end."""
        self.step()
        now_ns = self._clock.monotonic_ns()
        self._meter_waiting(now_ns, all_of_them=True)
        self._metering.finish()
        self._book()
        self._commit(now_ns)

    def _take(self, item: Item) -> None:
        match item:
            case Reading():
                self._reading(item)
            case Incoming():
                self._incoming(item)
            case EngineSeen():
                self._routes.add_server(item.engine.engine, item.url)
                self._metering.engine_seen(item.engine, item.model, item.pids, item.t_ns, item.version, item.place)
            case Condition() | Event():
                self._conditions.take(item)
            case ProducerGone():
                self._gone[item.producer] = self._clock.monotonic_ns() + GONE_NS
            case Sums():
                self._sums(item)
            case PluginSeen() | Steps() | Ends():
                self._gone.pop(item.producer, None)
                self._plugins.take(item)
            case _:
                self._metering.feed(item)

    def _reading(self, reading: Reading) -> None:
        for record in (*self._gaps.before(reading), reading):
            self._metering.feed(record)

    def _sums(self, sums: Sums) -> None:
        if sums.running or sums.output_tokens or sums.units or sums.steps:
            self._busy_until_ns = sums.t1_ns + 2 * NS_PER_SECOND
        self._plugins.sums(sums)

    # Requests.

    def _incoming(self, incoming: Incoming) -> None:
        self._gone.pop(incoming.producer, None)
        request = incoming.request
        if not request.tags.keys() <= self._tag_keys:
            request = replace(request, tags={k: v for k, v in request.tags.items() if k in self._tag_keys})
            incoming = replace(incoming, request=request)
        self._receipts.came(incoming.producer, incoming.seq, is_last=incoming.is_last)
        may_be_kept = request.arrival_ns < self._started_ns or incoming.producer in self._given_up
        if may_be_kept and is_kept(self._store, incoming.producer, incoming.request.request):
            self._telling.again(incoming, self._store)
            self._books.dropped("duplicate")
            return
        self._books.add("inferwatt_records_total", (), 1)
        if incoming.request.provider:
            self._managed.take(incoming, self._pending, self._receipts, self._wall.offset_ns)
            return
        if self._plugins.is_engine(incoming.producer):
            for each, of in self._plugins.request(incoming):
                self._meter(each, of)
            return
        incoming = self._plugins.named(incoming)
        if (engine := self._routes.engine_of(incoming)) is not None:
            self._meter(incoming, engine)

    def _meter_waiting(self, now_ns: int, *, all_of_them: bool = False) -> None:
        """Meter requests whose wait for an engine is over; without one, the process that asked is metered."""
        for incoming, engine in self._routes.ready(now_ns, all_of_them=all_of_them):
            if engine not in self._metering.engines and engine == f"{SDK_KIND}:{incoming.pid}":
                local = Engine(engine, "", server=SDK_KIND, kind=SDK_KIND)
                self._metering.engine_seen(local, None, {incoming.pid}, incoming.received_ns)
            self._meter(incoming, engine)
        for incoming, engine in self._plugins.ready(now_ns, all_of_them=all_of_them):
            self._meter(incoming, engine)

    def _meter(self, incoming: Incoming, engine: str) -> None:
        is_engines = self._plugins.is_engine(incoming.producer)
        if not is_engines and self._plugins.is_witness(incoming, engine):
            self._plugins.witness(incoming)
            return
        taken = self._metering.request(incoming.request, engine, keeps_model=is_engines)
        if taken and incoming.request.end_ns is not None:
            self._receipts.upon(incoming.producer, incoming.seq, incoming.request.request)
        else:
            self._receipts.done(incoming.producer, incoming.seq)
            if is_engines and incoming.request.end_ns is not None:  # nobody may wait for it
                self._receipts.settled(incoming.request.request)

    def _end_lost(self, now_ns: int) -> None:
        for producer in [name for name, due_ns in self._gone.items() if now_ns >= due_ns]:
            del self._gone[producer]
            self._given_up.add(producer)
            self._metering.producer_gone(producer, now_ns - GONE_NS)
            self._plugins.forget(producer, now_ns)
            self._receipts.forget(producer)
            self._routes.forget(producer)

    # Keeping.

    def _book(self) -> None:
        self._books.count_to("inferwatt_records_dropped_total", ("overload",), self._dropped_items)
        settled = self._metering.take()
        for tick in settled.ticks:
            self._views.tick(tick)
            self._pending.add_tick(tick, self._books, tick.t1_ns + self._wall.offset_ns)
        for moved in settled.corrections:
            self._pending.add_tick(moved, self._books, moved.t1_ns + self._wall.offset_ns)
        for request, energy in settled.requests:
            if request.end_ns is not None:  # one that is open at the end is the next agent's, with its end
                self._book_request(request, energy)
        for _ in self._pending.correct(settled.corrected, self._store):
            self._books.dropped("ledger")

    def _book_request(self, request: Request, energy: RequestEnergy) -> None:
        row = row_of(request, energy, self._metering.engines.get(request.engine), self._wall.offset_ns)
        self._books.request(request, energy, row.end_unix_ns / NS_PER_SECOND)
        self._views.request(request, energy, row.end_unix_ns / NS_PER_SECOND)
        if self._pending.add_row(row, energy):
            self._books.add("inferwatt_ledger_rows_total", (), 1)
        else:
            self._books.dropped("ledger")

    def _commit(self, now_ns: int) -> None:
        """Commit what is pending; then, and only then, acknowledge it, and show it.

        While the disk takes nothing the figures go on to be shown, with the lack of a ledger beside them: an agent
        that is killed then takes back what it has shown since.
        """
        if now_ns >= self._commit_due_ns:
            self._commit_due_ns = now_ns + COMMIT_NS
        self._committed_ns = now_ns
        self._showing.describe(now_ns)
        self._pending.take_changes(self._books)
        if self._store is None or self._try_commit(self._store):
            kept, self._pending = self._pending, Pending()
            self._telling.settled(kept.settled)
            self._on_kept([*kept.rows, *kept.corrections])
        self.snapshot = self._showing.snapshot(self._clock.unix_ns())

    def _try_commit(self, store: Store) -> bool:
        try:
            committed = store.commit(
                self._pending.batch(self._gaps.states(self._books.devices, self._metering.closed_counters()))
            )
        except LedgerRetry as exc:
            self._showing.ledger_error = str(exc)
            self._books.add("inferwatt_ledger_errors_total", (), 1)
            self._books.gauge("inferwatt_ledger_pending_rows", (), len(self._pending.rows))
            return False
        for _ in committed.rejected:
            self._books.dropped("ledger")
        self._showing.ledger_error = ""
        self._books.gauge("inferwatt_ledger_pending_rows", (), 0)
        return True
