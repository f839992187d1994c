"""What one server counted itself, and what of it no record explains. Pure."""

from collections import deque

import numpy as np

from inferwatt.attribution.lives import Lives
from inferwatt.attribution.timeline import Tick
from inferwatt.attribution.work import Work
from inferwatt.records import Sums

_KEPT_NS = 10_000_000_000


class Counts:
    """What the server of an engine counted lately, beside the lives of its requests."""

    def __init__(self, lives: Lives) -> None:
        self._lives = lives
        self._sums: deque[tuple[Sums, float]] = deque()

    def add(self, sums: Sums) -> None:
        """Keep what the server counted, and how many of its running requests no record explains.

        What it tells of its passes is no count of work that records could lack: it tells the engine's pace.
        """
        if sums.steps is not None:
            self._lives.learn_passes(sums)
            return
        excess = 0.0
        if sums.running is not None:
            excess = max(0.0, float(sums.running - self._lives.open_at(sums.t1_ns)))
        self._sums.append((sums, excess))

    def worked(self, t0_ns: int, t1_ns: int) -> bool:
        """Return whether the server itself says that it worked in that time, beyond what records explain.

        A page tells sums of a second. Where a record was at work in it and no more runs than the records know, what it
        counted is theirs, and the rest of that second is no work.
        """
        return any(
            (sums.running or 0) + (sums.output_tokens or 0) + (sums.prompt_tokens or 0) + sum(sums.units.values()) > 0
            and not self._is_explained(sums)
            for sums in self._during(t0_ns, t1_ns)
        )

    def _is_explained(self, sums: Sums) -> bool:
        if not self._lives.worked(sums.t0_ns, sums.t1_ns):
            return False
        return sums.running is None or sums.running <= self._lives.open_at(sums.t1_ns)

    def _during(self, t0_ns: int, t1_ns: int) -> list[Sums]:
        found = []
        for sums, _ in reversed(self._sums):
            if sums.t1_ns <= t0_ns:
                break
            if sums.t0_ns < t1_ns:
                found.append(sums)
        return found

    def unlisted_part(self, tick: Tick, work: Work) -> float:
        """Return the part of the work that no record explains: requests that run at two scrapes in a row."""
        before = 0.0
        for sums, excess in self._sums:
            if sums.t0_ns >= tick.t1_ns:
                break
            if sums.t1_ns > tick.t0_ns:
                both = min(before, excess)
                if both <= 0:
                    return 0.0
                members = len(np.unique(work.slot))
                return both / (both + members)
            before = excess
        return 0.0

    def unlisted_prefill_ratio(self, tick: Tick) -> float:
        """Return which part of unlisted work is prefill, by what the server counted and what each token takes."""
        price = self._lives.rates.prompt_token_price
        prompt = output = 0.0
        for sums in self._during(tick.t0_ns, tick.t1_ns):
            prompt += (sums.prompt_tokens or 0) * price
            output += sums.output_tokens or 0
        return prompt / (prompt + output) if prompt + output > 0 else 0.0

    def forget(self, closed_ns: int) -> None:
        """Drop what no tick after `closed_ns` can need."""
        while self._sums and self._sums[0][0].t1_ns < closed_ns - _KEPT_NS:
            self._sums.popleft()
