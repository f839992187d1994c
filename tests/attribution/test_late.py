"""Work that is told after its ticks are closed is given, by a correction, what it used of them."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from inferwatt.attribution.attributor import Attributor, Closed, moved_to
from inferwatt.records import Device, Engine, Phase, Reading, Request, RequestEnergy, Step, Sums
from inferwatt.simulate.loads import LOADS, shortened
from inferwatt.simulate.world import Run, World, simulate

SECOND = 1_000_000_000
HOLD_NS = 1_300_000_000


class Metered:
    """What a meter that holds ticks for 1.3 s made of records, in the order in which they are told."""

    def __init__(self, run: Run, told: Iterable[object]) -> None:
        self.attributor = Attributor(hold_ns=HOLD_NS)
        self.final: dict[str, RequestEnergy] = {}
        self.closed: list[Closed] = []
        for device in run.devices:
            self.attributor.add_device(device)
        for model in run.models:
            self.attributor.add_model(model)
        for engine in run.engines:
            self.attributor.add_engine(engine)
        last_ns = 0
        for record in told:
            self.attributor.feed(record)  # type: ignore[arg-type]
            now_ns = moved_to(record)
            if now_ns is not None:
                last_ns = max(last_ns, now_ns)
                self._keep(self.attributor.advance(last_ns))
        self._keep(self.attributor.advance(last_ns, last=True))

    def _keep(self, closed: Closed) -> None:
        self.closed.append(closed)
        for record, energy in (*closed.requests, *closed.corrected):
            self.final[record.request] = energy

    def accounts(self) -> dict[str, int]:
        """Return what all devices used, by account, µJ; they conserve."""
        total: dict[str, int] = {}
        for totals in self.attributor.devices.values():
            accounts = totals.accounts()
            assert accounts["measured"] == sum(uj for name, uj in accounts.items() if name != "measured")
            for name, uj in accounts.items():
                total[name] = total.get(name, 0) + uj
        return total


def told_late(run: Run, is_late: Callable[[object], bool] = lambda _record: False, by_ns: int = 0) -> list[object]:
    """Return a run's records as a live meter hears them: at each one's end, those that are late so much later."""
    told: list[tuple[int, object]] = []
    for record in run.records:
        late_ns = by_ns * is_late(record)
        if isinstance(record, Request) and record.end_ns is not None:
            told.append((record.arrival_ns + late_ns, replace(record, end_ns=None, first_token_ns=None, chunk_ns=())))
            told.append((record.end_ns + late_ns, record))
        else:
            ended_ns: int = getattr(record, "t_ns", 0) or getattr(record, "t1_ns", 0)
            told.append((ended_ns + late_ns, record))
    return [record for _, record in sorted(told, key=lambda pair: pair[0])]


def of_a_while(run: Run, seconds: tuple[float, float]) -> Callable[[object], bool]:
    """Return whether a step is of the seconds in which an engine's words come late."""
    begin_ns = min(now_ns for record in run.records if (now_ns := moved_to(record)) is not None)
    since_ns, until_ns = (begin_ns + round(t * SECOND) for t in seconds)
    return lambda record: isinstance(record, Step) and since_ns <= record.t0_ns < until_ns


@pytest.fixture(scope="module")
def run() -> Run:
    """Some chats."""
    return simulate(World(shortened(LOADS["chat"], 60), seed=5))


def misplaced_joules(run: Run, found: dict[str, RequestEnergy]) -> float:
    """Return the sum of the requests' errors."""
    return sum(abs(found[name].energy_uj / 1e6 - truth.energy_joules) for name, truth in run.truth.items())


def test_steps_that_come_late_have_their_joules(run: Run) -> None:
    """Each request has what it would have had in time; those that were final before are told again."""
    in_time, late = Metered(run, told_late(run)), Metered(run, told_late(run, of_a_while(run, (4, 6)), 5 * SECOND))

    assert misplaced_joules(run, late.final) < 1.2 * misplaced_joules(run, in_time.final)
    assert late.accounts()["requests"] == sum(energy.energy_uj for energy in late.final.values())
    assert late.accounts()["requests"] == pytest.approx(in_time.accounts()["requests"], rel=0.005)
    assert any(closed.corrected for closed in late.closed)
    assert not any(closed.corrections or closed.corrected for closed in in_time.closed)


def test_a_correction_has_no_energy_of_its_own(run: Run) -> None:
    """What it gives to requests it takes from accounts, to the microjoule."""
    late = Metered(run, told_late(run, of_a_while(run, (4, 6)), 5 * SECOND))

    moved = [each for closed in late.closed for each in closed.corrections]
    assert moved
    for each in moved:
        given_uj = sum(prefill + decode for prefill, decode in each.requests.values())
        taken_uj = sum(each.idle_resident.values()) + each.idle_empty_uj + each.unattributed_uj
        assert each.energy_uj == 0
        assert given_uj == -taken_uj > 0


def test_what_is_told_when_its_ticks_are_long_forgotten_stays_idle(run: Run) -> None:
    """After ten seconds a tick is claimed from no more, and a settled request is not opened again by its steps."""
    late = Metered(run, told_late(run, of_a_while(run, (1, 2)), 14 * SECOND))

    assert not any(closed.corrections for closed in late.closed)
    assert late.accounts()["requests"] == sum(energy.energy_uj for energy in late.final.values())


POWER_WATTS, IDLE_WATTS = 300, 100


class Bench:
    """One GPU with one engine, which draws 300 W at work and 100 W idle, in steps of 20 ms."""

    def __init__(self) -> None:
        self.attributor = Attributor(hold_ns=HOLD_NS)
        self.attributor.add_device(Device("gpu-0"))
        self.attributor.add_engine(Engine("e0", "m", ("gpu-0",)))
        self.final: dict[str, RequestEnergy] = {}
        self._counter_uj = 0
        self._t_ns = 0

    def until(self, seconds: float, watts: int, *, is_read: bool = True) -> None:
        """Draw so much until a moment."""
        while self._t_ns < seconds * SECOND:
            self._t_ns += SECOND // 50
            self._counter_uj += watts * 20_000
            if is_read:
                self.attributor.reading(Reading(self._t_ns, "gpu-0", counter_uj=self._counter_uj))
                closed = self.attributor.advance(self._t_ns)
                self.final |= {record.request: energy for record, energy in (*closed.requests, *closed.corrected)}

    def joules(self) -> dict[str, float]:
        """Return what each request that is final used."""
        return {name: round(energy.energy_uj / 1e6, 1) for name, energy in self.final.items()}

    def accounts(self) -> dict[str, float]:
        """Return where the joules of the device are."""
        return {name: round(uj / 1e6, 1) for name, uj in self.attributor.devices["gpu-0"].accounts().items() if uj}


def request(name: str, start: float, end: float) -> Request:
    """Return a request of a hundred tokens, its times in seconds."""
    start_ns, end_ns = round(start * SECOND), round(end * SECOND)
    return Request(name, "e0", "m", arrival_ns=start_ns, first_token_ns=start_ns + 1, end_ns=end_ns, output_tokens=100)


def test_a_request_that_is_told_late_has_what_was_beyond_idle() -> None:
    """Its time's energy was idle by what was known: what is beyond the idle power before is moved to it."""
    bench = Bench()
    bench.until(2, IDLE_WATTS)
    bench.until(3, POWER_WATTS)
    bench.until(6, IDLE_WATTS)
    bench.attributor.request(request("r", 2, 3))
    bench.until(10, IDLE_WATTS)

    assert bench.joules() == {"r": pytest.approx(300, abs=7)}
    assert bench.accounts().keys() == {"measured", "requests", "idle_resident"}


def test_work_in_a_gap_without_readings_is_claimed_from_what_was_unattributed() -> None:
    """An agent that was away hears late of what went on meanwhile: the gap's energy beyond idle is that work's."""
    bench = Bench()
    bench.until(2, IDLE_WATTS)
    bench.until(3, IDLE_WATTS, is_read=False)
    bench.until(4, POWER_WATTS, is_read=False)
    bench.until(7, IDLE_WATTS)
    assert bench.accounts()["unattributed"] == pytest.approx(400, abs=10)
    bench.attributor.request(request("r", 3, 4))
    bench.until(9, IDLE_WATTS)

    assert bench.joules() == {"r": pytest.approx(300, abs=10)}
    assert bench.accounts()["unattributed"] == pytest.approx(100, abs=10)


def test_what_the_server_counted_is_the_late_requests() -> None:
    """Unlisted work gets its record at last; nothing is charged twice."""
    bench = Bench()
    bench.until(2, IDLE_WATTS)
    bench.attributor.sums(Sums(2 * SECOND, 3 * SECOND, "e0", output_tokens=100, running=1))
    bench.until(3, POWER_WATTS)
    bench.until(6, IDLE_WATTS)
    assert bench.accounts()["unlisted"] == pytest.approx(300, abs=7)
    bench.attributor.request(request("r", 2, 3))
    bench.until(9, IDLE_WATTS)

    assert bench.joules() == {"r": pytest.approx(300, abs=7)}
    assert bench.accounts().get("unlisted", 0) < 7


def test_known_work_keeps_its_joules() -> None:
    """A neighbour's time was its own by what was known: late work gets nothing of what it got."""
    bench = Bench()
    bench.until(2, IDLE_WATTS)
    bench.attributor.request(request("known", 2, 3))
    bench.until(3, POWER_WATTS)
    bench.until(6, IDLE_WATTS)
    before = bench.joules()
    bench.attributor.request(request("late", 2, 3))
    bench.until(9, IDLE_WATTS)

    assert before["known"] == bench.joules()["known"] == pytest.approx(300, abs=7)
    assert bench.joules()["late"] < 7


def test_a_request_that_no_record_tells_of_is_over_after_a_minute_without_steps() -> None:
    """Steps alone open an account; it does not stay open for ever, and has its joules."""
    bench = Bench()
    bench.until(1, IDLE_WATTS)
    bench.attributor.step(Step(SECOND, 2 * SECOND, "e0", (("ghost", 1, 10, Phase.DECODE),)))
    bench.until(2, POWER_WATTS)
    bench.until(61, IDLE_WATTS)
    assert bench.joules() == {}
    bench.until(65, IDLE_WATTS)

    assert bench.joules() == {"ghost": pytest.approx(300, abs=7)}


def test_a_name_that_is_used_again_is_another_request() -> None:
    """An engine that gives an id twice has two requests, each with its own joules."""
    bench = Bench()
    for begin in (1, 5):
        bench.until(begin, IDLE_WATTS)
        bench.attributor.step(Step(begin * SECOND, (begin + 1) * SECOND, "e0", (("r", 1, 10, Phase.DECODE),)))
        bench.attributor.request(request("r", begin, begin + 1))
        bench.until(begin + 1, POWER_WATTS)
        bench.until(begin + 4, IDLE_WATTS)
        assert bench.joules() == {"r": pytest.approx(300, abs=7)}
        bench.final.clear()
