"""What the members of an engine did inside one tick, as arrays, from its steps. Pure.

A *row* is one member in one *group*. A group is a step, or, where steps are not known, a stretch of time in which
the same requests were at work. Rows hold the part that lies inside the tick.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from inferwatt.attribution.arrays import Bools, Floats, Ints
from inferwatt.attribution.blur import told_ns
from inferwatt.attribution.shapley import shapley
from inferwatt.records import Model
from inferwatt.units import NS_PER_SECOND

BREAK_NS = 5_000_000
"""A longer time between two steps is idle."""


@dataclass(frozen=True, slots=True)
class Work:
    """Rows and groups of one engine in one tick; FLOPs and KV bytes in the units of the model's shape."""

    slot: Ints
    """Rows: whose work, as the attributor numbers requests."""
    prefill: Bools
    """Rows: prefill, else decode."""
    flops: Floats
    new_tokens: Floats
    """Rows."""
    kv_bytes: Floats
    """Rows: what they read and write of the KV cache."""
    expert_bytes: Floats
    """Rows: their parts of the experts of a mixture that their steps read."""
    group: Ints
    """Rows: index of the group, ascending."""
    seconds: Floats
    """Groups: how long each lasted inside the tick."""
    steps: Floats
    """Groups: how many engine steps each stands for (a part of one, or many)."""
    busy_ns: int
    """The time inside the tick in which the engine worked."""
    shape: "Shape"
    again: Floats | None = None
    """Rows: which part of their tokens had been computed before; None where none had."""

    @property
    def key(self) -> Ints:
        """Rows: `slot * 2`, and one more for decode."""
        return self.slot * 2 + ~self.prefill

    @property
    def members(self) -> Floats:
        """Groups: how many rows each has; 1 where it has none."""
        result: Floats = np.maximum(np.bincount(self.group, minlength=len(self.steps)), 1.0)
        return result

    @property
    def per_step(self) -> Floats:
        """Groups: by which a sum becomes that of the mean step; 0 where there is none."""
        result: Floats = np.divide(1.0, self.steps, out=np.zeros(len(self.steps)), where=self.steps > 0)
        return result

    @property
    def read_bytes(self) -> Floats:
        """Rows: of the KV cache and of experts, bytes."""
        result: Floats = self.kv_bytes + self.expert_bytes
        return result

    @property
    def marginal_bytes(self) -> Floats:
        """Rows: what their group would have read less without them, bytes."""
        if not self.shape.touched_ratio:
            return self.kv_bytes
        per_step = self.per_step
        tokens = np.bincount(self.group, self.new_tokens, len(self.steps)).astype(np.float64) * per_step
        touched = self.shape.touched_bytes(tokens)[self.group]
        rest = np.maximum(tokens[self.group] - self.new_tokens * per_step[self.group], 0.0)
        return self.kv_bytes + (touched - self.shape.touched_bytes(rest)) * self.steps[self.group]


@dataclass(frozen=True, slots=True)
class Shape:
    """What one token costs, by the model's shape; where that is unknown, a token is the unit of everything."""

    flops_per_token: float = 1.0
    flops_per_pair: float = 0.0
    kv_bytes_per_token: float = 1.0
    expert_bytes: float = 0.0
    touched_ratio: float = 0.0
    """Which part of the experts one token touches."""

    @classmethod
    def of(cls, model: Model | None) -> "Shape":
        """Return the shape of a model, with unit costs for what is not known of it."""
        if model is None or model.flops_per_token is None:
            return cls()
        return cls(
            model.flops_per_token,
            model.attention_flops_per_token_pair or 0.0,
            model.kv_bytes_per_token or 1.0,
            model.expert_bytes or 0.0,
            (model.experts_per_token or 0) / (model.experts or 1),
        )

    def flops(self, new_tokens: Floats, context_tokens: Floats) -> Floats:
        """Return each member's FLOPs: its new tokens, and their attention to what came before (docs/recordings.md)."""
        return new_tokens * (self.flops_per_token + self.flops_per_pair * (context_tokens + new_tokens / 2))

    def totals(self, new_tokens: Floats, context_tokens: Floats) -> tuple[float, float]:
        """Return the FLOPs of all members of a step, and the bytes that it reads for them."""
        tokens, pairs = new_tokens.sum(), new_tokens @ (context_tokens + new_tokens / 2)
        read_bytes = self.kv_bytes_per_token * (context_tokens.sum() + tokens) + self.touched_bytes(tokens)
        return float(self.flops_per_token * tokens + self.flops_per_pair * pairs), float(read_bytes)

    def kv_bytes(self, new_tokens: Floats, context_tokens: Floats) -> Floats:
        """Return each member's KV-cache traffic, bytes: what was there is read, what is new is written."""
        return self.kv_bytes_per_token * (context_tokens + new_tokens)

    def expert_bytes_of(self, new_tokens: Floats, group: Ints, groups: int) -> Floats | float:
        """Return each member's part of the experts that its step reads, bytes; 0 for a dense model.

        Of experts chosen evenly, `n` tokens touch the part 1 - (1 - touched_ratio)^n; the part that several touch is
        shared by Shapley's rule.
        """
        if not (self.expert_bytes and self.touched_ratio):
            return 0.0
        return shapley((new_tokens,), group, groups, self.touched_bytes)

    def touched_bytes(self, tokens: Floats) -> Floats:
        """Return what a step with so many tokens reads of the experts, bytes; 0 for a dense model."""
        if not self.touched_ratio:
            return np.zeros(np.shape(tokens))
        result: Floats = self.expert_bytes * (1 - (1 - self.touched_ratio) ** tokens)
        return result


@dataclass(slots=True)
class StepRows:
    """One engine step with its members as columns."""

    t0_ns: int
    t1_ns: int
    slot: Ints
    new_tokens: Floats
    context_tokens: Floats
    prefill: Bools
    again: Floats | None = None
    """Which part of a member's new tokens had been computed before (and was lost since); None where none had."""
    _totals: tuple[float, float] | None = None

    def totals(self, shape: "Shape") -> tuple[float, float]:
        """Return the FLOPs of all members, and the bytes that the step reads for them; computed once."""
        if self._totals is None:
            self._totals = shape.totals(self.new_tokens, self.context_tokens)
        return self._totals


@dataclass(slots=True)
class StepStore:
    """The steps of one engine that a tick may still need, in the order of time."""

    _steps: deque[StepRows] = field(default_factory=deque)
    last_end_ns: int = 0

    def add(self, step: StepRows) -> None:
        """Keep a step; a late one is put where it belongs."""
        later: list[StepRows] = []
        while self._steps and self._steps[-1].t0_ns > step.t0_ns:
            later.append(self._steps.pop())
        self._steps.append(step)
        self._steps.extend(reversed(later))
        self.last_end_ns = max(self.last_end_ns, step.t1_ns)

    @property
    def has_any(self) -> bool:
        """Whether any step is kept."""
        return bool(self._steps)

    def forget(self, before_ns: int) -> None:
        """Drop the steps that ended at or before `before_ns`."""
        while self._steps and self._steps[0].t1_ns <= before_ns:
            self._steps.popleft()

    def overlapping(self, t0_ns: int, t1_ns: int) -> list[StepRows]:
        """Return the steps that overlap the tick."""
        found: list[StepRows] = []
        for step in self._steps:
            if step.t0_ns >= t1_ns:
                break
            if step.t1_ns > t0_ns:
                found.append(step)
        return found


def busy_time(starts_ns: Ints, ends_ns: Ints, told: Callable[[Ints], Ints | Floats] = lambda moment: moment) -> int:
    """Return the length of the union of steps that are sorted by their starts, nanoseconds, as it is `told`.

    The short breaks between two steps, in which the engine prepares the next, are work too.
    """
    if len(starts_ns) == 0:
        return 0
    reach_ns = np.maximum.accumulate(ends_ns)
    is_break = starts_ns[1:] - reach_ns[:-1] > BREAK_NS
    begins_ns = np.concatenate([starts_ns[:1], starts_ns[1:][is_break]])
    stops_ns = np.concatenate([reach_ns[:-1][is_break], reach_ns[-1:]])
    return round(float((told(stops_ns) - told(begins_ns)).sum()))


def from_steps(steps: Sequence[StepRows], t0_ns: int, t1_ns: int, shape: Shape, window_ns: int = 0) -> Work | None:
    """Return the work of the steps inside the tick, each step uniform in time; None where there is none.

    With a window it is the work that a counter shows in the tick that averages over so long before.
    """
    if not steps:
        return None
    starts_ns = np.array([step.t0_ns for step in steps])
    ends_ns = np.array([step.t1_ns for step in steps])

    def told(moment_ns: Ints) -> Ints | Floats:
        return told_ns(moment_ns, t0_ns, t1_ns, window_ns)

    inside_ns = told(ends_ns) - told(starts_ns)
    part = inside_ns / np.maximum(ends_ns - starts_ns, 1)
    counts = np.array([len(step.slot) for step in steps])
    group = np.repeat(np.arange(len(steps)), counts)
    new_tokens = np.concatenate([step.new_tokens for step in steps])
    context_tokens = np.concatenate([step.context_tokens for step in steps])
    return Work(
        slot=np.concatenate([step.slot for step in steps]),
        prefill=np.concatenate([step.prefill for step in steps]),
        flops=shape.flops(new_tokens, context_tokens) * part[group],
        new_tokens=new_tokens * part[group],
        kv_bytes=shape.kv_bytes(new_tokens, context_tokens) * part[group],
        expert_bytes=shape.expert_bytes_of(new_tokens, group, len(steps)) * part[group],
        group=group,
        seconds=inside_ns / NS_PER_SECOND,
        steps=part,
        busy_ns=busy_time(starts_ns, ends_ns, told),
        shape=shape,
        again=_again(steps),
    )


def _again(steps: Sequence[StepRows]) -> Floats | None:
    if all(step.again is None for step in steps):
        return None
    return np.concatenate([np.zeros(len(step.slot)) if step.again is None else step.again for step in steps])
