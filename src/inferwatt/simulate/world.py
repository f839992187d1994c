"""A whole run: a load, an engine that serves it, meters that watch, and what each request truly used. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from inferwatt.records import Device, Engine, Event, EventKind, Model, Provenance, Reading, Request, Step, Sums
from inferwatt.simulate import loads
from inferwatt.simulate.climate import Climate
from inferwatt.simulate.costs import SHAPE, Costs, Floats, StepCosts
from inferwatt.simulate.engine import Engine as Server
from inferwatt.simulate.engine import Scheduler
from inferwatt.simulate.loads import Load
from inferwatt.simulate.meter import Energy, Meter, readings
from inferwatt.simulate.sequence import SECOND_NS, Trace, Wish
from inferwatt.simulate.shapley import shapley
from inferwatt.simulate.witness import Witness, name_of, told_passes, told_requests, told_steps, told_sums

ENGINE = "e0"
_START_NS = 1_000 * SECOND_NS
CARD = Device(
    "gpu-0",
    kind="Simulated accelerator",
    provenance=Provenance.SIMULATED,
    systematic_ratio=0.05,
    peak_flops=989e12,
    peak_bytes_per_second=3.35e12,
    source="simulate",
)
"""What is told of the device: the peaks of an H100's data sheet, not what the simulated engine reaches."""


@dataclass(frozen=True, slots=True)
class World:
    """All that decides a simulated run; equal worlds are equal runs.

    `told_shape` is what is told of the model's shape (None: the truth), `card` what is told of a device, `told_peaks`
    whether its peaks are.
    With several `device_shares`, the engine runs on as many devices, which share its energy like this.
    """

    load: Load
    seed: int = 1
    costs: Costs = field(default_factory=Costs)
    shape: Model = SHAPE
    told_shape: Model | None = None
    told_peaks: bool = True
    card: Device = CARD
    device_shares: tuple[float, ...] = (1.0,)
    scheduler: Scheduler = field(default_factory=Scheduler)
    climate: Climate = field(default_factory=Climate)
    meter: Meter = field(default_factory=Meter)
    witness: Witness = field(default_factory=Witness)
    uneven: bool = False
    """Whether a step draws static power alone in its overhead, and the more afterwards; else evenly."""
    lead_seconds: float = 3.0
    tail_seconds: float = 3.0
    trace: tuple[tuple[float, int, int], ...] = ()
    """Rows of real requests (seconds, prompt, output) in place of drawn ones."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a request truly used while it was worked on, joules; `sampling_joules` is one sigma of its own error."""

    prefill_joules: float
    decode_joules: float
    sampling_joules: float

    @property
    def energy_joules(self) -> float:
        """Prefill and decode together."""
        return self.prefill_joules + self.decode_joules


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a world: the recording's parts, and the truth."""

    engines: tuple[Engine, ...]
    models: tuple[Model, ...]
    devices: tuple[Device, ...]
    records: tuple[Reading | Step | Request | Event | Sums, ...]
    truth: dict[str, Truth]
    active_joules: float
    """What all steps used."""
    total_joules: float
    """What the devices used over the whole run, idle times included."""


def simulate(world: World) -> Run:
    """Return the run of a world."""
    rng = np.random.default_rng(world.seed)
    start_ns = _START_NS + round(world.lead_seconds * SECOND_NS)
    trace = _served(world, _wishes(world, rng, start_ns), start_ns)
    span_ns = (_START_NS, max(start_ns, *trace.t1_ns) + round(world.tail_seconds * SECOND_NS))
    told, devices = world.told_shape or world.shape, _devices(world)
    names = tuple(device.device for device in devices)
    metered = [
        record
        for name, share in zip(names, world.device_shares, strict=True)
        for record in readings(world.meter, true_energy(trace, world, span_ns, share), name, span_ns, rng)
    ]
    told_records = _told(trace, world, told.model, rng)
    return Run(
        engines=(Engine(ENGINE, told.model, names),),
        models=(told,),
        devices=devices,
        records=(*told_records, *_cap_told(world.climate, names, start_ns, span_ns[1]), *metered),
        truth=_truth(trace, world),
        active_joules=sum(trace.joules),
        total_joules=true_energy(trace, world, span_ns).total_joules,
    )


def true_energy(trace: Trace, world: World, span_ns: tuple[int, int], share: float = 1.0) -> Energy:
    """Return a device's share of the energy over time: steps at their own power, idle between them."""
    t0, t1, joules = np.array(trace.t0_ns), np.array(trace.t1_ns), np.array(trace.joules)
    middle, early_watts = (t0 + t1) // 2, joules / ((t1 - t0) / SECOND_NS)
    if world.uneven:
        middle = np.minimum(t0 + round(world.costs.overhead_seconds * SECOND_NS), middle)
        early_watts = np.minimum(early_watts, world.costs.static_watts)
    late_watts = (joules - early_watts * (middle - t0) / SECOND_NS) / ((t1 - middle) / SECOND_NS)
    knots = np.concatenate([[span_ns[0]], np.stack([t0, middle, t1], axis=1).ravel(), [span_ns[1]]]).astype(np.int64)
    watts = np.full(len(knots) - 1, world.costs.idle_watts)
    watts[1::3], watts[2::3] = early_watts, late_watts
    kept = np.diff(knots) > 0
    return Energy(knots[np.append(kept, True)], watts[kept] * share)


def _served(world: World, wishes: list[Wish], start_ns: int) -> Trace:
    server = Server(world.costs, world.shape, world.scheduler, world.climate, seed=world.seed, start_ns=start_ns)
    server.add(wishes)
    server.work()
    return server.trace


def _devices(world: World) -> tuple[Device, ...]:
    card = world.card if world.told_peaks else replace(world.card, peak_flops=None, peak_bytes_per_second=None)
    return tuple(replace(card, device=f"gpu-{number}") for number in range(len(world.device_shares)))


def _wishes(world: World, rng: np.random.Generator, start_ns: int) -> list[Wish]:
    if world.trace:
        return loads.traced(world.load, list(world.trace), rng, start_ns)
    return loads.draw(world.load, rng, start_ns)


def _told(trace: Trace, world: World, model: str, rng: np.random.Generator) -> Iterator[Step | Request | Sums]:
    if world.witness.steps:
        yield from told_steps(trace, ENGINE, world.witness.hidden_seconds)
    yield from told_requests(trace, ENGINE, model, world.witness, rng)
    if world.witness.sums == "step":
        yield from told_sums(trace, ENGINE)
    if world.witness.sums == "passes":
        yield from told_passes(trace, ENGINE)


def _cap_told(climate: Climate, devices: tuple[str, ...], start_ns: int, end_ns: int) -> Iterator[Event]:
    """Return the events that tell of a power cap, in the words that the agent has for it."""
    t_ns = start_ns + round(climate.cap_after_seconds * SECOND_NS)
    if climate.cap_watts is None or not climate.cap_told or t_ns > end_ns:
        return
    for device in devices:
        yield Event(t_ns, EventKind.REGIME, device, detail=f"power limit 700 W to {climate.cap_watts:g} W")


def _truth(trace: Trace, world: World) -> dict[str, Truth]:
    values = shapley(StepCosts(world.costs, world.shape), trace.steps(world.shape), world.seed)
    _, sequence, _, _, prefill = trace.columns()
    count = len(trace.sequences)

    def per_request(amounts: Floats) -> list[float]:
        summed: list[float] = np.bincount(sequence, amounts, minlength=count).tolist()
        return summed

    is_prefill = prefill.astype(np.float64)
    columns = zip(
        per_request(values.joules * is_prefill),
        per_request(values.joules * (1.0 - is_prefill)),
        np.sqrt(per_request(values.variance)).tolist(),
        strict=True,
    )
    return {name_of(number): Truth(*row) for number, row in enumerate(columns)}
