"""The expected energy of work, and its online fit. Pure.

A group's energy is modelled as ``static * seconds + step * steps + flop * sum(f) + byte * sum(b)`` (ARCHITECTURE.md,
'How joules are split'). The weights that every step reads whatever its batch are one constant a step, so they are in
`step`. The coefficients serve to share a tick and are not published as physics: FLOPs and bytes are collinear.

Shapley's value of such a sum: what is shared goes equally to the members, what one causes is its own. Time is shared
the same way: a member's own time by its FLOPs and bytes, the rest of the group's time equally.
"""

from itertools import combinations

import numpy as np
import numpy.typing as npt

from inferwatt.attribution.work import Floats, Work

_FORGET = 0.999
_ENERGY_RIDGE = 0.005
_TIME_RIDGE = 0.001
"""How strongly the prior pulls, in observations per observation: ticks are noisy and alike, steps are clean."""
_REFIT_TICKS = 16
_REFIT_PART = 8
_MOST_REFIT_TICKS = 128
"""A fit is made anew after so many observations: an eighth of what it rests on, within these bounds."""
_TERMS = 4


def nonnegative_least_squares(gram: Floats, moment: Floats) -> Floats:
    """Minimise x'Gx - 2m'x over x >= 0, for a few unknowns, by trying every set of active ones.

    Args:
        gram: shape (n, n), symmetric, positive semi-definite.
        moment: shape (n,).
    """
    count = len(moment)
    best, best_value = np.zeros(count), 0.0
    for size in range(1, count + 1):
        for active in combinations(range(count), size):
            index = np.array(active)
            try:
                solved = np.linalg.solve(gram[np.ix_(index, index)], moment[index])
            except np.linalg.LinAlgError:
                continue
            value = float(-solved @ moment[index])
            if (solved >= 0).all() and value < best_value:
                best, best_value = np.zeros(count), value
                best[index] = solved
    return best


class RidgeFit:
    """Online non-negative least squares with forgetting, drawn towards a prior where the data do not decide."""

    def __init__(self, terms: int, ridge: float = _ENERGY_RIDGE) -> None:
        self._ridge = ridge
        self._gram = np.zeros((terms, terms))
        self._moment = np.zeros(terms)
        self._scale = np.zeros(terms)
        self._weight = 0.0
        self._since = 0
        self._solution = np.zeros(terms)

    @property
    def observations(self) -> float:
        """The weight of what was seen, in observations."""
        return self._weight

    def observe(self, terms: Floats, total: float) -> None:
        """Learn that `terms` (shape (n,)) came with `total`."""
        self._gram = self._gram * _FORGET + np.outer(terms, terms)
        self._moment = self._moment * _FORGET + terms * total
        self._scale = self._scale * _FORGET + terms
        self._weight = self._weight * _FORGET + 1.0
        self._since += 1

    def solve(self, prior_of_total: Floats) -> Floats:
        """Return the coefficients; the prior gives each term this part of the mean total (shape (n,))."""
        patience = min(max(_REFIT_TICKS, self._weight / _REFIT_PART), _MOST_REFIT_TICKS)
        if self._since >= patience or not self._solution.any():
            self._since = 0
            self._solution = self._solve(prior_of_total)
        return self._solution

    def _solve(self, prior_of_total: Floats) -> Floats:
        if self._weight == 0:
            return np.zeros(len(self._moment))
        mean = self._scale / self._weight
        scale = np.where(mean > 0, mean, 1.0)
        gram = self._gram / np.outer(scale, scale)
        moment = self._moment / scale
        # With all terms scaled to a mean of one, their coefficients are the mean total each one stands for.
        mean_total = float(moment[0] / gram[0, 0]) if gram[0, 0] > 0 else 0.0
        ridge = self._ridge * self._weight
        gram = gram + ridge * np.eye(len(moment))
        moment = moment + ridge * mean_total * prior_of_total
        return np.where(mean > 0, nonnegative_least_squares(gram, moment) / scale, 0.0)


def step_time_fit() -> RidgeFit:
    """Return the fit of how long an engine's steps take: a constant, FLOPs and KV bytes."""
    return RidgeFit(3, _TIME_RIDGE)


class CostModel:
    """What the work of one engine costs on one device: learnt from its ticks and steps.

    How long a step takes is the engine's, whatever the device: `time` is shared by the models of its devices.
    """

    def __init__(
        self, seconds_per_flop: float = 0.0, seconds_per_byte: float = 0.0, time: RidgeFit | None = None
    ) -> None:
        self._energy = RidgeFit(_TERMS)
        self._time = time or step_time_fit()
        self._prior_time = np.array([seconds_per_flop, seconds_per_byte])
        self._own_time = self._prior_time

    def learn_energy(self, work: Work, energy_uj: float) -> None:
        """Learn from a tick: `energy_uj` microjoules were used for this work."""
        self._energy.observe(_totals(work), energy_uj)

    def learn_time(self, flops: float, kv_bytes: float, step_seconds: float) -> None:
        """Learn from one step how long it took with these sums."""
        self._time.observe(np.array([1.0, flops, kv_bytes]), step_seconds)

    def set_own_time(self, seconds_per_flop: float) -> None:
        """Set what a FLOP takes where steps are not known: from how long prompts took to their first token."""
        self._own_time = np.array([seconds_per_flop, self._prior_time[1]])

    def own_seconds(self, flops: Floats, kv_bytes: Floats) -> Floats:
        """Return how long each row would take by its own work, seconds."""
        own = self._own_time
        if self._time.observations > _REFIT_TICKS:
            own = self._time.solve(np.array([1.0, 0.0, 0.0]))[1:]
        result: Floats = own[0] * flops + own[1] * kv_bytes
        return result

    def shares(self, work: Work) -> tuple[Floats, Floats, Floats]:
        """Return each row's expected energy by Shapley's rule, and two extremes: all of it shared, all of it own.

        Each has shape (rows,), in any one unit. The extremes bound what another cost model could have said.
        """
        members = np.bincount(work.group, minlength=len(work.seconds)).astype(np.float64)
        members = np.maximum(members, 1.0)[work.group]
        own_seconds = self._bounded_own_seconds(work)
        own_sum = np.bincount(work.group, own_seconds, minlength=len(work.seconds))
        equal_seconds = work.seconds[work.group] / members
        seconds = own_seconds + np.maximum(work.seconds - own_sum, 0.0)[work.group] / members
        static, step, flop, byte = self._coefficients()
        expected = static * seconds + step * work.steps[work.group] / members + flop * work.flops + byte * work.kv_bytes
        own = own_seconds if own_seconds.any() else work.flops
        return expected, equal_seconds, own

    def _bounded_own_seconds(self, work: Work) -> Floats:
        """Own time may not exceed the group's: where it would, all own times of the group shrink alike."""
        own = self.own_seconds(work.flops, work.kv_bytes)
        own_sum = np.bincount(work.group, own, minlength=len(work.seconds))
        fits = np.divide(work.seconds, own_sum, out=np.ones_like(own_sum), where=own_sum > work.seconds)
        result: Floats = own * fits[work.group]
        return result

    def _coefficients(self) -> npt.NDArray[np.float64]:
        prior = np.array([1.0, 0.0, 0.0, 0.0])
        if self._energy.observations == 0:
            return prior
        solved = self._energy.solve(prior)
        return solved if solved.any() else prior


def _totals(work: Work) -> Floats:
    return np.array([work.seconds.sum(), work.steps.sum(), work.flops.sum(), work.kv_bytes.sum()])
