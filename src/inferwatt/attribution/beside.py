"""Engines that work side by side on one device: what each used of it, learnt from all ticks together. Pure.

What an engine uses is learnt from ticks in which it works alone. Of two that never are alone neither can be learnt so:
their terms are fitted together, so that a tick in which one did more and the other less teaches both.
"""

from collections.abc import Mapping

import numpy as np

from inferwatt.attribution.arrays import Floats
from inferwatt.attribution.costmodel import FORGET, TERMS, UNSURE_RATIO, totals
from inferwatt.attribution.ridge import BayesFit
from inferwatt.attribution.work import Work

_MOST_ENGINES = 3
"""With more, to try which of all terms are none takes too long: each then gets its part by the time that it worked."""


class Beside:
    """What the work of each engine of one device uses."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._fit: BayesFit | None = None

    def amounts(self, work: Mapping[str, Work]) -> Floats:
        """Return what each engine's work is expected to have used, in one unit; by time, where nothing is learnt."""
        seconds = np.array([rows.seconds.sum() for rows in work.values()])
        if self._fit is None or not {*work} <= {*self._names}:
            return seconds
        prior = np.zeros((len(self._names), TERMS))
        prior[:, 0] = 1 / len(self._names)
        solved = self._fit.solve(prior.ravel()).reshape(prior.shape)
        found = np.array([solved[self._names.index(name)] @ totals(rows) for name, rows in work.items()])
        return found if found.any() else seconds

    def learn(self, work: Mapping[str, Work], energy_uj: float) -> None:
        """Learn from a tick: `energy_uj` microjoules were used for the work of these engines."""
        new = [name for name in work if name not in self._names]
        if len(self._names) + len(new) > _MOST_ENGINES:
            return
        if new or self._fit is None:
            self._names += new
            self._fit = BayesFit(len(self._names) * TERMS, UNSURE_RATIO, FORGET, after=self._fit)
        terms = np.zeros((len(self._names), TERMS))
        for name, rows in work.items():
            terms[self._names.index(name)] = totals(rows)
        self._fit.observe(terms.ravel(), energy_uj)

    def doubt_ticks(self) -> None:
        """Trust the ticks so far little: the world that they were seen in is another now."""
        if self._fit is not None:
            self._fit.fade()
