"""What was learnt another time is where the next begins."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.attributor import Attributor, moved_to
from inferwatt.attribution.idle import IdlePower
from inferwatt.attribution.lag import Lag
from inferwatt.attribution.ridge import BayesFit
from inferwatt.attribution.steptime import Roofline, StepTime
from inferwatt.records import Device, Fit, Request, RequestEnergy
from inferwatt.simulate.loads import LOADS, shortened
from inferwatt.simulate.world import Run, World, simulate

LEARNT_REQUESTS = 120
MEASURED_REQUESTS = 40


def metered(run: Run, fits: tuple[Fit, ...] = ()) -> tuple[dict[str, RequestEnergy], tuple[Fit, ...]]:
    """Meter a simulated run; return what each request used, and what was learnt."""
    attributor = Attributor(fits=fits)
    for device in run.devices:
        attributor.add_device(device)
    for model in run.models:
        attributor.add_model(model)
    for engine in run.engines:
        attributor.add_engine(engine)
    last_ns, requests = 0, list[tuple[Request, RequestEnergy]]()
    for record in run.records:
        attributor.feed(record)
        now_ns = moved_to(record)
        if now_ns is not None:
            last_ns = max(last_ns, now_ns)
            requests.extend(attributor.advance(last_ns).requests)
    requests.extend(attributor.advance(last_ns, last=True).requests)
    return {record.request: energy for record, energy in requests}, attributor.fits()


def misplaced_joules(run: Run, found: dict[str, RequestEnergy]) -> float:
    """Return the sum of the requests' errors."""
    return sum(abs(found[name].energy_uj / 1e6 - truth.energy_joules) for name, truth in run.truth.items())


@pytest.fixture(scope="module")
def learnt() -> tuple[Fit, ...]:
    """What an earlier run of the same server taught."""
    return metered(simulate(World(shortened(LOADS["chat"], LEARNT_REQUESTS), seed=21)))[1]


@pytest.fixture(scope="module")
def next_run() -> Run:
    """The first requests of the next run."""
    return simulate(World(shortened(LOADS["chat"], MEASURED_REQUESTS), seed=22))


def test_a_meter_that_begins_where_it_ended_misplaces_less(learnt: tuple[Fit, ...], next_run: Run) -> None:
    """The first requests after a restart are told apart better by what the server taught before it."""
    cold, warm = metered(next_run)[0], metered(next_run, learnt)[0]

    assert misplaced_joules(next_run, warm) < 0.7 * misplaced_joules(next_run, cold)
    assert sum(energy.energy_uj for energy in warm.values()) == pytest.approx(
        sum(energy.energy_uj for energy in cold.values()), rel=0.01
    )


@pytest.mark.parametrize(
    "other",
    [{"model": "another"}, {"device_kind": "another"}, {"devices": 8}, {"shape": (1.0, 0.0, 1.0, 0.0, 0.0)}],
)
def test_what_another_server_taught_is_not_taken(
    other: dict[str, object], learnt: tuple[Fit, ...], next_run: Run
) -> None:
    """Another model, another kind of device, other parallelism or another shape begin from nothing."""
    others = tuple(replace(fit, **other) for fit in learnt)  # type: ignore[arg-type]

    assert metered(next_run, others)[0] == metered(next_run)[0]


def test_a_file_gives_back_the_same_numbers(learnt: tuple[Fit, ...]) -> None:
    """What is learnt survives JSON to the last bit: a replay begins where its agent did."""
    assert msgspec.json.decode(msgspec.json.encode(learnt), type=tuple[Fit, ...]) == learnt
    assert all(fit.energy and fit.step_time for fit in learnt)


@given(st.lists(st.floats(), max_size=30))
def test_numbers_that_cannot_be_are_ignored(numbers: list[float]) -> None:
    """Whatever a damaged file says, nothing is raised, and no coefficient becomes what is no number."""
    fit, time, lag, idle = BayesFit(4, 0.3, 0.99), StepTime(), Lag(), IdlePower(Device("gpu-0"))
    fit.resume(numbers)
    time.resume(numbers)
    for number in numbers:
        lag.suppose(round(number) if abs(number) < 1e18 else -1)
        idle.suppose(number)

    assert len(numbers) == 26 or fit.observations == 0
    assert len(numbers) >= 5 or time.roofline() == Roofline(0.0, 0.0, 0.0, 0.0)
    assert 0 <= lag.ns < 1e9
    assert idle.watts is None or 0 <= idle.watts < float("inf")


def test_a_quiet_tick_counts_more_than_what_is_supposed() -> None:
    """The idle power of another time stands only until this one's is seen."""
    idle = IdlePower(Device("gpu-0"))
    idle.suppose(80.0)
    assert idle.watts == 80.0

    idle.quiet(0, 60.0)
    assert idle.watts == 60.0
