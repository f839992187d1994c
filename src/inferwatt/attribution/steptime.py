"""How long an engine's step takes, learnt from its steps: by reading memory or by computing, whichever is longer. Pure.

``T = member * m + max(floor + byte * B, other + flop * F)``: a roofline (S. Williams, A. Waterman, D. Patterson,
"Roofline: An Insightful Visual Performance Model", CACM 52(4), 2009) with a constant in each branch (launch, and the
weights that every step reads) and what each member costs whatever it does. A step that computes no prompt is taken to
read; one that does, to compute, where it took longer than its reading.
"""

from dataclasses import dataclass

import numpy as np

from inferwatt.attribution.arrays import Floats, Ints
from inferwatt.attribution.ridge import RidgeFit
from inferwatt.attribution.shapley import shapley

_RIDGE = 0.001
"""How strongly the prior pulls, in observations per observation: steps are clean."""
_ENOUGH = 4
_LONGER = 1.1
"""A step that took longer than this times its reading was computing."""
_LEAST_SECONDS = 1e-12
_ALL_CONSTANT = np.array([1.0, 0.0, 0.0])
_ALL_SLOPE = np.array([0.0, 1.0])


@dataclass(frozen=True, slots=True)
class Roofline:
    """Seconds of a step: a constant and a slope for reading bytes, and for computing FLOPs; and of each member."""

    floor: float
    per_byte: float
    other: float
    per_flop: float
    per_member: float = 0.0

    def reading(self, read_bytes: float, members: float) -> float:
        """Return how long a step takes that only reads, seconds."""
        return self.floor + self.per_byte * read_bytes + self.per_member * members

    def beyond_floor(self, flops: Floats, read_bytes: Floats, members: Floats) -> Floats:
        """Return how much longer than a step without own work one with these sums takes, seconds."""
        computing = self.other + self.per_flop * flops - self.floor
        longer = np.maximum(self.per_byte * read_bytes, np.where(flops > 0, computing, 0.0))
        result: Floats = longer + self.per_member * members
        return result


class StepTime:
    """The roofline of one engine, learnt online.

    Args:
        per_flop: seconds that a FLOP takes by the device's datasheet, until it is learnt; 0 where that is not known.
        per_byte: the same of a byte.
    """

    def __init__(self, per_flop: float = 0.0, per_byte: float = 0.0) -> None:
        self._given = Roofline(0.0, per_byte, 0.0, per_flop)
        self._reading = RidgeFit(3, _RIDGE)
        self._computing = RidgeFit(2, _RIDGE)

    def learn(self, flops: float, read_bytes: float, members: int, step_seconds: float, *, has_prefill: bool) -> None:
        """Learn from one step how long it took with these sums."""
        line = self.roofline()
        is_known = self._reading.observations >= _ENOUGH
        if has_prefill and (not is_known or step_seconds > _LONGER * line.reading(read_bytes, members)):
            own_seconds = max(step_seconds - line.per_member * members, 0.0)
            self._computing.observe(np.array([1.0, flops]), own_seconds)
        else:
            self._reading.observe(np.array([1.0, read_bytes, members]), step_seconds)

    def set_per_flop(self, seconds_per_flop: float) -> None:
        """Set what a FLOP takes where steps are not known: from how long prompts took to their first token."""
        self._given = Roofline(0.0, self._given.per_byte, 0.0, seconds_per_flop)

    def set_paced(self, step_seconds: float, seconds_per_flop: float) -> None:
        """Set the pace that requests' times tell, where steps are not known."""
        self._given = Roofline(step_seconds, self._given.per_byte, 0.0, seconds_per_flop)

    def roofline(self) -> Roofline:
        """Return what is known by now."""
        given = self._given
        floor, per_byte, per_member = given.floor, given.per_byte, 0.0
        other, per_flop = given.other, given.per_flop
        if self._reading.observations >= _ENOUGH:
            floor, per_byte, per_member = (float(x) for x in self._reading.solve(_ALL_CONSTANT))
        if self._computing.observations >= _ENOUGH:
            other, per_flop = (float(x) for x in self._computing.solve(_ALL_SLOPE))
        return Roofline(floor, per_byte, other, per_flop, per_member)

    def own_seconds(self, flops: Floats, read_bytes: Floats, group: Ints, steps: Floats, seconds: Floats) -> Floats:
        """Return what each row adds to its group's time by Shapley's rule, beyond what all share equally, seconds.

        Args:
            flops: shape (rows,).
            read_bytes: shape (rows,).
            group: shape (rows,), the index of each row's group.
            steps: shape (groups,), how many steps each group stands for.
            seconds: shape (groups,), how long each took: its rows' own times never sum to more.
        """
        line = self.roofline()
        count = len(steps)
        per_step = np.divide(1.0, steps, out=np.zeros(count), where=steps > 0)
        members = np.bincount(group, minlength=count).astype(np.float64)
        flops_sum = np.bincount(group, flops, count).astype(np.float64) * per_step
        bytes_sum = np.bincount(group, read_bytes, count).astype(np.float64) * per_step
        beyond = line.beyond_floor(flops_sum, bytes_sum, members)
        own = line.per_byte * read_bytes + line.per_member * steps[group]
        rows = np.flatnonzero((beyond > line.per_byte * bytes_sum + line.per_member * members)[group])
        if len(rows):
            each = group[rows]
            columns = flops[rows] * per_step[each], read_bytes[rows] * per_step[each], np.ones(len(rows))
            own[rows] = shapley(columns, each, count, line.beyond_floor) * steps[each]
        expected = (line.floor + beyond) * steps
        scale = np.divide(seconds, expected, out=np.zeros(count), where=expected > _LEAST_SECONDS)
        if self._reading.observations < _ENOUGH:
            scale = np.minimum(scale, 1.0)
        result: Floats = own * scale[group]
        return result
