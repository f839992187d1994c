"""How fast an engine works where its steps are not known: learnt from the times of its requests. Pure.

While a request decodes, its engine also computes the prompts of others, and everybody waits for them. So the time from
its first token to its last is a step for each token, and a while for each FLOP of the prompts in between. Where nothing
is decoded (embeddings, classes, scores), the prompts that were done together tell it.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from inferwatt.attribution.rebuild import UNKNOWN, Pace
from inferwatt.attribution.ridge import RidgeFit
from inferwatt.attribution.work import Work
from inferwatt.units import NS_PER_SECOND

_RIDGE = 0.001
_ENOUGH = 8
_REMEMBERED = 512
_MIN_TOKENS = 8
_LONG_CHUNKS = 0.25
_TOGETHER_NS = 1_000_000
"""First tokens closer together than this came from one step."""
_PRIOR = np.array([1.0, 0.0])
_NOTHING = 0.0, 0, 0
_MISSING = 0.1
_MOST_READING = 0.8
"""What of a step's time reading can be at most: else the datasheet is another device's."""
_FORGET = 0.99
_LONGER = 1.5
"""A step so much longer than the shortest is as long as its prompts make it."""


class Prompt(NamedTuple):
    """When a prompt was computed, and how much work it was."""

    arrival_ns: int
    start_ns: int
    first_ns: int
    flops: float
    chunks: float
    """How many steps computed it."""


class PaceFit:
    """The pace of one engine."""

    def __init__(self) -> None:
        self._fit = RidgeFit(2, _RIDGE)
        self._told = False
        self._prompts: OrderedDict[int, Prompt] = OrderedDict()
        self.seconds_per_byte = 0.0
        """By the device's datasheet; 0 where that is not known."""
        self._bytes = self._steps = 0.0
        self._undecoded: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)

    def pace(self) -> Pace:
        """Return what is known by now."""
        if self._fit.observations < _ENOUGH:
            return _of_prompts(self._undecoded) if len(self._undecoded) >= _ENOUGH else UNKNOWN
        step, flop = self._fit.solve(_PRIOR).tolist()
        mean_bytes = self._bytes / self._steps if self._steps else 0.0
        if self.seconds_per_byte * mean_bytes > _MOST_READING * step:
            return Pace(step, flop)
        return Pace(step, flop, self.seconds_per_byte, mean_bytes)

    def saved(self) -> tuple[float, ...]:
        """Return what was learnt, as numbers that `resume` takes."""
        return self._fit.saved()

    def resume(self, saved: Sequence[float]) -> None:
        """Begin from what was learnt another time, where nothing was learnt yet."""
        if not self._fit.observations:
            self._fit.resume(saved)

    def note_reading(self, work: Work) -> None:
        """Note what the decodes of a tick read of the KV cache, as they were rebuilt."""
        decodes = ~work.prefill
        self._bytes = self._bytes * _FORGET + float(work.kv_bytes[decodes].sum())
        self._steps = self._steps * _FORGET + float(work.steps[np.unique(work.group[decodes])].sum())

    def prefilled(self, slot: int, prompt: Prompt) -> None:
        """Note when a request's prompt was computed, by its slot."""
        self._prompts[slot] = prompt
        self._prompts.move_to_end(slot)
        if len(self._prompts) > _REMEMBERED:
            self._prompts.popitem(last=False)

    def free_since(self, arrival_ns: int, first_ns: int) -> int:
        """Return from when on the engine can have computed the prompt of a request: first come, first served.

        Earlier prompts are done when their first tokens are seen; those seen with its own were computed beside it.
        """
        before = (prompt.first_ns for prompt in self._prompts.values() if prompt.arrival_ns <= arrival_ns)
        return max((t_ns for t_ns in before if arrival_ns < t_ns < first_ns - _TOGETHER_NS), default=arrival_ns)

    def together(self, slot: int, first_ns: int) -> list[Prompt]:
        """Return the prompts of other requests that were done at that time."""
        return [p for other, p in self._prompts.items() if other != slot and abs(p.first_ns - first_ns) < _TOGETHER_NS]

    def begun_before(self, slot: int) -> tuple[float, int, int]:
        """Return which part of a prompt filled up the step of earlier ones, and when that began and ended.

        It is the first of those that waited, they are more work than their own time holds, and earlier ones left room.
        """
        own, per_flop = self._prompts[slot], self.pace().seconds_per_flop * NS_PER_SECOND
        if own.start_ns == own.arrival_ns or not per_flop * own.flops:
            return _NOTHING
        free_ns = self.free_since(own.arrival_ns, own.first_ns)
        together = self.together(slot, own.first_ns)
        is_next = not any(prompt.arrival_ns < own.arrival_ns for prompt in together)
        if not (is_next and free_ns == own.start_ns):
            return _NOTHING
        before = self.together(slot, free_ns)
        began_ns = min((prompt.start_ns for prompt in before), default=free_ns)
        room_ns = own.first_ns - free_ns
        missing_ns = per_flop * (own.flops + sum(prompt.flops for prompt in together)) - room_ns
        spare_ns = free_ns - began_ns - per_flop * sum(prompt.flops for prompt in before)
        if missing_ns < _MISSING * room_ns or spare_ns <= 0:
            return _NOTHING
        part = min(missing_ns, spare_ns) / (per_flop * own.flops)
        return min(part, 1.0), max(began_ns, own.arrival_ns), free_ns

    def passes(self, steps: int, flops: float, chunks: float, seconds: float) -> None:
        """Learn from what a server tells of so many of its passes: the FLOPs and chunks of prompts, the time of all."""
        self._told = True
        self._fit.observe(np.array([max(steps - chunks, 0.0), flops]) / steps, seconds / steps)

    def learn_prompt(self, slot: int) -> None:
        """Learn from a request that had nothing to decode: the step that computed its prompt, and all done with it."""
        own = self._prompts.get(slot)
        if own is None or not own.flops or own.first_ns <= own.start_ns:
            return
        together = [own, *self.together(slot, own.first_ns)]
        steps = max(sum(prompt.chunks for prompt in together if prompt.chunks > 1.0), 1.0)
        seconds = (own.first_ns - own.start_ns) / NS_PER_SECOND
        self._undecoded.append((seconds / steps, sum(prompt.flops for prompt in together) / steps))

    def learn(self, first_ns: int, end_ns: int, decoded: int) -> None:
        """Learn from a request that has ended how long its tokens took."""
        if decoded < _MIN_TOKENS or end_ns <= first_ns or self._told:
            return
        beside = [p for p in self._prompts.values() if p.first_ns > first_ns and p.start_ns < end_ns]
        pace = self.pace() if beside else UNKNOWN
        between = [(prompt, _overlap(prompt, first_ns, end_ns)) for prompt in beside if _is_computing(prompt, pace)]
        flops = sum(prompt.flops * part for prompt, part in between)
        chunks = min(sum(prompt.chunks * part for prompt, part in between), float(decoded))
        elapsed = (end_ns - first_ns) / NS_PER_SECOND
        self._fit.observe(np.array([decoded - chunks, flops]) / decoded, elapsed / decoded)


def _of_prompts(undecoded: Iterable[tuple[float, float]]) -> Pace:
    """Return the pace by steps that computed prompts only, each its seconds and FLOPs."""
    seconds, flops = np.array(list(undecoded)).T
    step = float(seconds.min())
    longer = seconds > _LONGER * step
    return Pace(step, float(np.median(seconds[longer] / flops[longer]))) if longer.any() else Pace(step)


def _is_computing(prompt: Prompt, pace: Pace) -> bool:
    """Return whether a prompt made its steps longer than those that only decode."""
    if not (pace.step_seconds and pace.seconds_per_flop):
        return prompt.chunks > _LONG_CHUNKS
    return prompt.flops * pace.seconds_per_flop > prompt.chunks * pace.step_seconds


def _overlap(prompt: Prompt, t0_ns: int, t1_ns: int) -> float:
    """Return which part of a prompt's computing lies between two moments."""
    inside_ns = min(prompt.first_ns, t1_ns) - max(prompt.start_ns, t0_ns)
    return max(inside_ns, 0) / max(prompt.first_ns - prompt.start_ns, 1)
