"""How fast an engine works where its steps are not known: learnt from the times of its requests. Pure.

While a request decodes, its engine also computes the prompts of others, and everybody waits for them. So the time from
its first token to its last is a step for each token, and a while for each FLOP of the prompts in between.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from inferwatt.attribution.rebuild import CHUNK_TOKENS, UNKNOWN, Pace
from inferwatt.attribution.ridge import RidgeFit
from inferwatt.units import NS_PER_SECOND

_RIDGE = 0.001
_ENOUGH = 8
_REMEMBERED = 512
_MIN_TOKENS = 8
_LONG_CHUNKS = 0.25
_TOGETHER_NS = 1_000_000
"""First tokens closer together than this came from one step."""
_PRIOR = np.array([1.0, 0.0])


class _Prompt(NamedTuple):
    """When a prompt was computed, and how much work it was."""

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
        self._prompts: OrderedDict[int, _Prompt] = OrderedDict()

    def pace(self) -> Pace:
        """Return what is known by now."""
        if self._fit.observations < _ENOUGH:
            return Pace()
        step, flop = self._fit.solve(_PRIOR)
        return Pace(float(step), float(flop))

    def saved(self) -> tuple[float, ...]:
        """Return what was learnt, as numbers that `resume` takes."""
        return self._fit.saved()

    def resume(self, saved: Sequence[float]) -> None:
        """Begin from what was learnt another time, where nothing was learnt yet."""
        if not self._fit.observations:
            self._fit.resume(saved)

    def prefilled(self, slot: int, start_ns: int, first_ns: int, flops: float, tokens: float) -> None:
        """Note when a request's prompt was computed, by its slot."""
        self._prompts[slot] = _Prompt(start_ns, first_ns, flops, max(tokens / CHUNK_TOKENS, 1.0))
        self._prompts.move_to_end(slot)
        if len(self._prompts) > _REMEMBERED:
            self._prompts.popitem(last=False)

    def free_since(self, arrival_ns: int, first_ns: int) -> int:
        """Return from when on the engine can have computed the prompt of a request: first come, first served.

        Earlier prompts are done when their first tokens are seen; those seen with its own were computed beside it.
        """
        before = (prompt.first_ns for prompt in self._prompts.values())
        return max((t_ns for t_ns in before if arrival_ns < t_ns < first_ns - _TOGETHER_NS), default=arrival_ns)

    def passes(self, steps: int, flops: float, chunks: float, seconds: float) -> None:
        """Learn from what a server tells of so many of its passes: the FLOPs and chunks of prompts, the time of all."""
        self._told = True
        self._fit.observe(np.array([max(steps - chunks, 0.0), flops]) / steps, seconds / steps)

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


def _is_computing(prompt: _Prompt, pace: Pace) -> bool:
    """Return whether a prompt made its steps longer than those that only decode."""
    if not (pace.step_seconds and pace.seconds_per_flop):
        return prompt.chunks > _LONG_CHUNKS
    return prompt.flops * pace.seconds_per_flop > prompt.chunks * pace.step_seconds


def _overlap(prompt: _Prompt, t0_ns: int, t1_ns: int) -> float:
    """Return which part of a prompt's computing lies between two moments."""
    inside_ns = min(prompt.first_ns, t1_ns) - max(prompt.start_ns, t0_ns)
    return max(inside_ns, 0) / max(prompt.first_ns - prompt.start_ns, 1)
