"""Stories in which other meters go wrong by much, and what ours has to say of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.truth.scores import score

from inferwatt import simulating_disk
from inferwatt.attribution.accounts import TickEnergy
from inferwatt.attribution.attributor import Attributor
from inferwatt.books import Books
from inferwatt.export.prometheus import render
from inferwatt.ledger.queries import LedgerReader
from inferwatt.ledger.rows import LedgerBatch
from inferwatt.records import Device, Engine, Event, EventKind, Outcome, Phase, Reading, Request, Rule, Step, Tier
from inferwatt.replay import replay
from inferwatt.simulate.loads import LOADS
from inferwatt.simulate.world import World, simulate
from inferwatt.snapshot import Snapshot
from tests.export.test_prometheus import NOTHING
from tests.ledger.books import open_ledger, row, sql

MS = 1_000_000
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("load", "requests", "seed", "most_exact", "most_rebuilt"),
    [
        ("long", 700, 1, 0.015, 0.04),
        ("long", 700, 2, 0.015, 0.04),
        ("long", 200, 3, 0.015, 0.04),
        ("chat", 700, 1, 0.0085, 0.02),
    ],
)
def test_long_prompts_beside_long_answers(
    tmp_path: Path, load: str, requests: int, seed: int, most_exact: float, most_rebuilt: float
) -> None:
    """Scenario 1: what rules by tokens misplace by 16 to 44% is misplaced by 1.5% with steps, by 4% without."""
    run = simulate(World(replace(LOADS[load], requests=requests), seed=seed))
    simulating_disk.write(tmp_path, run)

    misplaced = {
        tier: score(run.truth, {r.request: energy for r, energy in replay(tmp_path, tier=tier).requests}).misplaced
        for tier in (Tier.STEP_EXACT, Tier.STEP_RECONSTRUCTED)
    }
    by_output = {r.request: energy for r, energy in replay(tmp_path, rule=Rule.OUTPUT_TOKENS).requests}

    assert misplaced[Tier.STEP_EXACT] <= min(most_exact, score(run.truth, by_output).misplaced / 10)
    assert misplaced[Tier.STEP_RECONSTRUCTED] <= most_rebuilt


def test_waiting_in_the_queue_costs_nothing() -> None:
    """Scenario 3: eight equal requests, four at a time for 2 s each, 730 W: each 365 J, whether it waited or not."""
    meter = Attributor()
    meter.add_device(Device("gpu-0"))
    meter.add_engine(Engine("e0", "m", ("gpu-0",)))
    for number in range(8):
        begin_ns = 2 * SECOND * (number // 4)
        meter.request(
            Request(f"r{number}", "e0", "m", arrival_ns=0, first_token_ns=begin_ns + 50 * MS, prompt_tokens=20,
                    end_ns=begin_ns + 2 * SECOND, output_tokens=100, outcome=Outcome.FINISHED)
        )  # fmt: skip
    for beat in range(81):
        meter.reading(Reading(beat * 50 * MS, "gpu-0", counter_uj=730 * beat * 50_000))
    final = meter.advance(4 * SECOND, last=True).requests

    assert {energy.tier for _, energy in final} == {Tier.STEP_RECONSTRUCTED}
    assert [energy.energy_uj / 1e6 for _, energy in final] == [pytest.approx(365, rel=0.02)] * 8


def test_who_leaves_pays_no_longer() -> None:
    """Scenario 4: of an answer of 300 tokens at 20 ms the client leaves after 1 s: 50 tokens, and 1.1 s of energy."""
    meter = Attributor()
    meter.add_device(Device("gpu-0"))
    meter.add_engine(Engine("e0", "m", ("gpu-0",)))
    for number in range(50):
        phase = Phase.DECODE if number else Phase.PREFILL
        t0_ns = number * 20 * MS
        meter.step(Step(t0_ns, t0_ns + 20 * MS, "e0", (("left", 1 if number else 30, 30 + number, phase),)))
    meter.request(Request("left", "e0", "m", end_ns=SECOND, output_tokens=50, outcome=Outcome.ABORTED))
    for beat in range(130):
        meter.reading(Reading(beat * 50 * MS, "gpu-0", counter_uj=730 * beat * 50_000))
    [(record, energy)] = meter.advance(6450 * MS, last=True).requests

    assert record.outcome is Outcome.ABORTED
    assert energy.energy_uj / 1e6 <= 730 * 1.1
    assert energy.energy_uj / 1e6 == pytest.approx(730, rel=0.02)


def test_reads_that_fail_for_a_while() -> None:
    """Scenario 5: 700 W, no read from 2.0 to 4.5 s: what ran gets its time, the rest is said to be nobody's."""
    meter = Attributor()
    meter.add_device(Device("gpu-0"))
    meter.add_engine(Engine("e0", "m", ("gpu-0",)))
    for name, start, end in (("a", 0.0, 4.4), ("b", 4.5, 5.0)):
        times = (round(start * SECOND), round(end * SECOND))
        meter.request(
            Request(name, "e0", arrival_ns=times[0], end_ns=times[1], prompt_tokens=1, output_tokens=50,
                    outcome=Outcome.FINISHED)
        )  # fmt: skip
    ticks: list[TickEnergy] = []
    final: dict[str, float] = {}
    for beat in range(61):
        t_ns = beat * 100 * MS
        if 2000 * MS < t_ns < 4500 * MS:
            meter.event(Event(t_ns, EventKind.READ_FAILURE, "gpu-0"))
            continue
        meter.reading(Reading(t_ns, "gpu-0", counter_uj=700 * t_ns // 1000))
        closed = meter.advance(t_ns, last=beat == 60)
        ticks += closed.ticks
        final |= {record.request: energy.energy_uj / 1e6 for record, energy in closed.requests}

    totals = meter.devices["gpu-0"]
    assert final == {"a": pytest.approx(3080, rel=0.02), "b": pytest.approx(350, rel=0.02)}
    assert totals.unattributed_uj / 1e6 == pytest.approx(70, rel=0.02)
    assert totals.measured_uj == 700 * 6_000_000
    assert meter.timelines()["gpu-0"].bridged_uj == 700 * 2_500_000
    assert {event.kind for event in meter.take_events()} == {EventKind.READ_FAILURE}
    assert sum(tick.energy_uj for tick in ticks) == totals.measured_uj


def ramp() -> list[Request]:
    """Return ten minutes of requests to two models, by two tenants, for two tasks: 1 to 10 to 1 a second."""
    random = np.random.default_rng(5)
    asked: list[Request] = []
    t_ns = 0
    while t_ns < 600 * SECOND:
        rate = 1 + 9 * (1 - abs(t_ns / SECOND - 300) / 300)
        t_ns += round(random.exponential(1 / rate) * SECOND)
        model, tenant, task = (str(random.choice(list(each))) for each in ("AB", "xy", "de"))
        tokens = int(random.integers(10, 200))
        times = (t_ns, t_ns + 100 * MS, t_ns + (100 + 10 * tokens) * MS)
        whose = (f"r{len(asked)}", f"engine-{model}", model, tenant)
        asked.append(Request(*whose, *times, 100, 0, tokens, Outcome.FINISHED, tags={"task": task}))
    return asked


def test_bills_of_a_ramp_sum_to_the_counter_from_the_first_second() -> None:
    """Scenario 7: 1 to 10 to 1 requests a second, two models: bills by tenant, task and model sum to the microjoule."""
    meter = Attributor()
    meter.add_device(Device("gpu-0"))
    for name in ("A", "B"):
        meter.add_engine(Engine(f"engine-{name}", name, ("gpu-0",)))
    asked = ramp()
    waiting = list(reversed(asked))
    by_label: dict[tuple[str, str], int] = {}
    bills: dict[tuple[str, str, str], int] = {}
    measured = idle = counter_uj = 0
    for beat in range(6100):
        t_ns = beat * 100 * MS
        while waiting and waiting[-1].arrival_ns <= t_ns:
            meter.request(waiting.pop())
        counter_uj += int(300 + 100 * np.sin(beat / 40)) * 100_000
        meter.reading(Reading(t_ns, "gpu-0", counter_uj=counter_uj))
        closed = meter.advance(t_ns, last=beat == 6099)
        for tick in closed.ticks:
            measured += tick.energy_uj
            idle += sum(tick.idle_resident.values()) + tick.unattributed_uj
            for (_, model, tenant), parts in tick.requests.items():
                by_label[model, tenant] = by_label.get((model, tenant), 0) + sum(parts)
        assert sum(by_label.values()) + idle == measured  # at each moment, not only in the end
        for record, energy in closed.requests:
            key = (record.model, record.tenant, record.tags["task"])
            bills[key] = bills.get(key, 0) + energy.energy_uj

    assert sum(bills.values()) + idle == measured == meter.devices["gpu-0"].measured_uj
    for label, uj in by_label.items():
        assert sum(bill for (*whose, _), bill in bills.items() if tuple(whose) == label) == uj


@pytest.mark.parametrize(
    "tampering",
    [
        ("DROP TRIGGER request_never_changes", "UPDATE request SET output_tokens = 1 WHERE seq = 500"),
        ("DROP TRIGGER request_stays", "DELETE FROM request WHERE seq = 500"),
    ],
    ids=["changed", "removed"],
)
def test_a_great_counter_goes_on_after_a_kill(tmp_path: Path, tampering: tuple[str, ...]) -> None:
    """Scenario 9: at 1.45e10 J and after a crash the rate is right, every record there, and what is forged is found."""
    total = "inferwatt_device_energy_joules_total"
    labels = ("gpu-0", "gpu", "measured")
    watts, step_seconds = 5600, 15

    def page(books: Books) -> float:
        """Return what a scraper reads of the counter."""
        shown = render(Snapshot(books.values, books.histograms, NOTHING), openmetrics=False).decode()
        [line] = [line for line in shown.splitlines() if line.startswith(f"{total}{{")]
        return float(line.rpartition(" ")[2])

    books = Books()
    books.restore({total: {labels: 14_500_000_000_000_000}}, {})
    ledger = open_ledger(tmp_path / "l")
    ledger.commit(LedgerBatch(rows=[row(number) for number in range(1000)], counters={total: books.values[total]}))
    scrapes = [page(books)]
    books.add(total, labels, watts * step_seconds * 1_000_000)
    ledger.commit(LedgerBatch(counters=books.take_changes()[0]))
    # killed here: nothing is closed, the file is what it is
    again = LedgerReader.open(tmp_path / "l")
    restored = Books()
    restored.restore(again.counters(), again.histograms())
    scrapes.append(page(restored))
    restored.add(total, labels, watts * step_seconds * 1_000_000)
    scrapes.append(page(restored))

    rates = np.diff(scrapes) / step_seconds
    assert rates == pytest.approx([watts, watts], rel=1e-3)
    assert len(again.requests(limit=2000)) == 1000
    assert again.verify().ok
    for statement in tampering:
        sql(tmp_path / "l", statement)
    assert not LedgerReader.open(tmp_path / "l").verify().ok
