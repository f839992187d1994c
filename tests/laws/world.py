"""The world around an agent: a disk, devices and clients that fail at random, all made from one seed."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from inferwatt.books import Books
from inferwatt.engines.plugged import Plugged
from inferwatt.engines.session import Incoming, Reception
from inferwatt.engines.watch import EngineSeen
from inferwatt.errors import LedgerRetry, SourceGone, SourceRetry
from inferwatt.keeper import Keeper
from inferwatt.ledger.rows import Committed, LedgerBatch, RequestRow
from inferwatt.metering import Metering
from inferwatt.ports import ProducerGone
from inferwatt.rates import Rates
from inferwatt.records import (
    Component,
    Device,
    Engine,
    Model,
    Provenance,
    Reading,
    RequestEnergy,
    Sums,
    Usage,
)
from inferwatt.sources.sampler import Sampler
from inferwatt.testing import FakeClock
from inferwatt.wire_rates import rates_message
from tests.laws.client import Client

MS = 1_000_000
SECOND = 1000 * MS
SHOWN = ("inferwatt_device_energy_joules_total", "inferwatt_energy_joules_total", "inferwatt_requests_total")


@dataclass
class Disk:
    """A disk that outlives agents: what is committed is there, and commits fail now and then."""

    chance: random.Random
    rows: dict[tuple[str, str], RequestRow] = field(default_factory=dict)
    counters: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)
    failing: bool = False

    def commit(self, batch: LedgerBatch) -> Committed:
        """Keep a batch whole, or nothing of it."""
        if self.failing or self.chance.random() < 0.02:
            raise LedgerRetry("the disk is full", where="fake disk", fix="free space")
        for row in batch.rows:
            self.rows.setdefault((row.request.producer, row.request.request), row)
        for name, series in batch.counters.items():
            for labels, value in series.items():
                assert value >= self.counters.get(name, {}).get(labels, 0), f"{name}{labels} fell on disk"
                self.counters.setdefault(name, {})[labels] = value
        return Committed(batch=1 if batch.rows else None, rows=len(batch.rows))

    def known(self, producer: str, request: str) -> bool:
        """Return whether the request was committed."""
        return (producer, request) in self.rows

    def find(self, alias: str) -> list[RequestRow]:
        """Return the rows of a request."""
        return [row for (_, request), row in self.rows.items() if request == alias]


@dataclass
class Counter:
    """A device whose driver fails, resets, wraps, stands still and goes away."""

    device: Device
    chance: random.Random
    period_ns: int = 0
    name: str = "fake"
    value_uj: int = 0
    last_ns: int = 0
    mood: str = "run"
    wraps_at_uj: int | None = None

    def read(self, now_ns: int) -> Reading:
        """Return the counter, or fail."""
        if self.chance.random() < 0.02:
            self.mood = self.chance.choice(["run", "run", "still", "fail", "reset", "gone"])
        elapsed_ns, self.last_ns = now_ns - self.last_ns, now_ns
        if self.mood == "reset":
            self.value_uj, self.mood = 0, "run"
        if self.mood == "gone":
            self.mood = "run"
            raise SourceGone("it fell off the bus", where="fake", fix="none")
        if self.mood == "fail":
            raise SourceRetry("not now", where="fake", fix="none")
        if self.mood != "still":
            self.value_uj += elapsed_ns * self.chance.randint(20, 300) // 1000
        if self.wraps_at_uj:
            self.value_uj %= self.wraps_at_uj
        return Reading(now_ns, self.device.device, counter_uj=self.value_uj, wraps_at_uj=self.wraps_at_uj)

    def close(self) -> None:
        """Do nothing."""


@dataclass
class FakeUsage:
    """Shares of the CPU at random."""

    chance: random.Random
    last_ns: int = 0

    def read(self, now_ns: int) -> tuple[Usage, ...]:
        """Return who held the CPU since the last read."""
        before_ns, self.last_ns = self.last_ns, now_ns
        if not before_ns or now_ns <= before_ns:
            return ()
        shares = {77: self.chance.random() * 0.5, 99: self.chance.random() * 0.3}
        return (Usage(before_ns, now_ns, "cpu", shares, self.chance.random() * 0.2),)


class Outbox:
    """Answers through the real sessions."""

    def __init__(self, reception: Reception) -> None:
        self.reception = reception

    def ack(self, producer: str, seq: int) -> None:
        """Acknowledge."""
        self.reception.ack(producer, seq)

    def push(self, producer: str, energies: Iterable[RequestEnergy]) -> None:
        """Tell joules."""
        self.reception.push(producer, list(energies))

    def rates(self, producer: str, rates: Iterable[Rates]) -> None:
        """Tell what tokens cost."""
        self.reception.tell(producer, rates_message(rates))


class Life:
    """One life of the agent, from start to kill -9."""

    def __init__(self, clock: FakeClock, disk: Disk, devices: list[Counter], chance: random.Random) -> None:
        books = Books()
        books.restore(disk.counters, {})
        self.metering = Metering(books, hold_ns=1300 * MS)
        for source in devices:
            self.metering.add_device(source.device)
        self.metering.own_process(99)
        self.reception = Reception(self._emit, agent="a" * 32, boot_id="boot", gone=self._gone)
        self.keeper = Keeper(
            clock=clock, metering=self.metering, outbox=Outbox(self.reception), store=disk, boot_id="boot"
        )
        self.sampler = Sampler(devices, FakeUsage(chance), clock, self.keeper.put, rediscover=lambda: list(devices))

    def _emit(self, incoming: Incoming | Plugged) -> None:
        self.keeper.put(incoming)

    def _gone(self, producer: str) -> None:
        self.keeper.put(ProducerGone(producer))

    def check(self) -> None:
        """The law holds for every device, and for what the page shows."""
        for accounts in self.metering.device_totals.values():
            assert accounts["measured"] == sum(uj for name, uj in accounts.items() if name != "measured")
        values = self.keeper.snapshot.values
        by_device = sum(values.get("inferwatt_device_energy_joules_total", {}).values())
        by_phase = sum(values.get("inferwatt_energy_joules_total", {}).values())
        assert by_device == by_phase
        tenants = sum(values.get("inferwatt_tenant_energy_joules_total", {}).values())
        requests = sum(
            uj
            for labels, uj in values.get("inferwatt_energy_joules_total", {}).items()
            if labels[2] in {"prefill", "decode"}
        )
        assert tenants == requests


class World:
    """What outlives an agent: the clock, the disk, the devices, the clients, and what was shown to the world."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = FakeClock(monotonic_ns=5 * SECOND)
        self.disk = Disk(self.chance)
        gpu = Device("gpu-0", max_watts=1000.0)
        cpu = Device("cpu", domain="package", component=Component.CPU, provenance=Provenance.MODELLED, max_watts=1000.0)
        wraps_at_uj = self.chance.choice([None, 500_000_000])
        self.devices = [Counter(gpu, self.chance, wraps_at_uj=wraps_at_uj), Counter(cpu, self.chance)]
        self.clients = [Client(number + 1, self.chance) for number in range(2)]
        self.shown: dict[tuple[str, tuple[str, ...]], float] = {}

    def start(self) -> Life:
        """Start an agent beside a server that runs already."""
        life = Life(self.clock, self.disk, self.devices, self.chance)
        engine = Engine("llamacpp:1", "m", server="llamacpp:1", kind="llamacpp")
        pids = frozenset({77})
        life.keeper.put(EngineSeen(self.clock.monotonic_ns(), engine, Model("m"), pids, "http://x:1", "1"))
        return life

    def moment(self, life: Life) -> None:
        """Let a moment pass in which anything may happen."""
        chance = self.chance
        self.clock.advance(chance.choice([20, 50, 100, 100, 300]) * MS)
        now_ns = self.clock.monotonic_ns()
        life.sampler.poll(now_ns)
        for client in self.clients:
            self._live(client, life, now_ns)
        if chance.random() < 0.2:
            life.keeper.put(Sums(now_ns - SECOND, now_ns, "llamacpp:1", 5, 0, 5, chance.randint(0, 3)))
        if chance.random() < 0.02:
            self.clock.step_wall(chance.choice([-3600, 3600]) * SECOND)
        self.disk.failing = chance.random() < (0.9 if self.disk.failing else 0.02)
        life.keeper.step()
        life.check()
        for client in self.clients:
            client.listen()
        self._look(life)

    def _live(self, client: Client, life: Life, now_ns: int) -> None:
        if client.session is None and self.chance.random() < 0.7:
            client.connect(life.reception, now_ns)
        elif client.session is not None and self.chance.random() < 0.02:
            life.reception.close(client.session)
            client.session = None
        if self.chance.random() < 0.4:
            client.act(now_ns)

    def kill(self) -> None:
        """End the agent as kill -9 does."""
        for client in self.clients:
            client.session = None

    def _look(self, life: Life) -> None:
        """A counter that was shown while the disk worked is never below that again, whatever dies."""
        if life.keeper.ledger_error:
            return
        for name in SHOWN:
            for labels, value in life.keeper.snapshot.values.get(name, {}).items():
                assert value >= self.shown.get((name, labels), 0), f"{name}{labels} fell"
                self.shown[name, labels] = value
