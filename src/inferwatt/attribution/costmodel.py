"""The expected energy of work, and its online fit. Pure.

A group's energy is modelled as ``static * seconds + step * steps + flop * sum(f) + byte * sum(b)`` (ARCHITECTURE.md,
'How joules are split'). The weights that every step reads whatever its batch are one constant a step, so they are in
`step`. The coefficients serve to share a tick and are not published as physics: FLOPs and bytes are collinear.

Shapley's value of such a sum: what is shared goes equally to the members, what one causes is its own. Time is shared
the same way: a member's own time by its FLOPs and bytes, the rest of the group's time equally.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inferwatt.attribution.accounts import NOTES, UNEXPLAINED
from inferwatt.attribution.arrays import Floats, Ints
from inferwatt.attribution.ridge import BayesFit
from inferwatt.attribution.steptime import StepTime
from inferwatt.attribution.work import Work

UNSURE_RATIO = 0.3
"""How far each term's part of the energy may be from the prior's, one standard deviation."""
FORGET = 0.99
"""Clocks and heat drift: a tick counts half after 70. Chosen on the tuning loads of benchmarks/accuracy.py."""
_NOT_LEARNT = 0.15
"""What of a tick no work explains, before any tick taught anything."""
_NOTHING = 1e-9
"""Less is no energy, µJ: to divide by it would overflow."""
_PRIOR = np.array([1.0, 0.0, 0.0, 0.0])
TERMS = len(_PRIOR)


@dataclass(frozen=True, slots=True)
class Priced:
    """What one engine's work in a tick is expected to have used, one column for each request and phase.

    `doubts` are what `expected` changes by one standard deviation of the coefficients, shape (directions, columns).
    """

    keys: Ints
    """`slot * 2`, and one more for decode; ascending."""
    expected: Floats
    """µJ where it `is_learnt`, else in any one unit."""
    doubts: Floats
    parts: Floats
    """Of `expected`: what is shared, for context, computed again; and the marginal figure. Shape (4, columns)."""
    is_learnt: bool

    @property
    def known_uj(self) -> float:
        """What all of it is expected to have used, µJ; 0 where nothing is learnt."""
        return float(self.expected.sum()) if self.is_learnt else 0.0

    def by_tokens(self, work: Work, weights: Floats) -> "Priced":
        """Return the same with other weights of the work's rows: what it used is not known, only how much it was."""
        summed = np.bincount(work.key, weights).astype(np.float64)
        nothing = np.zeros_like(self.doubts), np.zeros_like(self.parts)
        return Priced(self.keys, summed[self.keys], *nothing, is_learnt=False)

    def shares(self, energy_uj: float) -> tuple[Floats, Floats]:
        """Share energy, µJ: each column's part, and what is noted beside it, as `Shares.add_rows` takes them."""
        total = float(self.expected.sum())
        if total < _NOTHING or energy_uj < _NOTHING:
            return np.zeros(len(self.keys)), np.zeros((NOTES, len(self.keys)))
        fair = self.expected * (energy_uj / total)
        moved = (self.doubts * energy_uj - self.doubts.sum(axis=1)[:, None] * fair) / total
        moved = np.minimum(np.maximum(moved, -energy_uj), energy_uj)
        moved[np.isnan(moved)] = 0.0  # coefficients of next to nothing
        unexplained = min(abs(energy_uj - total) / energy_uj, 1.0) if self.is_learnt else _NOT_LEARNT
        return fair, np.concatenate([moved, [unexplained * fair], self.parts * (energy_uj / total)])


class CostModel:
    """What the work of one engine costs on one device: learnt from its ticks and steps.

    How long a step takes is the engine's, whatever the device: `time` is shared by the models of its devices.
    """

    def __init__(self, time: StepTime | None = None) -> None:
        self._energy = BayesFit(len(_PRIOR), UNSURE_RATIO, FORGET)
        self.time = time or StepTime()

    def learn_energy(self, work: Work, energy_uj: float) -> None:
        """Learn from a tick: `energy_uj` microjoules were used for this work."""
        self._energy.observe(totals(work), energy_uj)

    def doubt_ticks(self) -> None:
        """Trust the ticks so far little: the world that they were seen in is another now."""
        self._energy.fade()

    def saved(self) -> tuple[float, ...]:
        """Return what was learnt of its ticks, as numbers that `resume` takes."""
        return self._energy.saved()

    def resume(self, saved: Sequence[float]) -> None:
        """Begin from what was learnt another time."""
        self._energy.resume(saved)

    def expect(self, work: Work) -> tuple[Ints, Floats, Floats] | None:
        """Return what work whose energy is not known yet will have used, by the last fit: keys, µJ and notes.

        None where nothing is learnt. Nothing changes by asking.
        """
        if not self._energy.latest.any():
            return None
        priced = self._priced(work, self._energy.latest)
        fair, notes = priced.shares(float(priced.expected.sum()))
        notes[UNEXPLAINED] = self._energy.noise_ratio * fair
        return priced.keys, fair, notes

    def price(self, work: Work) -> "Priced":
        """Return what each request is expected to have used by Shapley's rule, and how unsure that is."""
        return self._priced(work, self._coefficients())

    def _priced(self, work: Work, coefficients: Floats) -> "Priced":
        group, groups = work.group, len(work.seconds)
        members, times = work.members, self.time.times(work)
        own_sum = np.bincount(group, times.own, minlength=groups)
        equal_seconds = (np.maximum(work.seconds - own_sum, 0.0) / members)[group]
        equal_steps = (work.steps / members)[group]
        columns = (times.own + equal_seconds, equal_steps, work.flops, work.read_bytes)
        key = work.key
        keys = np.flatnonzero(np.bincount(key))
        terms = np.stack([np.bincount(key, column)[keys] for column in columns])
        static, step, flop, byte = coefficients
        shared = static * equal_seconds + step * equal_steps
        context = static * times.context + byte * work.kv_bytes
        alone = np.where(members > 1, 0.0, step * work.steps)[group]
        marginal = static * times.marginal + alone + flop * work.flops + byte * times.marginal_bytes
        again = None if work.again is None else work.again * (coefficients @ np.stack(columns))
        parts = [
            np.zeros(len(keys)) if each is None else np.bincount(key, each)[keys]
            for each in (shared, context, again, marginal)
        ]
        is_learnt = coefficients is not _PRIOR
        return Priced(keys, coefficients @ terms, self._energy.doubts @ terms, np.stack(parts), is_learnt)

    def _coefficients(self) -> Floats:
        if self._energy.observations == 0:
            return _PRIOR
        solved = self._energy.solve(_PRIOR)
        return solved if solved.any() else _PRIOR


def totals(work: Work) -> Floats:
    """Return the terms of all of a tick's work together."""
    return np.array([work.seconds.sum(), work.steps.sum(), work.flops.sum(), work.read_bytes.sum()])
