"""The expected energy of work, and its online fit. Pure.

A group's energy is modelled as ``static * seconds + step * steps + flop * sum(f) + byte * sum(b)`` (ARCHITECTURE.md,
'How joules are split'). The weights that every step reads whatever its batch are one constant a step, so they are in
`step`. The coefficients serve to share a tick and are not published as physics: FLOPs and bytes are collinear.

Shapley's value of such a sum: what is shared goes equally to the members, what one causes is its own. Time is shared
the same way: a member's own time by its FLOPs and bytes, the rest of the group's time equally.
"""

import numpy as np
import numpy.typing as npt

from inferwatt.attribution.arrays import Floats
from inferwatt.attribution.ridge import RidgeFit
from inferwatt.attribution.steptime import StepTime
from inferwatt.attribution.work import Work

_RIDGE = 0.005
"""How strongly the prior pulls, in observations per observation: ticks are noisy and alike."""
_FORGET = 0.99
"""Clocks and heat drift: a tick counts half after 70. Chosen on the tuning loads of benchmarks/accuracy.py."""
_TERMS = 4


class CostModel:
    """What the work of one engine costs on one device: learnt from its ticks and steps.

    How long a step takes is the engine's, whatever the device: `time` is shared by the models of its devices.
    """

    def __init__(self, time: StepTime | None = None) -> None:
        self._energy = RidgeFit(_TERMS, _RIDGE, _FORGET)
        self._time = time or StepTime()

    def learn_energy(self, work: Work, energy_uj: float) -> None:
        """Learn from a tick: `energy_uj` microjoules were used for this work."""
        self._energy.observe(_totals(work), energy_uj)

    def shares(self, work: Work) -> tuple[Floats, Floats, Floats]:
        """Return each row's expected energy by Shapley's rule, and two extremes: all of it shared, all of it own.

        Each has shape (rows,), in any one unit. The extremes bound what another cost model could have said.
        """
        groups = len(work.seconds)
        members = np.bincount(work.group, minlength=groups).astype(np.float64)
        members = np.maximum(members, 1.0)[work.group]
        own_seconds = self._time.own_seconds(work.flops, work.read_bytes, work.group, work.steps, work.seconds)
        own_sum = np.bincount(work.group, own_seconds, minlength=groups)
        equal_seconds = work.seconds[work.group] / members
        seconds = own_seconds + np.maximum(work.seconds - own_sum, 0.0)[work.group] / members
        static, step, flop, byte = self._coefficients()
        expected = (
            static * seconds + step * work.steps[work.group] / members + flop * work.flops + byte * work.read_bytes
        )
        own = own_seconds if own_seconds.any() else work.flops
        return expected, equal_seconds, own

    def _coefficients(self) -> npt.NDArray[np.float64]:
        prior = np.array([1.0, 0.0, 0.0, 0.0])
        if self._energy.observations == 0:
            return prior
        solved = self._energy.solve(prior)
        return solved if solved.any() else prior


def _totals(work: Work) -> Floats:
    return np.array([work.seconds.sum(), work.steps.sum(), work.flops.sum(), work.read_bytes.sum()])
