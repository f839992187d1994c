"""Online non-negative least squares of a few unknowns, with forgetting and a prior. Pure."""

from itertools import combinations

import numpy as np

from inferwatt.attribution.arrays import Floats

_FORGET = 0.999
_REFIT_TICKS = 16
_REFIT_PART = 8
_MOST_REFIT_TICKS = 128
"""A fit is made anew after so many observations: an eighth of what it rests on, within these bounds."""


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

    def __init__(self, terms: int, ridge: float, forget: float = _FORGET) -> None:
        self._ridge = ridge
        self._forget = forget
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
        self._gram = self._gram * self._forget + np.outer(terms, terms)
        self._moment = self._moment * self._forget + terms * total
        self._scale = self._scale * self._forget + terms
        self._weight = self._weight * self._forget + 1.0
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
