"""The split over arrays: a counter and the steps of one engine in, joules of each request out. Pure.

For notebooks and for other meters. It is the attribution of the agent, fed from arrays; what the agent also knows
(several devices and engines, processes, idle of unloaded models, requests without steps) is `Attributor`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inferwatt.attribution.arrays import Floats
from inferwatt.attribution.attributor import Attributor, Closed
from inferwatt.errors import RecordRejected
from inferwatt.records import Device, Engine, Model, Outcome, Phase, Reading, Request, RequestEnergy, Step
from inferwatt.units import joules

_ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class Steps:
    """Engine steps and their members as columns.

    Args:
        start_ns: shape (steps,), when each began, nanoseconds of any clock that only grows.
        end_ns: shape (steps,).
        step: shape (members,), which step each member was in.
        request: length members, whose work it was.
        new_tokens: shape (members,), tokens computed.
        context_tokens: shape (members,), tokens in its KV cache before the step.
        prefill: shape (members,), whether the new tokens are of its prompt.
    """

    start_ns: npt.ArrayLike
    end_ns: npt.ArrayLike
    step: npt.ArrayLike
    request: Sequence[str]
    new_tokens: npt.ArrayLike
    context_tokens: npt.ArrayLike
    prefill: npt.ArrayLike


@dataclass(frozen=True, slots=True)
class Split:
    """Joules of each request, and of nobody: energies, idle and unattributed sum to what was measured."""

    request: tuple[str, ...]
    """In the order in which they first were at work."""
    energy_joules: Floats
    """Shape (requests,), like all that follow: active energy, idle not included."""
    prefill_joules: Floats
    decode_joules: Floats
    low_joules: Floats
    """The 90% interval of the split, the counter taken as true."""
    high_joules: Floats
    shared_joules: Floats
    """Of its energy, its equal part of what all members of its steps need together."""
    context_joules: Floats
    recomputed_joules: Floats
    marginal_joules: Floats
    """What would have been used less without it."""
    measured_joules: float = 0.0
    idle_joules: float = 0.0
    unattributed_joules: float = 0.0
    unused: tuple[str, ...] = ()
    """Requests of which no reading tells anything."""


def attribute(
    counter_ns: npt.ArrayLike,
    counter_uj: npt.ArrayLike,
    steps: Steps,
    *,
    model: Model | None = None,
    device: Device | None = None,
) -> Split:
    """Split what a counter gained among the requests whose steps ran meanwhile.

    Args:
        counter_ns: shape (polls,), when the counter was read, on the clock of the steps.
        counter_uj: shape (polls,), what it showed, microjoules.
        steps: what the engine did.
        model: the model's shape; without it a token counts for a token.
        device: its peaks and idle power, where they are known; they are learnt else.

    Raises:
        RecordRejected: columns of unlike lengths, or a step that ends before it starts.
    """
    polls = sorted(zip(np.asarray(counter_ns).tolist(), np.asarray(counter_uj).tolist(), strict=True))
    device = device or Device("device")
    attributor = Attributor()
    attributor.add_device(device)
    if model is not None:
        attributor.add_model(model)
    attributor.add_engine(Engine(_ENGINE, model.model if model else "", (device.device,)))
    found: dict[str, RequestEnergy] = {}
    order: dict[str, int] = {}
    waiting = _records(steps)
    for t_ns, uj in polls:
        while waiting and waiting[-1].t0_ns < t_ns:
            step = waiting.pop()
            order.update(dict.fromkeys((name for name, *_ in step.members), step.t1_ns))
            attributor.step(step)
        attributor.reading(Reading(round(t_ns), device.device, counter_uj=round(uj)))
        found |= _final(attributor.advance(round(t_ns)))
    for name, end_ns in order.items():
        attributor.request(Request(name, _ENGINE, end_ns=end_ns, outcome=Outcome.FINISHED))
    found |= _final(attributor.advance(round(polls[-1][0]) if polls else 0, last=True))
    return _split(order, found, attributor.devices[device.device].accounts())


def _records(steps: Steps) -> list[Step]:
    """Return the steps, the last to begin first.

    Raises:
        RecordRejected: columns of unlike lengths.
    """
    columns = [np.asarray(each) for each in (steps.step, steps.new_tokens, steps.context_tokens, steps.prefill)]
    start_ns, end_ns = np.asarray(steps.start_ns), np.asarray(steps.end_ns)
    if len({len(steps.request), *map(len, columns)}) > 1 or len(start_ns) != len(end_ns):
        raise RecordRejected("columns of unlike lengths", where="steps", fix="give each member one value in each")
    members: list[list[tuple[str, int, int, Phase]]] = [[] for _ in start_ns]
    for name, number, new, context, prefill in zip(steps.request, *(each.tolist() for each in columns), strict=True):
        members[number].append((name, int(new), int(context), Phase.PREFILL if prefill else Phase.DECODE))
    rows = zip(start_ns.tolist(), end_ns.tolist(), members, strict=True)
    made = [Step(round(t0), round(t1), _ENGINE, tuple(each)) for t0, t1, each in rows if each]
    return sorted(made, key=lambda step: step.t0_ns, reverse=True)


def _final(closed: Closed) -> dict[str, RequestEnergy]:
    return {record.request: energy for record, energy in closed.requests if energy.parts}


def _split(order: dict[str, int], found: dict[str, RequestEnergy], accounts: dict[str, int]) -> Split:
    names = tuple(name for name in order if name in found)
    energies = [found[name] for name in names]
    details = [energy.details_uj for energy in energies]

    def of(name: str) -> Floats:
        return np.array([joules(each.get(name, 0)) for each in details])

    return Split(
        request=names,
        energy_joules=np.array([joules(energy.energy_uj) for energy in energies]),
        prefill_joules=np.array([joules(energy.prefill_uj) for energy in energies]),
        decode_joules=np.array([joules(energy.decode_uj) for energy in energies]),
        low_joules=np.array([joules(energy.low_uj) for energy in energies]),
        high_joules=np.array([joules(energy.high_uj) for energy in energies]),
        shared_joules=of("shared"),
        context_joules=of("context"),
        recomputed_joules=of("recomputed"),
        marginal_joules=of("marginal"),
        measured_joules=joules(accounts["measured"]),
        idle_joules=joules(accounts["idle_resident"] + accounts["idle_empty"]),
        unattributed_joules=joules(accounts["unattributed"]),
        unused=tuple(name for name in order if name not in found),
    )
