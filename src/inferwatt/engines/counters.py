"""From pages of cumulative counters to what happened between two of them, model by model. Pure.

A counter that is lower than before has begun again at zero: what it shows now was done since. That is decided
series by series, because a server of several processes can lose one of them. Where the series is the sum of several
processes it falls by a part only; what the others did meanwhile is then unknown, and not counted. Never negative.

One address before several replicas looks like restarts: a counter falls, and is back above where it was a page later.
Such growth is not counted, and two of them are the proof.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from inferwatt.engines.latencies import Histograms
from inferwatt.engines.pages import LIMIT, MAX_SERIES, Labels, Page, Sample
from inferwatt.engines.servers import COUNTERS, GAUGES, LATENCIES, ServerKind
from inferwatt.engines.wanted import picked
from inferwatt.records import Observed, Sums

NEGATIVE = "negative"
NO_MODEL = "no_model"
_PART_RATIO = 0.5
"""A counter that fell, but not below this part of what it was, has lost one of several processes."""
_RETURN_PAGES = 20
"""Within how many pages of a fall a counter that is back where it was has only been another replica's."""
_RETURNS = 2
"""How many returns prove replicas; a server that restarts and catches up at once could do it once."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What a server did for one model since the page before; None where its page does not say.

    `fell` tells that a counter began again.
    """

    computed_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    requests_ok: int | None = None
    inferences: int | None = None
    running: int | None = None
    waiting: int | None = None
    fell: bool = False
    latencies: Mapping[str, Observed] = field(default_factory=dict)

    def sums(self, t0_ns: int, t1_ns: int, engine: str) -> Sums:
        """Return it as the record of an engine."""
        return Sums(
            t0_ns,
            t1_ns,
            engine,
            prompt_tokens=self.computed_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=self.output_tokens,
            running=self.running,
            waiting=self.waiting,
            units={"inferences": self.inferences} if self.inferences else {},
            latencies=self.latencies,
        )


@dataclass(frozen=True, slots=True)
class Growth:
    """What each model of a page did (by its label, "" where there is none), and how the page was.

    `resolution_tokens` is the step in which the coarsest counter can move on this page: above a million, a server
    that prints six digits rounds, though nothing is lost for good. `replicas` tells that several servers answer.
    """

    models: Mapping[str, Delta]
    bad_samples: Mapping[str, int]
    resolution_tokens: int
    replicas: bool


@dataclass(slots=True)
class _Series:
    """One series: its last value, and of its last fall the page, what it had been, and how deep it was."""

    value: float
    fell_page: int = 0
    before: float = math.inf
    depth: float = 0.0

    def is_back(self, value: float, page: int) -> bool:
        """Return whether it is back, in one leap and soon, where it was before it fell."""
        is_leap = value >= self.before and 2 * (value - self.value) >= self.depth
        return is_leap and page - self.fell_page <= _RETURN_PAGES


class Counters:
    """The last value of each series of one server; `forget` begins a new epoch."""

    def __init__(self, kind: ServerKind) -> None:
        self._kind = kind
        self._last: dict[tuple[str, Labels], _Series] = {}
        self._histograms = Histograms({name: getattr(kind, name) for name in LATENCIES})
        self._only: str | None = None
        self._chosen: dict[str, str] = {}
        self._new_from_zero = False
        self._owed_cached_tokens: dict[str, int] = {}
        self._page = 0
        self._return_pages: set[int] = set()
        self._bad: Counter[str] = Counter()
        self._fallen: set[str] = set()

    @property
    def seeded(self) -> bool:
        """Whether there is something to compare a page with."""
        return self._new_from_zero or bool(self._last)

    def forget(self, *, from_zero: bool) -> None:
        """Begin a new epoch. `from_zero`: the process is known to be new, so its counters began at zero."""
        self._last.clear()
        self._histograms.forget()
        self._chosen.clear()
        self._new_from_zero = from_zero
        self._owed_cached_tokens.clear()
        self._return_pages.clear()

    def advance(self, page: Page) -> Growth:
        """Return what happened since the page before, and remember this one.

        The first page of an epoch only seeds. A series that a whole page lacked and a later one has began at zero.
        """
        self._bad, self._fallen = Counter(), set()
        self._page += 1
        shown = models_of(page, self._kind)
        self._only = shown[0] if len(shown) == 1 else None
        grown = {which: self._grown(which, picked(page, getattr(self._kind, which))) for which in COUNTERS}
        gauges = {which: self._gauge(picked(page, getattr(self._kind, which))) for which in GAUGES}
        latencies = self._histograms.advance(
            page, self._kind.model_labels, self._only or "", from_zero=self._new_from_zero
        )
        self._new_from_zero = self._new_from_zero or not (page.partial or page.bad_lines or self._bad)
        models = {
            model: self._delta(
                model,
                {which: by_model.get(model) for which, by_model in (grown | gauges).items()},
                latencies.get(model, {}),
            )
            for model in shown
        }
        values = (series.value for series in self._last.values())
        step = resolution(values, self._kind.significant_digits)
        recent = [page for page in self._return_pages if self._page - page <= _RETURNS * _RETURN_PAGES]
        return Growth(models, dict(self._bad), step, len(recent) >= _RETURNS)

    def _delta(self, model: str, counts: Mapping[str, int | None], latencies: Mapping[str, Observed]) -> Delta:
        prompt, cached = counts["prompt_tokens"], counts["cached_tokens"]
        if cached is None and prompt is not None and self._kind.cached_comes_late:
            cached = 0
        return Delta(
            computed_tokens=self._computed(model, prompt, cached),
            cached_tokens=cached,
            output_tokens=counts["output_tokens"],
            requests_ok=counts["requests_ok"],
            inferences=counts["inferences"],
            running=counts["running"],
            waiting=counts["waiting"],
            fell=model in self._fallen,
            latencies=latencies,
        )

    def _whose(self, sample: Sample) -> str | None:
        """Return whose a series is: its label's, else the only model's; None where several could be meant."""
        model = model_of(sample, self._kind.model_labels)
        if model is None and self._only is None:
            self._bad[NO_MODEL] += 1
        return self._only if model is None else model

    def _grown(self, which: str, samples: Sequence[Sample]) -> dict[str, int]:
        """Return by model how much all series of one counter grew together."""
        growth: dict[str, float] = {}
        self._choose(which, samples)
        for sample in samples:
            model = self._whose(sample)
            if model is None:
                continue
            key = (which, sample.labels)
            if sample.value < 0 or (key not in self._last and len(self._last) >= MAX_SERIES):
                self._bad[NEGATIVE if sample.value < 0 else LIMIT] += 1
                continue
            growth[model] = growth.get(model, 0.0) + self._series_growth(key, model, sample.value)
        return {model: round(amount) for model, amount in growth.items()}

    def _choose(self, which: str, samples: Sequence[Sample]) -> None:
        """Note by which name a counter is read; another one than before is another counter, and only seeds."""
        if not samples:
            return
        name = samples[0].name
        if self._chosen.get(which, name) != name:
            self._last = {key: series for key, series in self._last.items() if key[0] != which}
            self._last |= {(which, sample.labels): _Series(sample.value) for sample in samples if sample.value >= 0}
        self._chosen[which] = name

    def _series_growth(self, key: tuple[str, Labels], model: str, value: float) -> float:
        """Return by how much one series grew, and remember it."""
        series = self._last.get(key)
        if series is None:
            self._last[key] = _Series(value)
            return value if self._new_from_zero else 0.0
        is_back = series.is_back(value, self._page)
        before, series.value = series.value, value
        if value < before:
            series.fell_page, series.before, series.depth = self._page, before, before - value
            if value > before * _PART_RATIO:
                return 0.0
            self._fallen.add(model)
            return value
        if is_back:
            series.before = math.inf
            self._return_pages.add(self._page)
            return 0.0
        return value - before

    def _gauge(self, samples: Iterable[Sample]) -> dict[str, int]:
        """Return the sums of a gauge by model; a negative number is not a count."""
        sums: dict[str, float] = {}
        for sample in samples:
            model = self._whose(sample)
            if model is not None and sample.value >= 0:
                sums[model] = sums.get(model, 0.0) + sample.value
        return {model: round(amount) for model, amount in sums.items()}

    def _computed(self, model: str, prompt: int | None, cached: int | None) -> int | None:
        """Take the cached tokens off the prompt's where the server counts them in; never below zero.

        A cached token that was counted before its prompt was is taken off the next page's.
        """
        if prompt is None or not self._kind.prompt_includes_cached:
            return prompt
        if cached is None:
            return None
        computed = prompt - cached - self._owed_cached_tokens.get(model, 0)
        self._owed_cached_tokens[model] = max(-computed, 0)
        return max(computed, 0)


def model_of(sample: Sample, labels: Iterable[str]) -> str | None:
    """Return the model that a series names, None where it names none."""
    if not labels:
        return None
    have = dict(sample.labels)
    return next((have[label] for label in labels if have.get(label)), None)


def models_of(page: Page, kind: ServerKind) -> list[str]:
    """Return the models that a page names, sorted; only "" where it names none."""
    fields = (*COUNTERS, *GAUGES)
    samples = (sample for field in fields for sample in picked(page, getattr(kind, field)))
    return sorted({model for sample in samples if (model := model_of(sample, kind.model_labels))}) or [""]


def resolution(values: Iterable[float], significant_digits: int) -> int:
    """Return the largest step, in tokens, of counters that are printed with so many digits (0: exactly)."""
    largest = max(values, default=0.0)
    if significant_digits <= 0 or largest < 10**significant_digits:
        return 1
    return int(10 ** (math.floor(math.log10(largest)) + 1 - significant_digits))
