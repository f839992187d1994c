"""From the cumulative histograms of pages to what was observed between two of them, model by model. Pure.

A server's bounds are kept as they are: whoever counts them into bounds of his own knows what he loses. A histogram that
cannot be true (bounds out of order, counts that fall within it, no end) is left out, and nothing is made up for it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inferwatt.engines.pages import Labels, Page, Sample, histogram
from inferwatt.engines.wanted import picked
from inferwatt.records import Observed

MAX_HISTOGRAMS = 2_000


@dataclass(frozen=True, slots=True)
class _State:
    """One histogram as a page shows it: its finite bounds, cumulative counts (the last is all), and the sum."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    seconds: float

    def since(self, before: "_State") -> "_State | None":
        """Return what was observed since `before`; None where that cannot be told."""
        if self.bounds != before.bounds or len(self.counts) != len(before.counts):
            return None
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        grows = all(a <= b for a, b in zip((0.0, *counts), counts, strict=False))
        return _State(self.bounds, counts, max(self.seconds - before.seconds, 0.0)) if grows else None

    @property
    def nothing(self) -> "_State":
        """The same histogram before its first observation."""
        return _State(self.bounds, (0.0,) * len(self.counts), 0.0)


class Histograms:
    """The last state of each histogram of one server.

    Args:
        names: by what it measures (`first_token_seconds`), the candidates for its name.
    """

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = names
        self._last: dict[tuple[str, Labels], _State] = {}

    def forget(self) -> None:
        """Begin a new epoch."""
        self._last.clear()

    def advance(
        self, page: Page, model_labels: Sequence[str], only: str, *, from_zero: bool
    ) -> dict[str, dict[str, Observed]]:
        """Return by model, and by what it measures, what was observed since the page before.

        Args:
            page: the page.
            model_labels: the labels that name the model.
            only: whose a histogram without such a label is.
            from_zero: whether one that was not there before has begun at zero.
        """
        found: dict[str, dict[str, Observed]] = {}
        for which, candidates in self._names.items():
            for labels, state in _states(page, candidates).items():
                before = self._last.get((which, labels), state.nothing if from_zero else None)
                if (which, labels) in self._last or len(self._last) < MAX_HISTOGRAMS:
                    self._last[which, labels] = state
                grown = state.since(before) if before is not None else None
                if grown is not None and grown.counts[-1] > 0:
                    model = next((value for key, value in labels if key in model_labels), only)
                    of_model = found.setdefault(model, {})
                    of_model[which] = joined(of_model.get(which), _observed(grown))
        return found


def joined(one: Observed | None, other: Observed) -> Observed:
    """Return two observations together; of two with different bounds the one that has more of them in it."""
    if one is None:
        return other
    if one.bounds != other.bounds:
        return max(one, other, key=lambda observed: sum(observed.counts))
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return Observed(one.bounds, counts, one.seconds + other.seconds)


def _states(page: Page, candidates: Sequence[str]) -> dict[Labels, _State]:
    """Return the histograms of the first candidate that the page has, by their labels."""
    buckets: dict[Labels, list[Sample]] = {}
    for sample in picked(page, candidates, "_bucket"):
        labels = tuple(pair for pair in sample.labels if pair[0] != "le")
        buckets.setdefault(labels, []).append(sample)
    sums = {sample.labels: sample.value for sample in picked(page, candidates, "_sum")}
    states = {}
    for labels, samples in buckets.items():
        pairs = histogram(samples)
        if pairs is not None and labels in sums and math.isfinite(sums[labels]):
            bounds = tuple(bound for bound, _ in pairs[:-1])
            states[labels] = _State(bounds, tuple(count for _, count in pairs), sums[labels])
    return states


def _observed(grown: _State) -> Observed:
    """Return counts for each bucket alone."""
    each = (round(b - a) for a, b in zip((0.0, *grown.counts), grown.counts, strict=False))
    return Observed(grown.bounds, tuple(each), grown.seconds)
