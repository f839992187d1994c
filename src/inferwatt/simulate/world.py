"""A whole run: a load, an engine that serves it, meters that watch, and what each request truly used. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from inferwatt.records import (
    UNKNOWN_TENANT,
    Device,
    Engine,
    Event,
    Model,
    Outcome,
    Phase,
    Provenance,
    Reading,
    Request,
    Step,
    Sums,
)
from inferwatt.simulate import engine as engines
from inferwatt.simulate import loads, meter
from inferwatt.simulate.costs import SHAPE, Costs, Floats, StepCosts
from inferwatt.simulate.engine import SECOND_NS, Scheduler, Sequence, Trace, Wish
from inferwatt.simulate.loads import Load
from inferwatt.simulate.meter import Energy, Meter
from inferwatt.simulate.shapley import shapley

ENGINE = "e0"
_START_NS = 1_000 * SECOND_NS
_CARD = Device(
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
class Witness:
    """What is seen of the requests beside their steps: how late, with which chunks and sums."""

    late_seconds: float = 0.0002
    """Mean delay of a first and a last token on their way to the witness."""
    chunks: bool = False
    sums: str = ""
    """Whose sums the server tells: of each `step`, of each `second`, or none."""


@dataclass(frozen=True, slots=True)
class World:
    """All that decides a simulated run; equal worlds are equal runs."""

    load: Load
    seed: int = 1
    costs: Costs = field(default_factory=Costs)
    shape: Model = SHAPE
    told_shape: Model | None = None
    """What is told of the model's shape; None: the truth."""
    scheduler: Scheduler = field(default_factory=Scheduler)
    meter: Meter = field(default_factory=Meter)
    witness: Witness = field(default_factory=Witness)
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
    """What the device used over the whole run, idle times included."""


def simulate(world: World) -> Run:
    """Return the run of a world."""
    rng = np.random.default_rng(world.seed)
    start_ns = _START_NS + round(world.lead_seconds * SECOND_NS)
    trace = engines.Engine(world.costs, world.shape, world.scheduler).serve(_wishes(world, rng, start_ns), start_ns)
    end_ns = max(start_ns, *trace.t1_ns) + round(world.tail_seconds * SECOND_NS)
    energy, total = true_energy(trace, world.costs.idle_watts, (_START_NS, end_ns))
    told = world.told_shape or world.shape
    records = [
        *_steps(trace),
        *_requests(trace, told.model, world.witness, rng),
        *_sums(trace, world.witness),
        *meter.readings(world.meter, energy, _CARD.device, (_START_NS, end_ns), rng),
    ]
    return Run(
        engines=(Engine(ENGINE, told.model, (_CARD.device,)),),
        models=(told,),
        devices=(_CARD,),
        records=tuple(records),
        truth=_truth(trace, world),
        active_joules=sum(trace.joules),
        total_joules=total,
    )


def true_energy(trace: Trace, idle_watts: float, span_ns: tuple[int, int]) -> tuple[Energy, float]:
    """Return the device's energy over time, and all of it: steps at their own power, idle between them."""
    t0, t1 = np.array(trace.t0_ns), np.array(trace.t1_ns)
    knots = np.concatenate([[span_ns[0]], np.stack([t0, t1], axis=1).ravel(), [span_ns[1]]]).astype(np.int64)
    watts = np.full(len(knots) - 1, idle_watts)
    watts[1::2] = np.array(trace.joules) / ((t1 - t0) / SECOND_NS)
    kept = np.append(np.diff(knots) > 0, True)
    energy = Energy(knots[kept], watts[kept[:-1]])
    total = float((watts * np.diff(knots)).sum() / SECOND_NS)
    return energy, total


def name_of(number: int) -> str:
    """Return the id of a request."""
    return f"r{number:05d}"


def _wishes(world: World, rng: np.random.Generator, start_ns: int) -> list[Wish]:
    if world.trace:
        return loads.traced(world.load, list(world.trace), rng, start_ns)
    return loads.draw(world.load, rng, start_ns)


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


def _steps(trace: Trace) -> Iterator[Step]:
    phases = (Phase.DECODE, Phase.PREFILL)
    for t0_ns, t1_ns, rows in zip(trace.t0_ns, trace.t1_ns, trace.members, strict=True):
        members = tuple((name_of(number), new, context, phases[prefill]) for number, new, context, prefill in rows)
        yield Step(t0_ns, t1_ns, ENGINE, members)


def _requests(trace: Trace, model: str, witness: Witness, rng: np.random.Generator) -> Iterator[Request]:
    late = rng.exponential(witness.late_seconds * SECOND_NS, (len(trace.sequences), 2)).astype(np.int64).tolist()
    for seq, (late_first, late_last) in zip(trace.sequences, late, strict=True):
        record = _request(seq, model)
        first_ns, end_ns = seq.token_ns[0] + late_first, seq.token_ns[-1] + late_last
        if witness.chunks:
            seen = tuple(moment + late_first for moment in seq.token_ns)
            record = replace(record, chunk_ns=seen)
            end_ns = max(end_ns, seen[-1])
        yield replace(record, first_token_ns=first_ns, end_ns=max(end_ns, first_ns))


def _request(seq: Sequence, model: str) -> Request:
    wish = seq.wish
    return Request(
        name_of(seq.number),
        ENGINE,
        model,
        tenant=wish.tenant or UNKNOWN_TENANT,
        arrival_ns=wish.arrival_ns,
        prompt_tokens=wish.prompt_tokens,
        cached_tokens=min(wish.cached_tokens, wish.prompt_tokens - 1),
        output_tokens=wish.output_tokens,
        outcome=Outcome.FINISHED,
    )


def _sums(trace: Trace, witness: Witness) -> Iterator[Sums]:
    if witness.sums != "step":
        return
    for t0_ns, t1_ns, rows in zip(trace.t0_ns, trace.t1_ns, trace.members, strict=True):
        prompt = sum(new for _, new, _, prefill in rows if prefill)
        decoded = sum(1 for *_, prefill in rows if not prefill)
        yield Sums(t0_ns, t1_ns, ENGINE, prompt_tokens=prompt, output_tokens=decoded, running=len(rows))
