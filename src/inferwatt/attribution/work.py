"""What the members of an engine did inside one tick, as arrays: from its steps, or rebuilt from request times. Pure.

A *row* is one member in one *group*. A group is a step, or, where steps are not known, a stretch of time in which
the same requests were at work. Rows hold the part that lies inside the tick.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from inferwatt.attribution.shapley import shapley
from inferwatt.records import Model
from inferwatt.units import NS_PER_SECOND

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Work:
    """Rows and groups of one engine in one tick; FLOPs and KV bytes in the units of the model's shape."""

    slot: Ints
    """Rows: whose work, as the attributor numbers requests."""
    prefill: Bools
    """Rows: prefill, else decode."""
    flops: Floats
    read_bytes: Floats
    """Rows: KV cache, and of the experts of a mixture what its tokens made the step read."""
    group: Ints
    """Rows: index of the group, ascending."""
    seconds: Floats
    """Groups: how long each lasted inside the tick."""
    steps: Floats
    """Groups: how many engine steps each stands for (a part of one, or many)."""
    busy_ns: int
    """The time inside the tick in which the engine worked."""


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

    def kv_bytes(self, new_tokens: Floats, context_tokens: Floats) -> Floats:
        """Return each member's KV-cache traffic, bytes: what was there is read, what is new is written."""
        return self.kv_bytes_per_token * (context_tokens + new_tokens)

    def read_bytes(self, new_tokens: Floats, context_tokens: Floats, group: Ints, groups: int) -> Floats:
        """Return what each member of one step (a group) makes it read, bytes: its KV cache, its part of the experts."""
        return self.kv_bytes(new_tokens, context_tokens) + self.expert_bytes_of(new_tokens, group, groups)

    def expert_bytes_of(self, new_tokens: Floats, group: Ints, groups: int) -> Floats | float:
        """Return each member's part of the experts that its step reads, bytes; 0 for a dense model.

        Of experts chosen evenly, `n` tokens touch the part 1 - (1 - touched_ratio)^n; the part that several touch is
        shared by Shapley's rule.
        """
        if not (self.expert_bytes and self.touched_ratio):
            return 0.0
        return shapley((new_tokens,), group, groups, self._touched_bytes)

    def _touched_bytes(self, tokens: Floats) -> Floats:
        result: Floats = self.expert_bytes * (1 - (1 - self.touched_ratio) ** tokens)
        return result


@dataclass(frozen=True, slots=True)
class StepRows:
    """One engine step with its members as columns."""

    t0_ns: int
    t1_ns: int
    slot: Ints
    new_tokens: Floats
    context_tokens: Floats
    prefill: Bools


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


def busy_time(starts_ns: Ints, ends_ns: Ints) -> int:
    """Return the length of the union of intervals that are sorted by their starts, nanoseconds."""
    if len(starts_ns) == 0:
        return 0
    reach_ns = np.maximum.accumulate(ends_ns)
    begin_ns = starts_ns.copy()
    begin_ns[1:] = np.maximum(starts_ns[1:], reach_ns[:-1])
    return int(np.maximum(reach_ns - begin_ns, 0).sum())


def from_steps(steps: Sequence[StepRows], t0_ns: int, t1_ns: int, shape: Shape) -> Work | None:
    """Return the work of the steps inside the tick, each step uniform in time; None where there is none."""
    if not steps:
        return None
    starts_ns = np.array([step.t0_ns for step in steps])
    ends_ns = np.array([step.t1_ns for step in steps])
    inside_ns = np.minimum(ends_ns, t1_ns) - np.maximum(starts_ns, t0_ns)
    part = inside_ns / np.maximum(ends_ns - starts_ns, 1)
    counts = np.array([len(step.slot) for step in steps])
    group = np.repeat(np.arange(len(steps)), counts)
    new_tokens = np.concatenate([step.new_tokens for step in steps])
    context_tokens = np.concatenate([step.context_tokens for step in steps])
    return Work(
        slot=np.concatenate([step.slot for step in steps]),
        prefill=np.concatenate([step.prefill for step in steps]),
        flops=shape.flops(new_tokens, context_tokens) * part[group],
        read_bytes=shape.read_bytes(new_tokens, context_tokens, group, len(steps)) * part[group],
        group=group,
        seconds=inside_ns / NS_PER_SECOND,
        steps=part,
        busy_ns=busy_time(np.maximum(starts_ns, t0_ns), np.minimum(ends_ns, t1_ns)),
    )


def whole_step(step: StepRows, shape: Shape) -> Work:
    """Return the work of one step, wherever ticks cut it."""
    work = from_steps([step], step.t0_ns, max(step.t1_ns, step.t0_ns + 1), shape)
    assert work is not None
    return work


@dataclass(slots=True)
class Span:
    """What is known, or supposed, of when one request was computed.

    Prefill lasts from `start_ns` to `first_ns`, decode from there to `end_ns` (far away while it is open).
    """

    slot: int
    start_ns: int
    first_ns: int
    end_ns: int
    computed_tokens: float
    cached_tokens: float
    decode_tokens_per_second: float
    chunk_ns: tuple[int, ...] = ()


def from_spans(spans: Iterable[Span], t0_ns: int, t1_ns: int, shape: Shape) -> Work | None:
    """Rebuild the work inside the tick from the spans of requests; None where none was at work.

    The tick is cut where a request begins, turns to decode, or ends. In each stretch every decoding member makes
    tokens at its own rate, every step makes one token for each, and a prefill spreads evenly over its time.
    """
    present = [s for s in spans if s.start_ns < t1_ns and s.end_ns > t0_ns]
    if not present:
        return None
    slot, start, first, end = np.array([(s.slot, s.start_ns, s.first_ns, s.end_ns) for s in present]).T
    cuts = np.unique(np.clip(np.concatenate([start, first, end, [t0_ns, t1_ns]]), t0_ns, t1_ns))
    left, right = cuts[:-1, None], cuts[1:, None]
    member = (start <= left) & (end >= right)
    prefill = member & (right <= first)
    group, column = np.nonzero(member)
    if len(group) == 0:
        return None
    seconds = (cuts[1:] - cuts[:-1]) / NS_PER_SECOND
    is_prefill = prefill[group, column]
    new_tokens, context_tokens = _tokens(present, start, first, cuts, group, column, is_prefill)
    decode_tokens = np.where(is_prefill, 0.0, new_tokens)
    steps = np.zeros(len(seconds))
    np.maximum.at(steps, group, decode_tokens)
    used = np.bincount(group, minlength=len(seconds)) > 0
    steps = np.where(used, np.maximum(steps, seconds), 0.0)
    return Work(
        slot=slot[column],
        prefill=is_prefill,
        flops=shape.flops(new_tokens, context_tokens),
        read_bytes=_read_bytes(shape, is_prefill, new_tokens, context_tokens, group, steps),
        group=group,
        seconds=seconds,
        steps=steps,
        busy_ns=int(((cuts[1:] - cuts[:-1]) * used).sum()),
    )


def _read_bytes(
    shape: Shape, is_prefill: Bools, new_tokens: Floats, context_tokens: Floats, group: Ints, steps: Floats
) -> Floats:
    """Return what rows of several steps read, bytes: a decoding one its cache with every token, a prompt its own once.

    What experts are touched is told for the mean step of the stretch.
    """
    read = np.where(
        is_prefill,
        shape.kv_bytes(new_tokens, context_tokens),
        new_tokens * shape.kv_bytes(np.ones(len(group)), context_tokens),
    )
    each = new_tokens / np.maximum(steps, 1.0)[group]
    return read + shape.expert_bytes_of(each, group, len(steps)) * np.maximum(steps, 1.0)[group]


def _tokens(
    present: Sequence[Span], start: Ints, first: Ints, cuts: Ints, group: Ints, column: Ints, is_prefill: Bools
) -> tuple[Floats, Floats]:
    """Return each row's new tokens and its mean context inside its stretch."""
    known = [(s.computed_tokens, s.cached_tokens, s.decode_tokens_per_second) for s in present]
    computed, cached, rate = np.array(known, dtype=np.float64).T
    left, right = cuts[group], cuts[group + 1]
    seconds = (right - left) / NS_PER_SECOND
    prefill_seconds = np.maximum(first - start, 1)[column] / NS_PER_SECOND
    done_seconds = ((left + right) / 2 - np.where(is_prefill, start[column], first[column])) / NS_PER_SECOND
    prefill_new = computed[column] * seconds / prefill_seconds
    prefill_context = cached[column] + computed[column] * done_seconds / prefill_seconds - prefill_new / 2
    decode_new = rate[column] * seconds
    seen = np.array([bool(s.chunk_ns) for s in present])[column] & ~is_prefill
    for i in np.flatnonzero(seen):
        decode_new[i] = sum(left[i] < t <= right[i] for t in present[column[i]].chunk_ns)
    decode_context = cached[column] + computed[column] + rate[column] * done_seconds
    return np.where(is_prefill, prefill_new, decode_new), np.where(
        is_prefill, np.maximum(prefill_context, 0.0), decode_context
    )
