"""An inference engine under continuous batching: who is in each step, and how long it takes. Pure.

First come, first served; each step has a budget of tokens. Running sequences take theirs first, a decode its token and
drafts, a prompt as large a chunk as is left; then waiting ones are let in. Where the KV cache is full, the newest one
is sent back and computed again. Computed are prompt - cached + output - 1 tokens, and what was again or in vain.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

import numpy as np

from inferwatt.records import Model
from inferwatt.simulate.climate import Climate, Weather
from inferwatt.simulate.costs import Costs, Floats, StepCosts
from inferwatt.simulate.sequence import SECOND_NS, Sequence, Trace, Wish


@dataclass(frozen=True, slots=True)
class Scheduler:
    """The limits of an engine's scheduler, and how it speculates.

    `kv_tokens` is how many tokens its KV cache holds. Each decode is given `drafts` proposed tokens with a chance of
    `draft_ratio` (an n-gram is found in some texts only); each is kept with a chance of `kept_ratio`, up to the first
    that is not.
    """

    budget_tokens: int = 2048
    max_sequences: int = 32
    kv_tokens: int | None = None
    drafts: int = 0
    draft_ratio: float = 1.0
    kept_ratio: float = 0.7


class Engine:
    """Serves requests as they come, step by step; `trace` is what it did."""

    def __init__(
        self, costs: Costs, shape: Model, scheduler: Scheduler, climate: Climate, *, seed: int, start_ns: int
    ) -> None:
        self._cost = StepCosts(costs, shape)
        self._shape = shape
        self._scheduler = scheduler
        self._weather = Weather(climate, self._cost, seed)
        self._rng = np.random.default_rng(seed)
        self._coming: deque[Sequence] = deque()
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._start_ns = self._now_ns = start_ns
        self._count = 0
        self.trace = Trace()

    @property
    def open_requests(self) -> int:
        """How many have come, or will, and have not ended."""
        return len(self._coming) + len(self._waiting) + len(self._running)

    def add(self, wishes: Iterable[Wish]) -> None:
        """Take requests in order of arrival."""
        for wish in wishes:
            sequence = Sequence(self._count, wish)
            self._count += 1
            self.trace.sequences.append(sequence)
            self._coming.append(sequence)

    def work(self, until_ns: float = inf) -> None:
        """Run all steps that begin before `until_ns`."""
        while self.open_requests and self._now_ns < until_ns:
            if not self._waiting and not self._running:
                self._now_ns = max(self._now_ns, self._coming[0].wish.arrival_ns)
                if self._now_ns >= until_ns:
                    return
            while self._coming and self._coming[0].wish.arrival_ns <= self._now_ns:
                self._waiting.append(self._coming.popleft())
            self._give_up(self._now_ns)
            if self._running or self._waiting:
                self._now_ns = self._step(self.trace, self._now_ns, (self._now_ns - self._start_ns) / SECOND_NS)

    def _give_up(self, now_ns: int) -> None:
        """Let go of requests whose clients have gone."""
        for seq in (*self._running, *self._waiting):
            patience_ns = seq.wish.patience_ns
            if patience_ns is not None and now_ns >= seq.wish.arrival_ns + patience_ns:
                seq.aborted_ns = now_ns
        self._running = [seq for seq in self._running if seq.aborted_ns is None]
        self._waiting = deque(seq for seq in self._waiting if seq.aborted_ns is None)

    def _step(self, trace: Trace, now_ns: int, seconds_so_far: float) -> int:
        """Run one step and return when it ended."""
        scheduled = self._schedule()
        sums = self._sums(scheduled)
        condition = self._weather.condition(seconds_so_far, sums)
        seconds = float(self._cost.seconds(sums, condition.clock_ratio))
        end_ns = now_ns + round(seconds * SECOND_NS)
        trace.t0_ns.append(now_ns)
        trace.t1_ns.append(end_ns)
        trace.joules.append(float(self._cost.joules(sums, condition.clock_ratio, condition.power_ratio)))
        trace.conditions.append(condition)
        trace.members.append([(seq.number, new, seq.computed, not seq.decodes) for seq, new in scheduled])
        for seq, new in scheduled:
            self._finish(seq, new, end_ns)
        self._running = [seq for seq in self._running if not seq.done]
        return end_ns

    def _finish(self, seq: Sequence, new: int, end_ns: int) -> None:
        """Write down what a step did for one sequence."""
        if not seq.decodes:
            seq.computed += new
            if seq.computed == seq.known:
                seq.generated += 1
                seq.token_ns.append(end_ns)
            return
        kept = 0
        while kept < new - 1 and self._rng.random() < self._scheduler.kept_ratio:
            kept += 1
        kept = min(kept, seq.wish.output_tokens - seq.generated - 1)
        seq.rejected += new - 1 - kept
        seq.computed += 1 + kept
        seq.generated += 1 + kept
        seq.token_ns += [end_ns] * (1 + kept)

    def _schedule(self) -> list[tuple[Sequence, int]]:
        """Return who is in the next step, with how many new tokens: decodes first, then prompts, then the queue."""
        budget = self._scheduler.budget_tokens
        self._make_room()
        scheduled: list[tuple[Sequence, int]] = []
        for seq in sorted(self._running, key=lambda seq: not seq.decodes):
            new = min(1 + self._drafts() if seq.decodes else seq.known - seq.computed, budget)
            if new > 0:
                scheduled.append((seq, new))
                budget -= new
        while self._waiting and budget > 0 and self._has_place(self._waiting[0]):
            seq = self._waiting.popleft()
            seq.computed = seq.restart_at
            new = min(seq.known - seq.computed, budget)
            self._running.append(seq)
            scheduled.append((seq, new))
            budget -= new
        return scheduled

    def _drafts(self) -> int:
        scheduler = self._scheduler
        if not scheduler.drafts or self._rng.random() >= scheduler.draft_ratio:
            return 0
        return scheduler.drafts

    def _has_place(self, seq: Sequence) -> bool:
        """Whether one more fits, by number and by the KV entries that all of them know of now."""
        if len(self._running) >= self._scheduler.max_sequences:
            return False
        return not self._running or self._fits(seq.known)

    def _fits(self, more_tokens: int) -> bool:
        room = self._scheduler.kv_tokens
        return room is None or sum(seq.known for seq in self._running) + more_tokens <= room

    def _make_room(self) -> None:
        """Send back the newest while the cache does not hold what is running."""
        while len(self._running) > 1 and not self._fits(0):
            seq = self._running.pop()
            seq.recomputed += seq.computed - seq.restart_at
            seq.computed = 0
            self._waiting.appendleft(seq)

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
