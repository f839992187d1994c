"""How late a counter tells of what was used, and over how long it averages: learnt from its ticks. Pure.

A driver averages and publishes late, so that a tick shows the work of a little earlier. For each lag and window of a
grid the tick's energy is fitted by the work that it then shows; those with the smallest rest are the counter's.
"""

from collections.abc import Sequence

import numpy as np

from inferwatt.attribution.arrays import Floats
from inferwatt.attribution.blur import used_until
from inferwatt.attribution.timeline import Tick
from inferwatt.attribution.work import Shape, StepRows
from inferwatt.units import NS_PER_SECOND

_MS = 1_000_000
_PLAIN_NS = np.arange(0, 241, 10) * _MS
_LATE_NS, _WINDOWS_NS = (
    grid.ravel() for grid in np.meshgrid([0, 20, 40, 60, 80, 120, 160, 200, 240], [50, 100, 200, 300, 500, 1000])
)
_LATE_NS, _WINDOWS_NS = _LATE_NS * _MS, _WINDOWS_NS * _MS
_BACK_NS = np.concatenate([_PLAIN_NS, _LATE_NS, _LATE_NS + _WINDOWS_NS])
_PLAIN = len(_PLAIN_NS)
_GUESSES = _PLAIN + len(_LATE_NS)
"""First each lag without a window, then some with each window: NVML averages over 25 ms to 1 s, by the GPU
(Yang, Adamek, Armour, "Part-time Power Measurements", SC 2024, table 3)."""
MOST_NS = int(_PLAIN_NS[-1] + _WINDOWS_NS.max())
"""What was used so long before a tick may still be shown in it."""
_TERMS = 5
_FORGET = 0.998
_RIDGE = 1e-6
_DECIDE_EVERY = 16
_ENOUGH = 32
_EVERY = 8
_CLEAR = 0.95
"""A lag counts only where it leaves less than this part of the rest that no lag at all leaves."""
_SHARP = 0.7
"""A window only where it leaves less than this of the rest that the best lag leaves: where power follows no work a wide
one leaves 0.73 to 1 of it by chance, where a counter averages over 100 ms or more it leaves at most 0.66 (tuning loads
of benchmarks/accuracy.py, and benchmarks/unlike.py)."""
_NOTHING = 1e-5
"""What of the squared power is rounding: a load that never varies tells nothing."""


class Lag:
    """The lag of one device's counter behind one engine's steps."""

    def __init__(self) -> None:
        self.ns = 0
        """Nanoseconds; 0 until the steps say otherwise."""
        self.window_ns = 0
        self._gram = np.zeros((_GUESSES, _TERMS, _TERMS))
        self._moment = np.zeros((_GUESSES, _TERMS))
        self._square = 0.0
        self._count = 0
        self._seen = 0

    @property
    def reach_ns(self) -> int:
        """What was used before so long before a tick's end is shown by then, nanoseconds."""
        return self.ns + self.window_ns

    def used(self, tick: Tick) -> Tick:
        """Return a tick at the time when what it shows was used."""
        return tick.earlier(self.ns, self.window_ns)

    def suppose(self, lag_ns: int, window_ns: int = 0) -> None:
        """Take the lag of another time, until the steps of this one tell it."""
        if self._count == 0 and min(lag_ns, window_ns) >= 0 and lag_ns + window_ns <= MOST_NS:
            self.ns, self.window_ns = lag_ns, window_ns

    def is_due(self) -> bool:
        """Return whether the next tick is to be learnt from: each at first, every eighth later."""
        self._seen += 1
        return self._count < 8 * _ENOUGH or self._seen % _EVERY == 0

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
        best = int(rest[:_PLAIN].argmin())
        nothing = _NOTHING * self._square
        if rest[best] > _CLEAR * rest[0] - nothing:
            best = 0
        blurred = int(rest[_PLAIN:].argmin())
        if rest[_PLAIN + blurred] < _SHARP * rest[best] - nothing:
            self.ns, self.window_ns = int(_LATE_NS[blurred]), int(_WINDOWS_NS[blurred])
        else:
            self.ns = int(_PLAIN_NS[best] + _top(rest[:_PLAIN], best) * (_PLAIN_NS[1] - _PLAIN_NS[0]))
            self.window_ns = 0


def _top(rest: Floats, best: int) -> float:
    """Return where between its neighbours the smallest rest lies, by a parabola: -0.5 to 0.5."""
    if best in {0, len(rest) - 1}:
        return 0.0
    before, here, after = rest[best - 1 : best + 2]
    bend = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend > 0 else 0.0


def _terms(tick: Tick, steps: Sequence[StepRows], shape: Shape) -> Floats:
    """Return the work that the tick shows by each guess, shape (guesses, terms): idle, busy, steps, FLOPs, bytes."""
    starts_ns = np.array([step.t0_ns for step in steps])
    ends_ns = np.maximum(np.array([step.t1_ns for step in steps]), starts_ns + 1)
    lasting_ns = ends_ns - starts_ns
    totals = np.array([step.totals(shape) for step in steps])
    each = np.array([lasting_ns / NS_PER_SECOND, np.ones(len(steps)), *totals.T])
    until, area = used_until(np.array([tick.t0_ns - _BACK_NS, tick.t1_ns - _BACK_NS]), starts_ns, ends_ns, each)
    plain, blurred = until[:, 1] - until[:, 0], area[:, 1] - area[:, 0]
    means = (blurred[:, _PLAIN:_GUESSES] - blurred[:, _GUESSES:]) / _WINDOWS_NS
    work = np.concatenate([plain[:, :_PLAIN], means], axis=1) / (tick.elapsed_ns / NS_PER_SECOND)
    result: Floats = np.concatenate([1.0 - work[:1], work]).T
    return result
