"""From pages of cumulative counters to what happened between two of them. Pure.

A counter that is lower than before has begun again at zero: what it shows now was done since. That is decided
series by series, because a server of several processes can lose one of them. Nothing here is ever negative.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inferwatt.engines.pages import LIMIT, MAX_SERIES, Labels, Page, Sample
from inferwatt.engines.servers import ServerKind

NEGATIVE = "negative"


@dataclass(frozen=True, slots=True)
class Delta:
    """What a server did since the page before; None where its page does not say.

    `fell` tells that a counter began again. `resolution_tokens` is the step in which the coarsest counter can
    move on this page: above a million, a server that prints six digits rounds, though nothing is lost for good.
    """

    computed_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    requests_ok: int | None
    running: int | None
    waiting: int | None
    fell: bool
    bad_samples: Mapping[str, int]
    resolution_tokens: int

    @property
    def is_work(self) -> bool:
        """Whether any token was counted."""
        return bool(self.computed_tokens or self.cached_tokens or self.output_tokens)


class Counters:
    """The last value of each series of one server; `forget` begins a new epoch."""

    def __init__(self, kind: ServerKind) -> None:
        self._kind = kind
        self._last: dict[tuple[str, Labels], float] = {}
        self._new_from_zero = False
        self._owed_cached_tokens = 0

    @property
    def seeded(self) -> bool:
        """Whether there is something to compare a page with."""
        return self._new_from_zero or bool(self._last)

    def forget(self, *, from_zero: bool) -> None:
        """Begin a new epoch. `from_zero`: the process is known to be new, so its counters began at zero."""
        self._last.clear()
        self._new_from_zero = from_zero
        self._owed_cached_tokens = 0

    def advance(self, page: Page) -> Delta:
        """Return what happened since the page before, and remember this one.

        The first page of an epoch only seeds. A series that a whole page lacked and a later one has began at zero.
        """
        kind, bad, fallen = self._kind, Counter[str](), list[str]()
        prompt, cached, output, requests_ok = (
            self._grown(which, page.named(names), bad, fallen)
            for which, names in (
                ("prompt", kind.prompt_tokens),
                ("cached", kind.cached_tokens),
                ("output", kind.output_tokens),
                ("requests", kind.requests_ok),
            )
        )
        self._new_from_zero = self._new_from_zero or not (page.partial or page.bad_lines or bad)
        return Delta(
            computed_tokens=self._computed(prompt, cached),
            cached_tokens=cached,
            output_tokens=output,
            requests_ok=requests_ok,
            running=_gauge(page.named(kind.running)),
            waiting=_gauge(page.named(kind.waiting)),
            fell=bool(fallen),
            bad_samples=dict(bad),
            resolution_tokens=resolution(self._last.values(), kind.significant_digits),
        )

    def _grown(self, which: str, samples: tuple[Sample, ...], bad: Counter[str], fallen: list[str]) -> int | None:
        """Return how much all series of one counter grew together, None where the page has none of them."""
        growth, found = 0.0, False
        for sample in samples:
            if sample.value < 0:
                bad[NEGATIVE] += 1
                continue
            key = (which, sample.labels)
            before = self._last.get(key, 0.0 if self._new_from_zero else sample.value)
            if key not in self._last and len(self._last) >= MAX_SERIES:
                bad[LIMIT] += 1
                continue
            found = True
            self._last[key] = sample.value
            if sample.value < before:
                fallen.append(which)
                before = 0.0
            growth += sample.value - before
        return round(growth) if found else None

    def _computed(self, prompt: int | None, cached: int | None) -> int | None:
        """Take the cached tokens off the prompt's where the server counts them in; never below zero.

        A cached token that was counted before its prompt was is taken off the next page's.
        """
        if prompt is None or not self._kind.prompt_includes_cached:
            return prompt
        if cached is None:
            return None
        computed = prompt - cached - self._owed_cached_tokens
        self._owed_cached_tokens = max(-computed, 0)
        return max(computed, 0)


def resolution(values: Iterable[float], significant_digits: int) -> int:
    """Return the largest step, in tokens, of counters that are printed with so many digits (0: exactly)."""
    largest = max(values, default=0.0)
    if significant_digits <= 0 or largest < 10**significant_digits:
        return 1
    return int(10 ** (math.floor(math.log10(largest)) + 1 - significant_digits))


def _gauge(samples: tuple[Sample, ...]) -> int | None:
    """Return the sum of a gauge over its series, None where there is none; a negative number is not a count."""
    values = [sample.value for sample in samples if sample.value >= 0]
    return round(sum(values)) if values else None
