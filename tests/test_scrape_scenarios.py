"""What pages of servers do to joules: polls cost nothing, another GPU's idle is not charged, sums close to the µJ.

A scraper reads made servers' pages once a second, made GPUs are read each 100 ms, and the real meter joins both.
"""

from dataclasses import dataclass, field

import pytest

from inferwatt.books import Books
from inferwatt.engines.fetch import Answer
from inferwatt.engines.scrape import Emitted, EngineSeen, Scraper
from inferwatt.engines.servers import EnginesConfig, Target
from inferwatt.export.catalog import IDLE_RESIDENT, UNLISTED
from inferwatt.metering import Metering
from inferwatt.records import Device, Outcome, Reading, Request
from inferwatt.testing import FakeClock
from tests.engines.servers import FakeLlama

SECOND = 1_000_000_000
BEAT = SECOND // 10
ENERGY, MEASURED = "inferwatt_energy_joules_total", "inferwatt_device_energy_joules_total"


@dataclass
class Hall:
    """GPUs at a constant power each, and beside each a vLLM server that is configured to run on it."""

    watts: dict[str, float]
    clock: FakeClock = field(default_factory=FakeClock)
    servers: dict[str, FakeLlama] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    energies: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metering = Metering(Books())
        self.start_ns = self.clock.monotonic_ns()
        targets = []
        for gpu in self.watts:
            self.metering.add_device(Device(gpu))
            name = f"server-{gpu}"
            self.servers[f"http://{name}"] = FakeLlama()
            self.tokens[name] = 0
            targets.append(Target(name, f"http://{name}", "vllm", f"model-{gpu}", devices=(gpu,)))
        self.scraper = Scraper(
            targets,
            self.clock,
            self._emit,
            EnginesConfig(),
            fetch=lambda url, _timeout: self.servers[url],
            find_pids=lambda _url: frozenset(),
        )

    def _emit(self, item: Emitted) -> None:
        if isinstance(item, EngineSeen):
            self.metering.engine_seen(item.engine, item.model, item.pids, item.t_ns, item.version)
        else:
            self.metering.feed(item)

    def run(self, seconds: float) -> None:
        """Let time pass: devices are read each 100 ms, pages once a second."""
        for _ in range(round(seconds * 10)):
            now_ns = self.clock.monotonic_ns()
            for name, tokens in self.tokens.items():
                page = f'vllm:generation_tokens_total{{model_name="m"}} {tokens}\n'
                self.servers[f"http://{name}"].answers["/metrics"] = Answer(200, page.encode(), {})
            self.scraper.step(now_ns)
            for gpu, watts in self.watts.items():
                counter_uj = round(watts * (now_ns - self.start_ns) / 1000)
                self.metering.feed(Reading(now_ns, gpu, counter_uj=counter_uj))
            self._take()
            self.clock.advance(BEAT)

    def _take(self) -> None:
        self.energies |= {r.request: e.energy_uj / 1e6 for r, e in self.metering.take().requests}

    def ask(self, gpu: str, name: str, seconds: float, tokens: int) -> Request:
        """Begin a request and return what it is when it ends, `seconds` from now."""
        now_ns = self.clock.monotonic_ns()
        server = f"server-{gpu}"
        self.metering.request(Request(name, server, arrival_ns=now_ns))
        self.tokens[server] += tokens
        return Request(
            name,
            server,
            arrival_ns=now_ns,
            end_ns=now_ns + round(seconds * SECOND),
            prompt_tokens=0,
            output_tokens=tokens,
            outcome=Outcome.FINISHED,
        )

    def settle(self, *requests: Request) -> dict[str, float]:
        """Hand the ends in, let everything become final, and return each request's joules."""
        for request in requests:
            self.metering.request(request)
        self.run(5)
        self.metering.finish()
        self._take()
        return self.energies

    def joules(self, phase: str, server: str = "") -> float:
        """Return what a phase was booked, of one server or of all."""
        booked = self.metering.books.values.get(ENERGY, {})
        return sum(uj for labels, uj in booked.items() if labels[2] == phase and server in {"", labels[1]}) / 1e6

    def assert_closed(self) -> None:
        """The accounts sum to what the devices measured, to the microjoule."""
        books = self.metering.books.values
        assert sum(books[ENERGY].values()) == sum(books[MEASURED].values())


def test_health_polls_and_lists_of_models_cost_no_joule() -> None:
    """Scenario 2: at a constant 730 W, 1,460 J go to the 2 s generation and none to thousands of polls."""
    hall = Hall({"gpu-0": 730.0})
    hall.run(3)
    request = hall.ask("gpu-0", "r", 2.0, 100)
    server = hall.servers["http://server-gpu-0"]
    for _ in range(20):
        for _ in range(60):
            server.get("/health")
            server.get("/v1/models")
        hall.run(0.1)
    energies = hall.settle(request)

    assert energies == {"r": pytest.approx(1460, rel=0.01)}
    assert hall.joules(UNLISTED) == 0.0
    hall.assert_closed()


def test_a_server_that_is_only_polled_is_idle() -> None:
    """Scenario 2: without a token on its page, a server that answers a scrape each second did no work at all."""
    hall = Hall({"gpu-0": 730.0})
    hall.run(10)
    hall.settle()

    assert hall.joules(UNLISTED) == 0.0
    assert hall.joules(IDLE_RESIDENT) == pytest.approx(730 * 14.9, rel=0.02)
    hall.assert_closed()


def test_overlapping_requests_and_idle_sum_to_the_counter() -> None:
    """Scenario 6: eight at once, known by records and counted by the page: nothing unlisted, all of it to the µJ."""
    hall = Hall({"gpu-0": 730.0})
    hall.run(2)
    requests = [hall.ask("gpu-0", f"r{number}", 2.0, 50) for number in range(8)]
    hall.run(2)
    energies = hall.settle(*requests)

    assert sum(energies.values()) == pytest.approx(1460, rel=0.01)
    assert max(energies.values()) == pytest.approx(min(energies.values()), rel=0.01)
    assert hall.joules(UNLISTED) == 0.0
    hall.assert_closed()


def test_another_gpu_s_idle_is_not_charged() -> None:
    """Scenario 8: 1,300 J of the 650 W GPU to A's request; B's 75 W are B's resident idle, and not A's."""
    hall = Hall({"gpu-0": 650.0, "gpu-1": 75.0})
    hall.run(3)
    before_b = hall.joules(IDLE_RESIDENT, "server-gpu-1")
    request = hall.ask("gpu-0", "a", 2.0, 100)
    hall.run(2)
    energies = hall.settle(request)

    assert energies == {"a": pytest.approx(1300, rel=0.01)}
    assert hall.joules(IDLE_RESIDENT, "server-gpu-1") - before_b == pytest.approx(75 * 7, rel=0.3)
    assert hall.joules(UNLISTED) == 0.0
    hall.assert_closed()


def test_work_that_no_record_tells_is_the_model_s_and_no_tenant_s() -> None:
    """By its page alone: the joules of seconds in which tokens grew are unlisted, the rest is idle."""
    hall = Hall({"gpu-0": 730.0, "gpu-1": 75.0})
    hall.run(3)
    for _ in range(40):
        hall.tokens["server-gpu-0"] += 10
        hall.run(0.1)
    hall.run(4)
    hall.settle()

    assert hall.joules(UNLISTED, "server-gpu-0") == pytest.approx(730 * 5, rel=0.3)
    assert hall.joules(UNLISTED, "server-gpu-1") == 0.0
    hall.assert_closed()
