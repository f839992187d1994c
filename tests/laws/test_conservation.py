"""The law: each device's accounts sum to its counter, to the microjoule, whatever happens."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferwatt.attribution.accounts import TickEnergy
from inferwatt.attribution.attributor import Attributor
from inferwatt.errors import RecordRejected
from inferwatt.recording import Meta, Recording
from inferwatt.records import (
    Activity,
    Component,
    Device,
    Engine,
    Event,
    EventKind,
    Model,
    Outcome,
    Phase,
    Provenance,
    Reading,
    Request,
    RequestEnergy,
    Rule,
    Step,
    Sums,
    Tier,
)
from inferwatt.replay import replay_recording
from inferwatt.settled import Settled

MS = 1_000_000
TIMES = st.integers(0, 3_000).map(lambda ms: ms * MS)
RATIOS = st.floats(0, 0.7)
TOKENS = st.one_of(st.none(), st.integers(0, 3000))
NAMES = st.sampled_from(["a", "b", "c", "d"])
ENGINES = st.sampled_from(["e0", "e1"])
DEVICES = ("gpu-0", "cpu")


@st.composite
def counters(draw: st.DrawFn, device: str) -> list[Reading]:
    """A counter with wraps, resets, stalls, lost and repeated polls."""
    t_ns, value_uj, found = 0, draw(st.integers(0, 50_000_000)), []
    wraps_at_uj = draw(st.sampled_from([None, 60_000_000]))
    for _ in range(draw(st.integers(2, 40))):
        t_ns += draw(st.sampled_from([0, 1, 20 * MS, 20 * MS, 100 * MS, 900 * MS]))
        match draw(st.sampled_from(["run", "run", "run", "run", "still", "reset"])):
            case "run":
                value_uj += draw(st.integers(0, 20_000_000))
            case "reset":
                value_uj = draw(st.integers(0, 1_000))
        if wraps_at_uj is not None:
            value_uj %= wraps_at_uj
        found.append(Reading(t_ns, device, counter_uj=value_uj, wraps_at_uj=wraps_at_uj))
    return found


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any request: aborted, without tokens, open, in no order; its first token anywhere."""
    arrival_ns = draw(TIMES)
    end_ns = draw(st.one_of(st.none(), TIMES))
    return Request(
        draw(NAMES),
        engine=draw(ENGINES),
        tenant=draw(NAMES),
        arrival_ns=arrival_ns,
        first_token_ns=draw(st.one_of(st.none(), TIMES)),
        end_ns=end_ns,
        prompt_tokens=draw(TOKENS),
        cached_tokens=draw(TOKENS),
        output_tokens=draw(TOKENS),
        outcome=None if end_ns is None else draw(st.sampled_from(Outcome)),
        chunk_ns=draw(st.one_of(st.just(()), st.lists(TIMES, max_size=3).map(tuple))),
    )


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Any step, overlapping others as it likes."""
    t0_ns, length_ns = draw(TIMES), draw(st.integers(0, 200)) * MS
    member = st.tuples(NAMES, st.integers(0, 500), st.integers(0, 3000), st.sampled_from(Phase))
    members = draw(st.lists(member, max_size=4, unique_by=lambda m: m[0]))
    return Step(t0_ns, t0_ns + length_ns, draw(ENGINES), tuple(members))


@st.composite
def activities(draw: st.DrawFn) -> Activity:
    """Any view of who held the CPU."""
    t0_ns = draw(TIMES)
    shares = {"e0": draw(RATIOS), "gone": draw(st.sampled_from([0.0, 0.1]))}
    return Activity(t0_ns, t0_ns + draw(st.integers(1, 500)) * MS, "cpu", shares, draw(RATIOS))


@st.composite
def sums(draw: st.DrawFn) -> Sums:
    """Any count by a server."""
    t0_ns = draw(TIMES)
    return Sums(
        t0_ns, t0_ns + 1000 * MS, draw(ENGINES), draw(TOKENS), draw(TOKENS), draw(TOKENS), draw(st.integers(0, 5))
    )


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event."""
    return Event(draw(TIMES), draw(st.sampled_from(EventKind)), draw(st.sampled_from(DEVICES)), draw(ENGINES))


@st.composite
def stories(draw: st.DrawFn) -> list[Any]:
    """Everything that can arrive, in any order, with readings in theirs."""
    readings = sorted(draw(counters("gpu-0")) + draw(counters("cpu")), key=lambda reading: reading.t_ns)
    others = draw(st.lists(st.one_of(requests(), steps(), activities(), sums(), events()), max_size=25))
    story: list[Any] = list(readings)
    for record in others:
        story.insert(draw(st.integers(0, len(story))), record)
    return story


def build(**options: Any) -> Attributor:
    """Return an attributor with a GPU, a CPU and two engines."""
    attributor = Attributor(**options)
    attributor.add_device(Device("gpu-0", max_watts=5000.0, peak_flops=1e14, peak_bytes_per_second=1e12))
    attributor.add_device(Device("cpu", component=Component.CPU, provenance=Provenance.MODELLED, max_watts=5000.0))
    attributor.add_model(Model("m", 1e9, 2e9, 1e5, 1e5))
    attributor.add_engine(Engine("e0", "m", ("gpu-0", "cpu")))
    attributor.add_engine(Engine("e1", "n", ("gpu-0",)))
    return attributor


def tell(attributor: Attributor, story: list[Any], *, asks: bool = False) -> list[RequestEnergy]:
    """Feed the story, check the law of every tick, return what became final; maybe somebody `asks` meanwhile."""
    settled = Settled()
    measured = dict.fromkeys(DEVICES, 0)
    for record in [*story, None]:
        if record is not None:
            try:
                attributor.feed(record)
            except RecordRejected:
                continue
        if record is None or isinstance(record, Reading):
            closed = attributor.advance(record.t_ns if record else 10_000 * MS, last=record is None)
            settled.add(closed)
        for name in "abcd" if asks else "":
            attributor.energy(name)
    for tick in settled.ticks:
        assert sum(_parts(tick)) == tick.energy_uj
        assert min(_parts(tick)) >= 0
        measured[tick.device] += tick.energy_uj
    assert all(moved.energy_uj == sum(_parts(moved)) == 0 for moved in settled.corrections)
    for name, totals in attributor.devices.items():
        assert totals.measured_uj == measured[name]
        assert totals.measured_uj == sum(totals.accounts().values()) - totals.measured_uj
    return [energy for _, energy in settled.final()]


def _parts(tick: TickEnergy) -> list[int]:
    """Return what each account got of a tick, µJ."""
    return [
        *(prefill + decode for prefill, decode in [*tick.requests.values(), *tick.unlisted.values()]),
        *tick.idle_resident.values(),
        *tick.pooled.values(),
        tick.idle_empty_uj,
        tick.other_uj,
        tick.unattributed_uj,
    ]


@given(stories(), st.sampled_from([0, 50 * MS, 1300 * MS]), st.sampled_from(Tier))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_every_tick_is_divided_exactly(story: list[Any], hold_ns: int, best_tier: Tier) -> None:
    """In every story each tick's parts sum to it, and the requests' figures to the devices' accounts of requests."""
    attributor = build(hold_ns=hold_ns, best_tier=best_tier)

    final = tell(attributor, story)

    by_requests = sum(energy.energy_uj for energy in final)
    assert by_requests == sum(totals.requests_uj for totals in attributor.devices.values())
    for energy in final:
        assert energy.low_uj <= energy.energy_uj <= energy.high_uj
        assert energy.final


@given(stories(), st.sampled_from([rule for rule in Rule if rule is not Rule.SHAPLEY]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_the_simple_rules_conserve_too(story: list[Any], rule: Rule) -> None:
    """The baselines divide the same joules, to the microjoule."""
    attributor = build(rule=rule)

    final = tell(attributor, story)

    assert sum(energy.energy_uj for energy in final) <= sum(t.requests_uj for t in attributor.devices.values())


@given(stories())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_replay_is_the_same_each_time(story: list[Any]) -> None:
    """Equal records in equal order give equal figures, to the bit."""
    meta = Meta(
        engines=(Engine("e0", "m", ("gpu-0", "cpu")), Engine("e1", "n", ("gpu-0",))),
        devices=(Device("gpu-0", max_watts=5000.0), Device("cpu", component=Component.CPU, max_watts=5000.0)),
    )
    recording = Recording(meta, story, live=True)

    assert list(replay_recording(recording).json_lines()) == list(replay_recording(recording).json_lines())


@given(stories(), st.integers(1, 10**15))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_the_time_of_day_does_not_matter(story: list[Any], shift_ns: int) -> None:
    """A story told later on the same clock has the same figures (to what rounding of times can do)."""
    here, there = build(), build()

    final = tell(here, story)
    moved = tell(there, [_moved(record, shift_ns) for record in story])

    assert [energy.request for energy in moved] == [energy.request for energy in final]
    assert {n: t.measured_uj for n, t in there.devices.items()} == {n: t.measured_uj for n, t in here.devices.items()}


def _moved(record: Any, shift_ns: int) -> Any:
    from dataclasses import fields, replace

    times = {f.name: getattr(record, f.name) for f in fields(record) if f.name.endswith("_ns")}
    return replace(
        record,
        **{
            name: tuple(t + shift_ns for t in value) if isinstance(value, tuple) else value + shift_ns
            for name, value in times.items()
            if value is not None
        },
    )


@given(stories(), st.sampled_from([0, 1300 * MS]), st.sampled_from(Tier))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_asking_changes_nothing(story: list[Any], hold_ns: int, best_tier: Tier) -> None:
    """Whoever looks at provisional figures, the final ones are the same, to the microjoule and the interval."""
    quiet, asked = (tell(build(hold_ns=hold_ns, best_tier=best_tier), story, asks=asks) for asks in (False, True))

    assert quiet == asked
