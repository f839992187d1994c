"""An inference engine under continuous batching: who is in each step, and how long it takes. Pure.

First come, first served; each step has a budget of tokens. Running sequences take theirs first, a decode one token, a
prompt as large a chunk as is left; then waiting ones are let in. What is computed is prompt + output - 1 tokens.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from inferwatt.records import Model
from inferwatt.simulate.costs import Condition, Costs, Floats, StepCosts, member_work
from inferwatt.simulate.shapley import Ints, Steps

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Wish:
    """One request of a load: when it comes, and how large it will turn out to be."""

    arrival_ns: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Scheduler:
    """The limits of an engine's scheduler."""

    budget_tokens: int = 2048
    max_sequences: int = 32


@dataclass(slots=True)
class Sequence:
    """One request while and after it is served; `known` tokens are the prompt's and those generated so far."""

    number: int
    wish: Wish
    computed: int = 0
    generated: int = 0
    token_ns: list[int] = field(default_factory=list)

    @property
    def known(self) -> int:
        """Tokens whose KV entries are wanted: the prompt and what was generated."""
        return self.wish.prompt_tokens + self.generated

    @property
    def done(self) -> bool:
        """Whether it has all its output."""
        return self.generated >= self.wish.output_tokens


@dataclass(slots=True)
class Trace:
    """What an engine did: its steps, row by row, and its sequences."""

    sequences: list[Sequence]
    t0_ns: list[int] = field(default_factory=list)
    t1_ns: list[int] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    members: list[list[tuple[int, int, int, bool]]] = field(default_factory=list)
    """Of each step: (sequence, new tokens, context tokens, whether it is prefill)."""

    def columns(self) -> tuple[Ints, Ints, Floats, Floats, Ints]:
        """Return offsets of steps, and of each row: sequence, new tokens, context, whether it is prefill."""
        offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in self.members])]).astype(np.int64)
        flat = np.array([row for rows in self.members for row in rows], dtype=np.int64).reshape(-1, 4)
        return offsets, flat[:, 0], flat[:, 1].astype(np.float64), flat[:, 2].astype(np.float64), flat[:, 3]

    def steps(self, shape: Model) -> Steps:
        """Return the steps as a table of work."""
        offsets, _, new, context, _ = self.columns()
        clock = np.array([condition.clock_ratio for condition in self.conditions])
        power = np.array([condition.power_ratio for condition in self.conditions])
        return Steps(offsets, member_work(shape, new, context), clock, power)


class Engine:
    """Serves a load to its end."""

    def __init__(self, costs: Costs, shape: Model, scheduler: Scheduler) -> None:
        self._cost = StepCosts(costs, shape)
        self._shape = shape
        self._scheduler = scheduler
        self._running: list[Sequence] = []
        self._waiting: deque[Sequence] = deque()

    def serve(self, wishes: list[Wish], start_ns: int) -> Trace:
        """Return what the engine did with `wishes`, which are in order of arrival."""
        trace = Trace([Sequence(number, wish) for number, wish in enumerate(wishes)])
        coming = deque(trace.sequences)
        now_ns = start_ns
        while coming or self._waiting or self._running:
            if not self._waiting and not self._running:
                now_ns = max(now_ns, coming[0].wish.arrival_ns)
            while coming and coming[0].wish.arrival_ns <= now_ns:
                self._waiting.append(coming.popleft())
            now_ns = self._step(trace, now_ns)
        return trace

    def _step(self, trace: Trace, now_ns: int) -> int:
        """Run one step and return when it ended."""
        scheduled = self._schedule()
        condition = Condition()
        sums = self._sums(scheduled)
        seconds = float(self._cost.seconds(sums, condition.clock_ratio))
        end_ns = now_ns + round(seconds * SECOND_NS)
        trace.t0_ns.append(now_ns)
        trace.t1_ns.append(end_ns)
        trace.joules.append(float(self._cost.joules(sums, condition.clock_ratio, condition.power_ratio)))
        trace.conditions.append(condition)
        trace.members.append([(seq.number, new, seq.computed, _is_prefill(seq, new)) for seq, new in scheduled])
        for seq, new in scheduled:
            seq.computed += new
            if seq.computed == seq.known:
                seq.generated += 1
                seq.token_ns.append(end_ns)
        self._running = [seq for seq in self._running if not seq.done]
        return end_ns

    def _schedule(self) -> list[tuple[Sequence, int]]:
        """Return who is in the next step, with how many new tokens: decodes first, then prompts, then the queue."""
        budget = self._scheduler.budget_tokens
        scheduled: list[tuple[Sequence, int]] = []
        for seq in sorted(self._running, key=lambda seq: seq.known - seq.computed > 1):
            new = min(seq.known - seq.computed, budget)
            if new > 0:
                scheduled.append((seq, new))
                budget -= new
        while self._waiting and budget > 0 and len(self._running) < self._scheduler.max_sequences:
            seq = self._waiting.popleft()
            seq.computed = min(seq.wish.cached_tokens, seq.wish.prompt_tokens - 1)
            new = min(seq.known - seq.computed, budget)
            self._running.append(seq)
            scheduled.append((seq, new))
            budget -= new
        return scheduled

    def _sums(self, scheduled: list[tuple[Sequence, int]]) -> Floats:
        shape = self._shape
        attention = shape.attention_flops_per_token_pair or 0.0
        flops = kv_tokens = 0.0
        tokens = 0
        for seq, new in scheduled:
            flops += attention * new * (seq.computed + new / 2)
            kv_tokens += seq.computed + new
            tokens += new
        flops += tokens * (shape.flops_per_token or 0.0)
        return np.array([flops, kv_tokens * (shape.kv_bytes_per_token or 0.0), tokens, len(scheduled)])


def _is_prefill(seq: Sequence, new: int) -> bool:
    """Whether these tokens are of the prompt (or computed again); a decode is the one token generated last."""
    return seq.generated == 0 or new > 1
