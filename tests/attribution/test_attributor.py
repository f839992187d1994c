"""Whole small stories through the attributor, most of them from defects of other meters."""

from collections.abc import Callable, Iterable

import pytest

from inferwatt.attribution.attributor import Attributor
from inferwatt.errors import RecordRejected
from inferwatt.records import (
    Device,
    Engine,
    Event,
    EventKind,
    Outcome,
    Phase,
    Provenance,
    Reading,
    Request,
    RequestEnergy,
    Rule,
    Step,
    Tier,
)

SECOND = 1_000_000_000
MS = 1_000_000
UJ = 1_000_000


def meter(*devices: Device, engines: Iterable[Engine] = (), rule: Rule = Rule.SHAPLEY) -> Attributor:
    """Return an attributor that knows these devices and engines."""
    attributor = Attributor(rule=rule)
    for device in devices or (Device("gpu-0"),):
        attributor.add_device(device)
    for engine in engines or (Engine("e0", "m", ("gpu-0",)),):
        attributor.add_engine(engine)
    return attributor


def request(name: str, start: float, end: float | None, *, first: float | None = None, **more: object) -> Request:
    """Return a request, its times in seconds."""
    values = {"engine": "e0", "prompt_tokens": 100, "output_tokens": 50, **more}
    return Request(
        name,
        arrival_ns=round(start * SECOND),
        first_token_ns=None if first is None else round(first * SECOND),
        end_ns=None if end is None else round(end * SECOND),
        outcome=None if end is None else Outcome.FINISHED,
        **values,  # type: ignore[arg-type]
    )


def run(
    attributor: Attributor,
    seconds: float,
    watts: Callable[[float], float],
    device: str = "gpu-0",
    *,
    skip: tuple[float, float] = (0.0, 0.0),
    last: bool = True,
) -> dict[str, RequestEnergy]:
    """Poll a counter each 20 ms under this power, and return what became final."""
    final: dict[str, RequestEnergy] = {}
    counter_uj = 0.0
    for i in range(round(seconds * 50) + 1):
        t = i / 50
        if not skip[0] <= t < skip[1]:
            attributor.reading(Reading(i * 20 * MS, device, counter_uj=round(counter_uj)))
            final |= {record.request: energy for record, energy in attributor.advance(i * 20 * MS).requests}
        counter_uj += watts(t + 0.01) * UJ / 50
    if last:
        final |= {r.request: e for r, e in attributor.advance(round(seconds * SECOND), last=True).requests}
    for totals in attributor.devices.values():
        accounts = totals.accounts()
        assert accounts["measured"] == sum(uj for name, uj in accounts.items() if name != "measured")
    return final


def test_a_lone_request_has_all_joules_of_its_time() -> None:
    """What was used while one request ran is its own, the rest is the loaded model's."""
    attributor = meter()
    attributor.request(request("r", 1, 3, first=1.5))

    energy = run(attributor, 5, lambda t: 700.0 if 1 <= t < 3 else 75.0)["r"]

    assert energy.energy_uj == pytest.approx(1400 * UJ, rel=0.001)
    assert energy.prefill_uj == pytest.approx(350 * UJ, rel=0.02)
    assert energy.tier is Tier.STEP_RECONSTRUCTED
    assert energy.provenance is Provenance.MEASURED
    assert attributor.devices["gpu-0"].idle_resident_uj == pytest.approx(225 * UJ, rel=0.001)


def test_constant_power_is_not_explained_away() -> None:
    """Where power never changes, a request still has its time's joules: meters that subtract idle say zero."""
    attributor = meter()
    attributor.request(request("r", 1, 3, first=1.1))

    energy = run(attributor, 4, lambda _: 730.0)["r"]

    assert energy.energy_uj == pytest.approx(1460 * UJ, rel=0.01)


def test_waiting_in_a_queue_costs_nothing() -> None:
    """Of eight equal requests of which four run at a time, each has an eighth (by steps)."""
    attributor = meter()
    for i in range(200):
        members = tuple((f"r{k + (4 if i >= 100 else 0)}", 1, 100 + i % 100, Phase.DECODE) for k in range(4))
        attributor.step(Step(i * 20 * MS, (i + 1) * 20 * MS, "e0", members))
    for k in range(8):
        attributor.request(request(f"r{k}", 0, 2 if k < 4 else 4, first=0.02))

    final = run(attributor, 4, lambda _: 730.0)

    assert {k: e.tier for k, e in final.items()} == dict.fromkeys(final, Tier.STEP_EXACT)
    assert [e.energy_uj for e in final.values()] == pytest.approx([365 * UJ] * 8, rel=0.02)


def test_read_errors_are_bridged_and_what_nobody_caused_is_unattributed() -> None:
    """A gap in the reads falls on who ran in it, and the time in which nobody did on no one."""
    attributor = meter(engines=[Engine("e0", "m", ("gpu-0",))])
    attributor.request(request("a", 0, 4.4, first=0.1))
    attributor.request(request("b", 4.5, 5.0, first=4.55))
    attributor.event(Event(2 * SECOND, EventKind.READ_FAILURE, device="gpu-0"))

    final = run(attributor, 5, lambda _: 700.0, skip=(2.02, 4.5))

    assert final["a"].energy_uj == pytest.approx(3080 * UJ, rel=0.02)
    assert final["b"].energy_uj == pytest.approx(350 * UJ, rel=0.02)
    assert attributor.devices["gpu-0"].unattributed_uj == pytest.approx(70 * UJ, rel=0.05)


def test_another_gpus_idle_is_not_the_requests() -> None:
    """A request on one GPU has nothing of the other's, whose model idles."""
    engines = [Engine("e0", "a", ("gpu-0",)), Engine("e1", "b", ("gpu-1",))]
    attributor = meter(Device("gpu-0"), Device("gpu-1"), engines=engines)
    attributor.request(request("r", 0, 2, first=0.1))
    run(attributor, 2, lambda _: 75.0, "gpu-1", last=False)

    energy = run(attributor, 2, lambda _: 650.0)["r"]

    assert energy.energy_uj == pytest.approx(1300 * UJ, rel=0.01)
    assert attributor.devices["gpu-1"].idle_resident_uj == pytest.approx(150 * UJ, rel=0.01)


def test_nothing_loaded_is_empty_idle() -> None:
    """Before a model is loaded and after it is unloaded its device's idle belongs to nobody."""
    attributor = meter()
    attributor.event(Event(0, EventKind.MODEL_UNLOAD, engine="e0"))

    run(attributor, 1, lambda _: 75.0)

    totals = attributor.devices["gpu-0"]
    assert totals.idle_empty_uj == totals.measured_uj > 0


def test_a_cached_prompt_is_cheaper_than_a_computed_one() -> None:
    """Of two prompts in one step the one that was cached pays for its single new token only."""
    attributor = meter()
    members = (("cold", 1000, 0, Phase.PREFILL), ("warm", 1, 999, Phase.PREFILL))
    attributor.add_engine(Engine("e1", "m", ("gpu-0",)))
    for i in range(50):
        mix = members if i % 5 == 0 else (("cold", 1, 1000 + i, Phase.DECODE), ("warm", 1, 1000 + i, Phase.DECODE))
        start = i * 40 * MS
        attributor.step(Step(start, start + (40 if i % 5 == 0 else 10) * MS, "e0", mix))

    final = run(attributor, 2, lambda t: 700.0 if (t * 25) % 5 < 1 else 400.0)

    assert final["cold"].prefill_uj > 2 * final["warm"].prefill_uj


def test_prefill_and_decode_are_told_apart_by_the_steps() -> None:
    """A request's parts follow its phase in each step, and sum to the whole."""
    attributor = meter()
    attributor.step(Step(0, SECOND, "e0", (("r", 100, 0, Phase.PREFILL),)))
    attributor.step(Step(SECOND, 2 * SECOND, "e0", (("r", 1, 100, Phase.DECODE),)))

    energy = run(attributor, 2, lambda t: 600.0 if t < 1 else 300.0)["r"]

    assert energy.prefill_uj == pytest.approx(600 * UJ, rel=0.03)
    assert energy.decode_uj == pytest.approx(300 * UJ, rel=0.03)
    assert energy.prefill_uj + energy.decode_uj == energy.energy_uj


def test_a_final_figure_comes_with_the_ticks_and_never_changes() -> None:
    """A request is final as soon as its last tick is closed, and is then no longer known."""
    attributor = meter()
    attributor.request(request("r", 0, 1, first=0.1))

    final = run(attributor, 1.5, lambda _: 100.0, last=False)

    assert final["r"].final
    assert attributor.energy("r") is None


def test_a_device_that_stops_answering_holds_nothing_up() -> None:
    """After two seconds without ticks a request is final without that device; its late ticks are unattributed."""
    engine = Engine("e0", "m", ("gpu-0", "gpu-1"))
    attributor = meter(Device("gpu-0"), Device("gpu-1"), engines=[engine])
    attributor.request(request("r", 0, 1, first=0.1))
    attributor.reading(Reading(0, "gpu-1", counter_uj=0))

    final = run(attributor, 4, lambda _: 100.0, last=False)
    attributor.reading(Reading(4 * SECOND, "gpu-1", counter_uj=400 * UJ))
    attributor.advance(5 * SECOND)

    assert final["r"].energy_uj == pytest.approx(100 * UJ, rel=0.02)
    assert attributor.devices["gpu-1"].unattributed_uj == 400 * UJ


def test_an_open_request_has_a_provisional_figure() -> None:
    """What is settled of an open request can be asked for."""
    attributor = meter()
    attributor.request(request("r", 0, None, prompt_tokens=None, output_tokens=None))

    run(attributor, 2, lambda _: 100.0, last=False)

    energy = attributor.energy("r")
    assert energy is not None
    assert not energy.final
    assert energy.energy_uj == pytest.approx(200 * UJ, rel=0.02)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (request("r", 2, 1), "ends before it arrives"),
        (request("r", 0, 1, engine="nobody"), "unknown engine"),
        (request("twice", 0, 1), "has ended already"),
    ],
)
def test_a_record_that_cannot_be_is_refused(bad: Request, words: str) -> None:
    """An end before the arrival, an unknown engine and a second end are refused with words."""
    attributor = meter()
    attributor.request(request("twice", 0, 1))

    with pytest.raises(RecordRejected, match=words):
        attributor.request(bad)


def test_a_request_without_work_has_no_part_of_the_steps() -> None:
    """Where steps are known, a request that is in none of them gets nothing."""
    attributor = meter()
    attributor.step(Step(0, SECOND, "e0", (("worker", 1, 10, Phase.DECODE),)))
    attributor.request(request("worker", 0, 1, first=0.0))
    attributor.request(request("waiter", 0, 1))

    final = run(attributor, 1, lambda _: 100.0)

    assert final["waiter"].parts == ()
    assert final["worker"].energy_uj == pytest.approx(100 * UJ, rel=0.03)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule.OUTPUT_TOKENS, [100, 300]),
        (Rule.ALL_TOKENS, [100, 300]),
        (Rule.RESIDENCE, [200, 200]),
        (Rule.EQUAL, [200, 200]),
    ],
)
def test_the_simple_rules_divide_the_whole_window(rule: Rule, expected: list[float]) -> None:
    """Each simple rule divides all joules of work by its own number, and sums to them exactly."""
    attributor = meter(rule=rule)
    attributor.request(request("a", 0, 2, first=0.5, prompt_tokens=10, output_tokens=10))
    attributor.request(request("b", 2, 4, first=2.5, prompt_tokens=30, output_tokens=30))

    final = run(attributor, 4, lambda _: 100.0)

    assert [final["a"].energy_uj / UJ, final["b"].energy_uj / UJ] == pytest.approx(expected, rel=0.01)
    assert sum(e.energy_uj for e in final.values()) == attributor.devices["gpu-0"].requests_uj


def test_each_device_of_an_engine_is_split_alike() -> None:
    """Two GPUs that serve one engine and draw the same power give each request the same joules."""
    gpus = Device("gpu-0", systematic_ratio=0.05), Device("gpu-1", systematic_ratio=0.06)  # two parts of a figure
    attributor = meter(*gpus, engines=[Engine("e0", "m", ("gpu-0", "gpu-1"))])
    for i in range(100):
        heavy = (("long", 500, 500 * (i // 4), Phase.PREFILL), ("short", 1, 50 + i, Phase.DECODE))
        light = (("long", 1, 500, Phase.DECODE), ("short", 1, 50 + i, Phase.DECODE))
        start, length = i * 40 * MS, (40 if i % 4 == 0 else 10) * MS
        attributor.step(Step(start, start + length, "e0", heavy if i % 4 == 0 else light))
    for i in range(201):
        for device in ("gpu-0", "gpu-1"):
            attributor.reading(Reading(i * 20 * MS, device, counter_uj=i * 10 * UJ))
        attributor.advance(i * 20 * MS)

    closed = attributor.advance(4 * SECOND, last=True)

    for _, energy in closed.requests:
        first, second = energy.parts
        assert first.energy_uj == pytest.approx(second.energy_uj, rel=1e-6)
