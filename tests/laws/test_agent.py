"""The whole agent on a fake clock, with drivers, sockets and a disk that fail at random: a thousand short runs.

Each run is made from its seed alone: a failing one is printed, and `INFERWATT_SEED=n pytest tests/laws/test_agent.py`
replays it.
"""

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from inferwatt import wire
from inferwatt.books import Books
from inferwatt.endpoint import Peer
from inferwatt.engines.session import Incoming, Reception, Session
from inferwatt.engines.watch import EngineSeen
from inferwatt.errors import LedgerRetry, SourceGone, SourceRetry
from inferwatt.keeper import Keeper
from inferwatt.ledger.rows import Committed, LedgerBatch, RequestRow
from inferwatt.metering import Metering
from inferwatt.ports import ProducerGone
from inferwatt.records import (
    Component,
    Device,
    Engine,
    Model,
    Outcome,
    Provenance,
    Reading,
    Request,
    RequestEnergy,
    Sums,
    Usage,
)
from inferwatt.sources.sampler import Sampler
from inferwatt.testing import FakeClock

MS = 1_000_000
SECOND = 1000 * MS
SHOWN = ("inferwatt_device_energy_joules_total", "inferwatt_energy_joules_total", "inferwatt_requests_total")
RUNS = int(os.environ.get("INFERWATT_RUNS", "1000"))


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


class Client:
    """A producer in another process, as the SDK is: it keeps what is not acknowledged and sends it again."""

    def __init__(self, number: int, chance: random.Random) -> None:
        self.producer = f"{number:032x}"
        self.chance = chance
        self.seq = 0
        self.unacked: dict[int, list[Request]] = {}
        self.open: dict[str, Request] = {}
        self.acked: set[str] = set()
        self.made = 0
        self.session: Session | None = None
        self.answers = wire.Decoder()

    def connect(self, reception: Reception, now_ns: int) -> None:
        """Connect and send again what was not acknowledged."""
        self.session = reception.open(Peer(pid=77, uid=0, gid=0))
        self.answers = wire.Decoder()
        hello = {
            "t": "hello", "v": 1, "producer": self.producer, "kind": "sdk", "pid": 77, "boot_id": "boot",
            "monotonic_ns": now_ns, "unix_ns": now_ns,
        }  # fmt: skip
        self.session.feed(wire.encode(hello), now_ns)
        for seq, requests in list(self.unacked.items()):
            self._write(seq, requests, now_ns)
        if self.open:
            self.send(list(self.open.values()), now_ns)

    def send(self, requests: list[Request], now_ns: int) -> None:
        """Hand in records; they are kept until they are acknowledged."""
        self.seq += 1
        self.unacked[self.seq] = requests
        self._write(self.seq, requests, now_ns)

    def _write(self, seq: int, requests: list[Request], now_ns: int) -> None:
        if self.session is None:
            return
        message = {"t": "records", "seq": seq, "records": [wire.request_to_wire(r) for r in requests]}
        data = wire.encode(message)
        if self.chance.random() < 0.02:
            data = data[: self.chance.randint(0, len(data))]
            self.session.feed(data, now_ns)
            self.session = None
            return
        self.session.feed(data, now_ns)

    def act(self, now_ns: int) -> None:
        """Begin, go on with, or end a request."""
        if self.open and self.chance.random() < 0.5:
            name = self.chance.choice(list(self.open))
            request = self.open[name]
            if request.first_token_ns is None and self.chance.random() < 0.5:
                self.open[name] = replace(request, first_token_ns=now_ns)
            else:
                outcome = self.chance.choice(list(Outcome))
                tokens = self.chance.choice([None, 0, 5, 400])
                ended = replace(request, end_ns=now_ns, outcome=outcome, prompt_tokens=20, output_tokens=tokens)
                del self.open[name]
                self.send([ended], now_ns)
                return
            self.send([self.open[name]], now_ns)
        else:
            self.made += 1
            model = self.chance.choice(["m", "m", "other"])
            request = Request(f"r{self.made}", model=model, tenant=self.chance.choice("ab"), arrival_ns=now_ns)
            self.open[request.request] = request
            self.send([request], now_ns)

    def listen(self) -> None:
        """Take in acknowledgements."""
        if self.session is None:
            return
        data, self.session.out = bytes(self.session.out), bytearray()
        for message in self.answers.feed(data):
            if message["t"] == "ack":
                for seq in [s for s in self.unacked if s <= message["seq"]]:
                    self.acked |= {r.request for r in self.unacked.pop(seq) if r.end_ns is not None}


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

    def _emit(self, incoming: Incoming) -> None:
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


def run(seed: int) -> int:
    """Live through one run; return how many ended requests were acknowledged."""
    world = World(seed)
    life: Life | None = None
    for _ in range(world.chance.randint(30, 90)):
        life = life or world.start()
        world.moment(life)
        if world.chance.random() < 0.03:
            world.kill()
            life = None
    acked = {(client.producer, name) for client in world.clients for name in client.acked}
    kept = {(producer, name.rpartition(":")[2]) for producer, name in world.disk.rows}
    assert acked <= kept, f"acknowledged and lost: {sorted(acked - kept)}"
    return len(acked)


def test_a_thousand_runs_in_which_things_fail_at_random() -> None:
    """Conservation, counters that never fall, and no acknowledged record lost, in every run."""
    wanted = os.environ.get("INFERWATT_SEED")
    acknowledged = 0
    for seed in [int(wanted)] if wanted else range(RUNS):
        try:
            acknowledged += run(seed)
        except BaseException:
            print(f"\nfailing seed: INFERWATT_SEED={seed}")  # noqa: T201 - so that it can be replayed
            raise
    assert acknowledged > 0
