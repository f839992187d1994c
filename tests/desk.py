"""A desk in a test: the keeper over a fake clock, a disk and an outbox in memory, and clients that say a thing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from inferwatt.books import Books
from inferwatt.engines.session import Incoming
from inferwatt.engines.watch import EngineSeen
from inferwatt.errors import LedgerRetry
from inferwatt.keeper import Keeper
from inferwatt.ledger.rows import Committed, DeviceState, LedgerBatch, RequestRow
from inferwatt.metering import Metering
from inferwatt.rates import Rates
from inferwatt.records import Device, Engine, Model, Outcome, Reading, Request, RequestEnergy
from inferwatt.snapshot import HistogramValue
from inferwatt.testing import FakeClock

MS = 1_000_000
SECOND = 1000 * MS
PRODUCER = "p" * 32
SERVER = Engine("vllm:1", "m", ("gpu-0",), server="vllm:1", kind="vllm")


@dataclass
class Disk:
    """A disk that outlives desks: what was committed is there; a full one takes nothing."""

    full: bool = False
    asked: int = 0
    batches: list[LedgerBatch] = field(default_factory=list)
    rows: dict[tuple[str, str], RequestRow] = field(default_factory=dict)
    counters: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)
    histograms: dict[str, dict[tuple[str, ...], HistogramValue]] = field(default_factory=dict)
    states: dict[str, DeviceState] = field(default_factory=dict)

    def commit(self, batch: LedgerBatch) -> Committed:
        """Keep a batch whole, or nothing of it."""
        self.asked += 1
        if self.full:
            raise LedgerRetry("the disk is full", where="fake disk", fix="free some space")
        self.batches.append(replace(batch, rows=tuple(batch.rows)))
        for row in batch.rows:
            self.rows.setdefault((row.request.producer, row.request.request), row)
        for name, series in batch.counters.items():
            self.counters.setdefault(name, {}).update(series)
        for name, values in batch.histograms.items():
            self.histograms.setdefault(name, {}).update(values)
        self.states |= {state.device: state for state in batch.device_states}
        return Committed(batch=len(self.batches), rows=len(batch.rows))

    def known(self, producer: str, request: str) -> bool:
        """Return whether a request was committed."""
        return (producer, request) in self.rows

    def find(self, alias: str) -> list[RequestRow]:
        """Return the rows of a request."""
        return [row for (_, request), row in self.rows.items() if request == alias]


@dataclass
class Told:
    """What producers were told, in order."""

    acks: list[tuple[str, int]] = field(default_factory=list)
    energies: list[RequestEnergy] = field(default_factory=list)
    rated: dict[str, list[Rates]] = field(default_factory=dict)

    def ack(self, producer: str, seq: int) -> None:
        """Note an acknowledgement."""
        self.acks.append((producer, seq))

    def push(self, producer: str, energies: Iterable[RequestEnergy]) -> None:
        """Note joules."""
        self.energies.extend(energies)

    def rates(self, producer: str, rates: Iterable[Rates]) -> None:
        """Note what tokens cost."""
        self.rated.setdefault(producer, []).extend(rates)


class Desk:
    """One life of a keeper, over a 100 W device that is read each 100 ms; the clock and the disk outlive it."""

    def __init__(self, clock: FakeClock | None = None, disk: Disk | None = None, **options: Any) -> None:
        self.clock = clock or FakeClock(monotonic_ns=100 * SECOND)
        self.disk = disk or Disk()
        self.told = Told()
        self.reads = True
        self.seqs: dict[str, int] = {}
        self.books = Books()
        self.books.restore(self.disk.counters, self.disk.histograms)
        self.metering = Metering(self.books, hold_ns=300 * MS)
        self.metering.add_device(Device("gpu-0", max_watts=1000.0))
        self.keeper = Keeper(
            **{
                "clock": self.clock, "metering": self.metering, "outbox": self.told, "store": self.disk,
                "boot_id": "boot", "device_states": self.disk.states, **options,
            }
        )  # fmt: skip
        self.serve(SERVER)

    @property
    def now(self) -> int:
        """The monotonic time, ns."""
        return self.clock.monotonic_ns()

    def serve(self, engine: Engine, pids: Iterable[int] = (50,)) -> None:
        """A server is seen."""
        url = f"http://{engine.engine}"
        self.keeper.put(EngineSeen(self.now, engine, Model(engine.model), frozenset(pids), url, "1"))

    def say(self, *requests: Request, seq: int | None = None, pid: int = 7, is_last: bool = True) -> int:
        """Let a client say something in one message; return the message's number."""
        producer = requests[0].producer
        seq = self.seqs[producer] = seq or self.seqs.get(producer, 0) + 1
        for place, request in enumerate(requests, 1):
            last = is_last and place == len(requests)
            self.keeper.put(Incoming(producer, pid, seq, request, self.now, last))
        return seq

    def live(self, seconds: float) -> None:
        """Let time pass, a step each 100 ms."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(100 * MS)
            if self.reads:
                self.keeper.put(Reading(self.now, "gpu-0", counter_uj=self.now // 10))
            self.keeper.step()

    def shown(self, name: str) -> Mapping[tuple[str, ...], float]:
        """Return a family of the published snapshot; of a counter what has counted anything yet."""
        series = self.keeper.snapshot.values.get(name, {})
        return {labels: value for labels, value in series.items() if value or not name.endswith("_total")}

    def row(self, name: str) -> RequestRow:
        """Return the committed row of a request."""
        return self.disk.rows[PRODUCER, name]


def opened(name: str, at_ns: int, **more: Any) -> Request:
    """Return a request that has begun."""
    return Request(name, **{"model": "m", "producer": PRODUCER, "arrival_ns": at_ns, **more})


def ended(name: str, at_ns: int, end_ns: int, **more: Any) -> Request:
    """Return a request that has ended, with 10 output tokens."""
    more = {"output_tokens": 10, "outcome": Outcome.FINISHED, **more}
    return opened(name, at_ns, end_ns=end_ns, **more)
