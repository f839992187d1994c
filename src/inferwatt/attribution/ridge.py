"""Online non-negative least squares of a few unknowns, with forgetting and a prior. Pure."""

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import combinations

import numpy as np

from inferwatt.attribution.arrays import Floats, Ints

_FORGET = 0.999
_FIRST_NOISE_RATIO = 0.1
_FIRST_NOISES = 0.25
"""Until their rest is seen, observations are taken to be this noisy; that counts for so many of them."""
_LEAST_RIDGE = 1e-6
"""Observations without any noise still leave something to the prior: their terms may be collinear."""
_OLD_PART = 0.1
_RESUMED = 16.0
"""So many observations is worth what was seen another time."""
_REFIT_PART = 8
_MOST_REFIT_TICKS = 128
"""A fit is made anew after an eighth of the observations that it rests on, at most so many."""


def nonnegative_least_squares(gram: Floats, moment: Floats) -> Floats:
    """Minimise x'Gx - 2m'x over x >= 0, for a few unknowns, by trying every set of active ones.

    Args:
        gram: shape (n, n), symmetric, positive semi-definite.
        moment: shape (n,).
    """
    count = len(moment)
    best, best_value = np.zeros(count), 0.0
    with suppress(np.linalg.LinAlgError):
        free: Floats = np.linalg.solve(gram, moment).astype(np.float64, copy=False)
        if (free >= 0).all():
            return free
    for size in range(1, count + 1):
        active = _sets(count, size)
        try:
            solved = np.linalg.solve(gram[active[:, :, None], active[:, None, :]], moment[active][:, :, None])[:, :, 0]
        except np.linalg.LinAlgError:
            continue
        values = np.where((solved >= 0).all(axis=1), -(solved * moment[active]).sum(axis=1), 0.0)
        at = int(values.argmin())
        if values[at] < best_value:
            best, best_value = np.zeros(count), float(values[at])
            best[active[at]] = solved[at]
    return best


@cache
def _sets(count: int, size: int) -> Ints:
    """Return every set of so many of `count` unknowns, by their indices, shape (sets, size)."""
    return np.array([*combinations(range(count), size)])


class RidgeFit:
    """Online non-negative least squares with forgetting, drawn towards a prior where the data do not decide.

    Args:
        terms: how many unknowns.
        ridge: how strongly the prior pulls, in observations per observation.
        forget: what weight an observation keeps with each that follows.
    """

    def __init__(self, terms: int, ridge: float, forget: float = _FORGET) -> None:
        self._ridge = ridge
        self._forget = forget
        self._gram = np.zeros((terms, terms))
        self._moment = np.zeros(terms)
        self._square = 0.0
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
        self._gram = self._gram * self._forget + terms[:, None] * terms
        self._moment = self._moment * self._forget + terms * total
        self._square = self._square * self._forget + total * total
        self._scale = self._scale * self._forget + terms
        self._weight = self._weight * self._forget + 1.0
        self._since += 1

    def fade(self, part: float = _OLD_PART) -> None:
        """Trust what was seen so far little: the world that it was seen in is another now."""
        for sums in (self._gram, self._moment, self._scale):
            sums *= part
        self._square *= part
        self._weight *= part

    def saved(self) -> tuple[float, ...]:
        """Return what was seen, as numbers that `resume` takes."""
        sums = (self._gram, self._moment, self._scale)
        return (self._weight, self._square, *(number for each in sums for number in each.ravel().tolist()))

    def resume(self, saved: Sequence[float]) -> None:
        """Begin from what was seen another time, worth a few observations; numbers that cannot be are ignored."""
        count = len(self._moment)
        if len(saved) != 2 + count * (count + 2) or not np.isfinite(saved).all() or saved[0] <= 0:
            return
        self._weight, self._square = saved[:2]
        gram, self._moment, self._scale = np.split(np.array(saved[2:]), [count**2, count**2 + count])
        self._gram = gram.reshape(count, count)
        self.fade(min(1.0, _RESUMED / self._weight))

    def extended(self, terms: Floats, totals: Floats) -> "RidgeFit":
        """Return a fit that has also seen these: terms of shape (m, n), totals of shape (m,)."""
        fit = RidgeFit(len(self._moment), self._ridge, self._forget)
        fit._gram = self._gram + terms.T @ terms
        fit._moment = self._moment + terms.T @ totals
        fit._scale = self._scale + terms.sum(axis=0)
        fit._weight = self._weight + len(totals)
        return fit

    @property
    def latest(self) -> Floats:
        """The coefficients as they were last solved for; all 0 before."""
        return self._solution

    def solve(self, prior_of_total: Floats) -> Floats:
        """Return the coefficients; the prior gives each term this part of the mean total (shape (n,))."""
        patience = min(self._weight / _REFIT_PART, _MOST_REFIT_TICKS)
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
        return np.where(mean > 0, self._parts(gram, moment, mean_total, mean_total * prior_of_total) / scale, 0.0)

    def _parts(self, gram: Floats, moment: Floats, mean_total: float, prior: Floats) -> Floats:
        """Return the part of the mean total that each term stands for, all terms scaled to a mean of one."""
        ridge = self._ridge * self._weight
        return nonnegative_least_squares(gram + ridge * np.eye(len(moment)), moment + ridge * prior)


class BayesFit(RidgeFit):
    """The same, by Bayes' rule: the noisier the observations, the harder the prior pulls.

    `unsure_ratio` is the prior's standard deviation of each term's part of the mean total. The noise is what the
    observations leave unexplained. What is left unsure of the coefficients is told too (C. Bishop, "Pattern
    Recognition and Machine Learning", 2006, eq. 3.50 and 3.51).
    """

    def __init__(self, terms: int, unsure_ratio: float, forget: float, *, after: "BayesFit | None" = None) -> None:
        """Begin with nothing, or with what a fit of the first of these terms saw: the others were 0 then."""
        super().__init__(terms, 0.0, forget)
        self._unsure_ratio = unsure_ratio
        self.noise_ratio = _FIRST_NOISE_RATIO
        """What the observations leave unexplained, root mean square over their mean."""
        self.doubts: Floats = np.zeros((terms, terms))
        """Shape (directions, terms): the coefficients' change by one standard deviation, in independent directions."""
        if after is not None:
            count = len(after._moment)
            self._gram[:count, :count], self._moment[:count], self._scale[:count] = (
                after._gram, after._moment, after._scale
            )  # fmt: skip
            self._square, self._weight = after._square, after._weight

    def _parts(self, gram: Floats, moment: Floats, mean_total: float, prior: Floats) -> Floats:
        count = len(moment)
        rest = pull = 0.0
        for _ in range(2):
            pull = (self.noise_ratio / self._unsure_ratio) ** 2 + _LEAST_RIDGE * self._weight
            found = nonnegative_least_squares(gram + pull * np.eye(count), moment + pull * prior)
            rest = max(float(self._square - 2 * found @ moment + found @ gram @ found), 0.0)
            rest += _FIRST_NOISES * (_FIRST_NOISE_RATIO * mean_total) ** 2
            rest /= self._weight + _FIRST_NOISES
            self.noise_ratio = math.sqrt(rest) / mean_total if mean_total > 0 else _FIRST_NOISE_RATIO
        # by Cholesky, whose directions move little when the fit does: a request's parts of one direction add up
        scale = np.where(self._scale > 0, self._scale / self._weight, 1.0)
        with np.errstate(over="ignore"), suppress(np.linalg.LinAlgError):
            factor = np.linalg.inv(np.linalg.cholesky(gram + pull * np.eye(count)))
            self.doubts = math.sqrt(rest) * factor / scale
        return found
