"""What an engine did inside a tick, rebuilt from the times of its requests where its steps are not known. Pure.

A tick is cut where a request begins, turns to decode, or ends. In each stretch the same requests are at work. All that
decode advance together, one token a step, so that one clock of steps counts the tokens of all: it runs at the engine's
pace in the time that the prompts of the stretch leave.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inferwatt.attribution.arrays import Bools, Floats, Ints
from inferwatt.attribution.work import Shape, Work
from inferwatt.units import NS_PER_SECOND

CHUNK_TOKENS = 2048.0
"""How much of a prompt one step computes at most, where nothing else is known: vLLM's default for
`max_num_batched_tokens` (vllm/config/scheduler.py, DEFAULT_MAX_NUM_BATCHED_TOKENS, 0.33; more on large devices)."""

_MOST_CELLS = 4_000_000
"""Stretches times requests of a tick: its memory, and so its time, are bounded."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an engine works: seconds of a step of decodes, and of a FLOP of a prompt; 0 where that is not known.

    A step that reads `mean_bytes` of KV cache takes `step_seconds`, another one longer or shorter by what it reads.
    """

    step_seconds: float = 0.0
    seconds_per_flop: float = 0.0
    seconds_per_byte: float = 0.0
    mean_bytes: float = 0.0

    def steps_seconds(self, kv_bytes: Floats) -> Floats:
        """Return what steps that read so much take."""
        result: Floats = self.step_seconds + self.seconds_per_byte * (kv_bytes - self.mean_bytes)
        return result


UNKNOWN = Pace()


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


@dataclass(frozen=True, slots=True)
class _Columns:
    """The spans of a tick as columns."""

    slot: Ints
    start: Ints
    first: Ints
    end: Ints
    computed: Floats
    cached: Floats
    rate: Floats
    chunks: list[tuple[int, ...]]

    @classmethod
    def of(cls, spans: Sequence[Span]) -> "_Columns":
        slot, start, first, end = np.array([(s.slot, s.start_ns, s.first_ns, s.end_ns) for s in spans]).T
        known = [(s.computed_tokens, s.cached_tokens, s.decode_tokens_per_second) for s in spans]
        computed, cached, rate = np.array(known, dtype=np.float64).T
        return cls(slot, start, first, end, computed, cached, rate, [s.chunk_ns for s in spans])

    def bounded(self, t0_ns: int, t1_ns: int) -> "_Columns":
        """Return the same with the times of very many on a grid of the tick, so that its stretches are few."""
        most = max(_MOST_CELLS // len(self.slot), 1)
        if 3 * len(self.slot) <= most:
            return self
        pitch = max((t1_ns - t0_ns) // most, 1)
        start, first, end = self.start - t0_ns, self.first - t0_ns + pitch // 2, self.end - t0_ns + pitch - 1
        start, first, end = (t0_ns + times // pitch * pitch for times in (start, first, end))
        return replace(self, start=start, first=first, end=end)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Who is in which stretch: one row for each request in each, and the stretches."""

    group: Ints
    column: Ints
    prefill: Bools
    seen: Bools
    """Decodes with chunks that somebody saw."""
    left: Ints
    right: Ints
    seconds: Floats
    """Of each stretch."""

    @property
    def groups(self) -> int:
        """How many stretches there are."""
        return len(self.seconds)


def from_spans(spans: Iterable[Span], t0_ns: int, t1_ns: int, shape: Shape, pace: Pace = UNKNOWN) -> Work | None:
    """Rebuild the work inside the tick from the spans of requests; None where none was at work."""
    present = [s for s in spans if s.start_ns < t1_ns and s.end_ns > t0_ns]
    if not present:
        return None
    known = _Columns.of(present).bounded(t0_ns, t1_ns)
    rows = _rows(known, t0_ns, t1_ns)
    if len(rows.group) == 0:
        return None
    prompt, prompt_context = _prompt_tokens(known, rows)
    answer, answer_context = _answer_tokens(known, rows)
    prompt_flops = shape.flops(prompt, prompt_context)
    each_reads = shape.kv_bytes(np.ones(len(rows.group)), answer_context) * ~rows.prefill
    read: Floats = np.bincount(rows.group, each_reads, rows.groups).astype(np.float64)
    stretch = _parted(known, rows, prompt, answer, prompt_flops, pace, pace.steps_seconds(read))
    if pace.step_seconds:
        answer = np.where(rows.seen, answer, np.where(rows.prefill, 0.0, stretch.steps[rows.group]))
    # decoding rows are in both parts of a stretch, by how many of its steps are in each
    both = np.concatenate([np.arange(len(rows.group)), np.flatnonzero(~rows.prefill)])
    is_beside = np.arange(len(both)) >= len(rows.group)
    prefill, each = rows.prefill[both], rows.group[both]
    in_prompts = is_beside | (prefill & (stretch.prompt_seconds > 0)[each])
    part = np.where(prefill, 1.0, np.where(is_beside, stretch.prompt_part[each], 1.0 - stretch.prompt_part[each]))
    new_tokens = np.where(prefill, prompt[both], answer[both] * part)
    context = np.where(prefill, prompt_context[both], answer_context[both])
    group, steps = 2 * each + ~in_prompts, stretch.steps_of_parts()
    kept = (new_tokens > 0) | (~is_beside & (part > 0))
    times = np.maximum(steps, 1.0)[group]  # what experts are touched is told for the mean step of the group
    expert_bytes = shape.expert_bytes_of(new_tokens / times, group, len(steps)) * times
    return Work(
        slot=known.slot[rows.column[both]][kept],
        prefill=prefill[kept],
        flops=np.where(prefill, prompt_flops[both], shape.flops(new_tokens, context))[kept],
        new_tokens=new_tokens[kept],
        kv_bytes=_kv_bytes(shape, prefill, new_tokens, context)[kept],
        expert_bytes=expert_bytes[kept],
        group=group[kept],
        seconds=stretch.seconds_of_parts(rows.seconds),
        steps=steps,
        busy_ns=round(float(rows.seconds[np.unique(rows.group)].sum()) * NS_PER_SECOND),
        shape=shape,
    )


def _rows(known: _Columns, t0_ns: int, t1_ns: int) -> _Rows:
    """Cut the tick into stretches, and find who is in each."""
    ends = np.concatenate([known.start, known.first, known.end, [t0_ns, t1_ns]])
    cuts = np.unique(np.clip(ends, t0_ns, t1_ns))
    left, right = cuts[:-1], cuts[1:]
    member = (known.start <= left[:, None]) & (known.end >= right[:, None])
    group, column = np.nonzero(member)
    prefill = right[group] <= known.first[column]
    seen = np.array([bool(chunks) for chunks in known.chunks])[column] & ~prefill
    return _Rows(group, column, prefill, seen, left[group], right[group], (right - left) / NS_PER_SECOND)


def _prompt_tokens(known: _Columns, rows: _Rows) -> tuple[Floats, Floats]:
    """Return each row's new tokens of its prompt, evenly over its prefill, and their mean context; 0 in decode."""
    start, column = known.start[rows.column], rows.column
    whole = np.maximum(known.first[column] - start, 1)
    new = known.computed[column] * (rows.right - rows.left) / whole * rows.prefill
    before = known.computed[column] * (rows.left - start) / whole
    return new, np.maximum(known.cached[column] + before, 0.0)


def _answer_tokens(known: _Columns, rows: _Rows) -> tuple[Floats, Floats]:
    """Return each row's decoded tokens, by the chunks that were seen or its own rate, and their context."""
    column = rows.column
    new = known.rate[column] * rows.seconds[rows.group] * ~rows.prefill
    for i in np.flatnonzero(rows.seen):
        new[i] = sum(rows.left[i] < t <= rows.right[i] for t in known.chunks[column[i]])
    since = ((rows.left + rows.right) / 2 - known.first[column]) / NS_PER_SECOND
    return new, known.cached[column] + known.computed[column] + np.maximum(known.rate[column] * since, 0.0)


@dataclass(frozen=True, slots=True)
class _Parted:
    """Stretches parted in steps that compute prompts and steps that only decode: shape (stretches,)."""

    steps: Floats
    prompt_part: Floats
    """Which part of the steps computes prompts."""
    prompt_seconds: Floats

    def steps_of_parts(self) -> Floats:
        """Return the steps of each part: prompts first, then the rest, stretch by stretch."""
        prompts = self.steps * self.prompt_part
        result: Floats = np.stack([prompts, self.steps - prompts], axis=1).ravel()
        return result

    def seconds_of_parts(self, seconds: Floats) -> Floats:
        """Return how long each part took, in the same order."""
        result: Floats = np.stack([self.prompt_seconds, seconds - self.prompt_seconds], axis=1).ravel()
        return result


def _parted(
    known: _Columns, rows: _Rows, prompt: Floats, answer: Floats, flops: Floats, pace: Pace, step_seconds: Floats
) -> _Parted:
    """Part each stretch by the pace; where that is not known its steps are those of the fastest decode."""
    count = rows.groups
    decodes = np.bincount(rows.group, ~rows.prefill, count) > 0
    used = np.bincount(rows.group, minlength=count) > 0
    most = np.zeros(count)
    if not pace.step_seconds:
        np.maximum.at(most, rows.group, answer)
        steps = np.where(used, np.maximum(most, rows.seconds), 0.0)
        return _Parted(steps, np.zeros(count), np.zeros(count))
    np.maximum.at(most, rows.group, np.where(rows.seen, answer, 0.0))
    chunks = _chunks(known, rows, prompt)
    computing = np.bincount(rows.group, flops * rows.prefill, count) * pace.seconds_per_flop
    prompt_seconds = np.minimum(np.maximum(computing, chunks * step_seconds), rows.seconds)
    prompt_seconds = np.where(decodes | (chunks == 0), prompt_seconds, rows.seconds)
    steps = np.where(most > 0, np.maximum(most, chunks), chunks + (rows.seconds - prompt_seconds) / step_seconds)
    steps = np.where(used, np.maximum(steps, rows.seconds), 0.0)
    part = np.divide(chunks, steps, out=np.zeros(count), where=steps > 0)
    part = np.where(decodes, np.minimum(part, 1.0), 1.0) * (chunks > 0)
    return _Parted(steps, part, np.where(part >= 1.0, rows.seconds, prompt_seconds))


def _chunks(known: _Columns, rows: _Rows, prompt: Floats) -> Floats:
    """Return how many steps of each stretch compute prompts: at least one for a whole prompt, several share one."""
    whole = np.maximum(known.computed[rows.column], 1.0)
    most = np.zeros(rows.groups)
    np.maximum.at(most, rows.group, np.where(rows.prefill, prompt / whole, 0.0))
    return np.maximum(most, np.bincount(rows.group, prompt, rows.groups) / CHUNK_TOKENS)


def _kv_bytes(shape: Shape, prefill: Bools, new_tokens: Floats, context: Floats) -> Floats:
    """Return the KV traffic of rows of several steps: a decoding one reads its cache for every token, a prompt once."""
    once = shape.kv_bytes(new_tokens, context)
    each = new_tokens * shape.kv_bytes(np.ones(len(context)), context)
    return np.where(prefill, once, each)
