"""A world that goes on as long as somebody looks: what happened since the last look, and how much was used. Pure."""

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from inferwatt.records import Phase, Step
from inferwatt.simulate import loads
from inferwatt.simulate.engine import Engine
from inferwatt.simulate.sequence import SECOND_NS, Sequence, Trace
from inferwatt.simulate.witness import name_of
from inferwatt.simulate.world import ENGINE, World

_BLOCK_REQUESTS = 32
"""Requests are drawn so many at once."""
_FULL = 200
"""With so many open requests no more are drawn: the load is more than the engine can take."""
_KEPT_SECONDS = 5.0
"""How far back the energy is known."""


@dataclass(slots=True)
class Happened:
    """What happened between two looks: steps that ended, requests that began, and such as ended."""

    steps: list[Step] = field(default_factory=list)
    begun: list[Sequence] = field(default_factory=list)
    ended: list[Sequence] = field(default_factory=list)


class Stream:
    """An engine under a load without end, from `start_ns` on; look at it with times that do not fall."""

    def __init__(self, world: World, start_ns: int) -> None:
        self._world = replace(world, load=replace(world.load, requests=_BLOCK_REQUESTS))
        self._rng = np.random.default_rng(world.seed)
        self._engine = Engine(
            world.costs, world.shape, world.scheduler, world.climate, seed=world.seed, start_ns=start_ns
        )
        self._drawn_until_ns = start_ns
        self._coming: deque[Sequence] = deque()
        self._open: list[Sequence] = []
        self._steps: deque[tuple[int, int, float]] = deque()
        self._pending: deque[Step] = deque()
        self._settled_ns = start_ns
        self._settled_joules = 0.0

    def look(self, now_ns: int) -> Happened:
        """Return what happened until `now_ns` and was not told before."""
        while self._drawn_until_ns <= now_ns and self._engine.open_requests < _FULL:
            wishes = loads.draw(self._world.load, self._rng, self._drawn_until_ns)
            self._drawn_until_ns = wishes[-1].arrival_ns
            self._engine.add(wishes)
            self._coming.extend(self._engine.trace.sequences)
            self._engine.trace.sequences.clear()
        self._drawn_until_ns = max(self._drawn_until_ns, now_ns - SECOND_NS)
        self._engine.work(now_ns)
        self._take_steps(self._engine.trace)
        happened = Happened()
        while self._pending and self._pending[0].t1_ns <= now_ns:
            happened.steps.append(self._pending.popleft())
        happened.begun = self._newly_begun(now_ns)
        self._open += happened.begun
        happened.ended = [seq for seq in self._open if _ended_ns(seq, now_ns) is not None]
        self._open = [seq for seq in self._open if _ended_ns(seq, now_ns) is None]
        return happened

    def joules(self, now_ns: int) -> float:
        """Return all that was used from the start to `now_ns`, which is at most the last look and a few seconds ago."""
        busy_ns, joules = 0, 0.0
        for t0_ns, t1_ns, amount in self._steps:
            part = min(max((now_ns - t0_ns) / max(t1_ns - t0_ns, 1), 0.0), 1.0)
            busy_ns += round(part * (t1_ns - t0_ns))
            joules += part * amount
        idle_ns = max(now_ns - self._settled_ns, 0) - busy_ns
        return self._settled_joules + joules + self._world.costs.idle_watts * idle_ns / SECOND_NS

    def busy_ratio(self, t0_ns: int, t1_ns: int) -> float:
        """Return how much of a time some step ran."""
        busy_ns = sum(max(min(t1_ns, end) - max(t0_ns, begin), 0) for begin, end, _ in self._steps)
        return min(busy_ns / (t1_ns - t0_ns), 1.0) if t1_ns > t0_ns else 0.0

    def forget(self, now_ns: int) -> None:
        """Settle what is older than a few seconds."""
        before_ns = now_ns - round(_KEPT_SECONDS * SECOND_NS)
        old = [end_ns for _, end_ns, _ in self._steps if end_ns <= before_ns]
        if old:
            self._settled_joules, self._settled_ns = self.joules(old[-1]), old[-1]
        for _ in old:
            self._steps.popleft()

    def _newly_begun(self, now_ns: int) -> list[Sequence]:
        begun = []
        while self._coming and self._coming[0].wish.arrival_ns <= now_ns:
            begun.append(self._coming.popleft())
        return begun

    def _take_steps(self, trace: Trace) -> None:
        """Take the steps out of the trace, so that it does not grow."""
        phases = (Phase.DECODE, Phase.PREFILL)
        for t0_ns, t1_ns, joules, rows in zip(trace.t0_ns, trace.t1_ns, trace.joules, trace.members, strict=True):
            self._steps.append((t0_ns, t1_ns, joules))
            members = tuple(
                (name_of(number), new, context, phases[is_prefill]) for number, new, context, is_prefill in rows
            )
            self._pending.append(Step(t0_ns, t1_ns, ENGINE, members))
        for column in (trace.t0_ns, trace.t1_ns, trace.joules, trace.members, trace.conditions):
            column.clear()


def _ended_ns(seq: Sequence, now_ns: int) -> int | None:
    """Return when a request ended, None where it has not by now."""
    ended_ns = seq.aborted_ns if seq.aborted_ns is not None else (seq.token_ns[-1] if seq.done else None)
    return ended_ns if ended_ns is not None and ended_ns <= now_ns else None
