"""How long an engine's step takes, learnt from its steps: by reading memory or by computing, whichever is longer. Pure.

``T = member * m + max(floor + byte * B, other + flop * F)``: a roofline (S. Williams, A. Waterman, D. Patterson,
"Roofline: An Insightful Visual Performance Model", CACM 52(4), 2009) with a constant in each branch (launch, and the
weights that every step reads) and what each member costs whatever it does. A step that computes no prompt is taken to
read. The others are parted by which branch is the longer, and both branches fitted anew, by turns (A. Magnani, S. Boyd,
"Convex piecewise-linear fitting", Optimization and Engineering 10, 2009).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace

import numpy as np

from inferwatt.attribution.arrays import Bools, Floats, Ints
from inferwatt.attribution.ridge import RidgeFit
from inferwatt.attribution.shapley import shapley
from inferwatt.attribution.work import Work

_RIDGE = 0.001
"""How strongly the prior pulls, in observations per observation: steps are clean."""
_ENOUGH = 4
_REMEMBERED = 256
"""Steps with prompts that are parted at each fit: the newest."""
_TURNS = 3
_EVERY_PART = 8
_MOST_PATIENCE = 128
"""A fit is made anew after an eighth of the steps that it rests on, at most so many."""
_QUICKEST = 0.05
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

    def computes(self, flops: Floats, read_bytes: Floats) -> Bools:
        """Tell which steps take longer to compute than to read."""
        result: Bools = self.other + self.per_flop * flops > self.floor + self.per_byte * read_bytes
        return result

    def beyond_floor(self, flops: Floats, read_bytes: Floats, members: Floats) -> Floats:
        """Return how much longer than a step without own work one with these sums takes, seconds."""
        computing = self.other + self.per_flop * flops - self.floor
        longer = np.maximum(self.per_byte * read_bytes, np.where(flops > 0, computing, 0.0))
        result: Floats = longer + self.per_member * members
        return result


_LINE = len(fields(Roofline))


@dataclass(frozen=True, slots=True)
class Times:
    """What of its group's time each row causes, seconds, shape (rows,)."""

    own: Floats
    """By Shapley's rule, beyond what all share equally."""
    marginal: Floats
    """How much sooner the group's steps would have ended without it."""
    marginal_bytes: Floats
    """How much less they would have read, bytes."""
    context: Floats
    """Of `own`, for its context."""


class StepTime:
    """The roofline of one engine, learnt online.

    Args:
        per_flop: seconds that a FLOP takes by the device's datasheet, until it is learnt; 0 where that is not known.
        per_byte: the same of a byte.
    """

    def __init__(self, per_flop: float = 0.0, per_byte: float = 0.0) -> None:
        self._given = Roofline(0.0, per_byte, 0.0, per_flop)
        self._line: Roofline | None = None
        self._reading = RidgeFit(3, _RIDGE)
        self._prompts: deque[tuple[float, float, float, float]] = deque(maxlen=_REMEMBERED)
        self._count = self._fitted_count = 0

    def learn(self, flops: float, read_bytes: float, members: int, step_seconds: float, *, has_prefill: bool) -> None:
        """Learn from one step how long it took with these sums."""
        self._count += 1
        if has_prefill:
            self._prompts.append((flops, read_bytes, float(members), step_seconds))
        else:
            self._reading.observe(np.array([1.0, read_bytes, members]), step_seconds)

    def doubt_steps(self) -> None:
        """Trust the steps so far little: clocks are others now."""
        self._reading.fade()
        self._prompts.clear()
        self._fitted_count = min(self._fitted_count, self._count - _MOST_PATIENCE)

    def saved(self) -> tuple[float, ...]:
        """Return what was learnt, as numbers that `resume` takes; none where no step was."""
        return () if self._line is None else (*astuple(self._line), *self._reading.saved())

    def resume(self, saved: Sequence[float]) -> None:
        """Begin from what was learnt another time."""
        line, reading = saved[:_LINE], saved[_LINE:]
        if self._line is None and len(line) == _LINE and np.isfinite(line).all() and min(line) >= 0:
            self._line = Roofline(*line)
            self._reading.resume(reading)

    def set_per_flop(self, seconds_per_flop: float) -> None:
        """Set what a FLOP takes where steps are not known: from how long prompts took to their first token."""
        self._given = Roofline(0.0, self._given.per_byte, 0.0, seconds_per_flop)

    def set_paced(self, floor_seconds: float, seconds_per_flop: float) -> None:
        """Set the pace that requests' times tell, where steps are not known."""
        self._given = Roofline(floor_seconds, self._given.per_byte, 0.0, seconds_per_flop)

    def fit(self) -> None:
        """Fit what was learnt since, where that is worth it."""
        patience = min(max(_ENOUGH, self._fitted_count // _EVERY_PART), _MOST_PATIENCE)
        if self._count - self._fitted_count >= patience:
            self._fitted_count = self._count
            self._line = self._fitted(self._line or self._given)

    def roofline(self) -> Roofline:
        """Return what was known at the last fit."""
        return self._line or self._given

    def _fitted(self, line: Roofline) -> Roofline:
        prompts = np.array(self._prompts).reshape(-1, 4)
        flops, read_bytes, _, seconds = prompts.T
        if len(prompts) >= _ENOUGH and not line.per_flop:
            line = replace(line, per_flop=float(np.quantile(seconds / np.maximum(flops, 1.0), _QUICKEST)))
        for _ in range(_TURNS):
            computes = line.computes(flops, read_bytes)
            line = self._with_reading(line, prompts[~computes])
            line = self._with_computing(line, prompts[computes])
        return line

    def _with_reading(self, line: Roofline, prompts: Floats) -> Roofline:
        """Return the line with the branch of reading fitted to the steps without prompts and to these with."""
        _, read_bytes, members, seconds = prompts.T
        fit = self._reading.extended(np.stack([np.ones(len(prompts)), read_bytes, members], axis=1), seconds)
        if fit.observations < _ENOUGH:
            return line
        floor, per_byte, per_member = fit.solve(_ALL_CONSTANT).tolist()
        return replace(line, floor=floor, per_byte=per_byte, per_member=per_member)

    def _with_computing(self, line: Roofline, prompts: Floats) -> Roofline:
        """Return the line with the branch of computing fitted to these steps."""
        if len(prompts) < _ENOUGH:
            return line
        flops, _, members, seconds = prompts.T
        own_seconds = np.maximum(seconds - line.per_member * members, 0.0)
        fit = RidgeFit(2, _RIDGE).extended(np.stack([np.ones(len(prompts)), flops], axis=1), own_seconds)
        other, per_flop = fit.solve(_ALL_SLOPE).tolist()
        return replace(line, other=other, per_flop=per_flop)

    def times(self, work: Work) -> Times:
        """Return what of its group's time each row causes; `own` of a group's rows never sum to more than it took."""
        line = self.roofline()
        group, steps, count = work.group, work.steps, len(work.steps)
        per_step, members, read_bytes = work.per_step, work.members, work.read_bytes
        flops_sum = np.bincount(group, work.flops, count).astype(np.float64) * per_step
        bytes_sum = np.bincount(group, read_bytes, count).astype(np.float64) * per_step
        beyond = line.beyond_floor(flops_sum, bytes_sum, members)
        own = line.per_byte * read_bytes + (line.per_member * steps)[group]
        if (line.per_flop * flops_sum > line.floor - line.other).any():  # else no step computes longer than it reads
            rows, computing = _computing(line, work)
            own[rows] = computing
        expected = (line.floor + beyond) * steps
        scale = np.divide(work.seconds, expected, out=np.zeros(count), where=expected > _LEAST_SECONDS)
        if self._line is None:
            scale = np.minimum(scale, 1.0)
        marginal_bytes, each = work.marginal_bytes, per_step[group]
        without = line.beyond_floor(
            np.maximum(flops_sum[group] - work.flops * each, 0.0),
            np.maximum(bytes_sum[group] - marginal_bytes * each, 0.0),
            members[group] - 1.0,
        )
        marginal = np.maximum(beyond[group] - without, 0.0) + np.where(members > 1, 0.0, line.floor)[group]
        scale = scale[group]
        own = own * scale
        context = np.minimum(line.per_byte * work.kv_bytes * scale, own)
        marginal = np.minimum(marginal * steps[group] * scale, work.seconds[group])
        return Times(own, marginal, marginal_bytes, context)


def _computing(line: Roofline, work: Work) -> tuple[Ints, Floats]:
    """Return the rows of groups that may compute for longer than they read, and what each causes then, seconds."""
    group, per_step, count = work.group, work.per_step, len(work.steps)
    ahead = np.maximum(line.per_flop * work.flops - line.per_byte * work.read_bytes, 0.0)
    may_compute = np.bincount(group, ahead, count) * per_step > line.floor - line.other
    rows = np.flatnonzero(may_compute[group])  # of the others, no set of members computes longer than it reads
    each = per_step[group[rows]]
    columns = [column[rows] * each for column in (work.flops, work.kv_bytes, work.new_tokens)]

    def beyond_floor(flops: Floats, kv_bytes: Floats, tokens: Floats, members: Floats) -> Floats:
        return line.beyond_floor(flops, kv_bytes + work.shape.touched_bytes(tokens), members)

    own = shapley([*columns, np.ones(len(rows))], group[rows], count, beyond_floor)
    return rows, own * work.steps[group[rows]]
