"""How late a counter tells of what was used: learnt from when the engine's steps explain its ticks best. Pure.

A driver averages and publishes late, so that a tick shows the work of a little earlier. For each lag of a grid the
tick's energy is fitted by the work in the tick moved back by it; the lag with the smallest rest is the counter's.
"""

from collections.abc import Sequence

import numpy as np

from inferwatt.attribution.arrays import Floats
from inferwatt.attribution.lives import FAR_NS
from inferwatt.attribution.timeline import Tick
from inferwatt.attribution.work import Shape, StepRows, from_steps
from inferwatt.units import NS_PER_SECOND

_LAGS_NS = np.arange(0, 160_000_001, 10_000_000)
MOST_NS = int(_LAGS_NS[-1])
"""The longest lag that is looked for: what a tick this much earlier did is still needed."""
_TERMS = 5
_FORGET = 0.998
_RIDGE = 1e-6
_DECIDE_EVERY = 32
_ENOUGH = 64
_EVERY = 8
_CLEAR = 0.95
"""A lag counts only where it leaves less than this part of the rest that no lag at all leaves."""


class Lag:
    """The lag of one device's counter behind one engine's steps."""

    def __init__(self) -> None:
        self.ns = 0
        """Nanoseconds; 0 until the steps say otherwise."""
        self._gram = np.zeros((len(_LAGS_NS), _TERMS, _TERMS))
        self._moment = np.zeros((len(_LAGS_NS), _TERMS))
        self._square = 0.0
        self._count = 0
        self._seen = 0

    def suppose(self, lag_ns: int) -> None:
        """Take the lag of another time, until the steps of this one tell it."""
        if self._count == 0 and 0 <= lag_ns <= MOST_NS:
            self.ns = lag_ns

    def is_due(self) -> bool:
        """Return whether the next tick is to be learnt from: each at first, every eighth later."""
        self._seen += 1
        return self._count < 4 * _ENOUGH or self._seen % _EVERY == 0

    def learn(self, tick: Tick, steps: Sequence[StepRows], shape: Shape) -> None:
        """Learn from a tick, given every step from `MOST_NS` before it to its end."""
        if not steps:
            return
        terms = _terms(tick, steps, shape)
        energy = tick.energy_uj / max(tick.elapsed_ns, 1)
        self._gram = self._gram * _FORGET + terms[:, :, None] * terms[:, None, :]
        self._moment = self._moment * _FORGET + terms * energy
        self._square = self._square * _FORGET + energy**2
        self._count += 1
        if self._count >= _ENOUGH and self._count % _DECIDE_EVERY == 0:
            self._decide()

    def _decide(self) -> None:
        scale = np.sqrt(np.maximum(np.einsum("lii->li", self._gram), 1e-300)).max(axis=0)
        gram = self._gram / np.outer(scale, scale) + _RIDGE * np.eye(_TERMS)
        moment = self._moment / scale
        solved = np.linalg.solve(gram, moment[:, :, None])[:, :, 0]
        rest = self._square - (solved * moment).sum(axis=1)
        best = int(rest.argmin())
        if rest[best] > _CLEAR * rest[0]:
            self.ns = 0
            return
        self.ns = int(_LAGS_NS[best] + _top(rest, best) * (_LAGS_NS[1] - _LAGS_NS[0]))


def _top(rest: Floats, best: int) -> float:
    """Return where between its neighbours the smallest rest lies, by a parabola: -0.5 to 0.5."""
    if best in {0, len(rest) - 1}:
        return 0.0
    before, here, after = rest[best - 1 : best + 2]
    bend = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend > 0 else 0.0


def _terms(tick: Tick, steps: Sequence[StepRows], shape: Shape) -> Floats:
    """Return the work in the tick for each lag, shape (lags, terms): idle and busy parts, steps, FLOPs, bytes."""
    whole = from_steps(steps, -FAR_NS, FAR_NS, shape)
    assert whole is not None
    count = len(steps)
    starts = np.array([step.t0_ns for step in steps], dtype=np.float64)
    lasting = np.maximum(np.array([step.t1_ns for step in steps], dtype=np.float64) - starts, 1.0)
    each = np.stack(
        [
            lasting / NS_PER_SECOND,
            np.ones(count),
            np.bincount(whole.group, whole.flops, count),
            np.bincount(whole.group, whole.read_bytes, count),
        ],
        axis=1,
    )
    edges = np.array([tick.t0_ns, tick.t1_ns])[:, None] - _LAGS_NS
    done = np.clip((edges[:, :, None] - starts) / lasting, 0.0, 1.0) @ each
    work = (done[1] - done[0]) / (tick.elapsed_ns / NS_PER_SECOND)
    result: Floats = np.concatenate([1.0 - work[:, :1], work], axis=1)
    return result
