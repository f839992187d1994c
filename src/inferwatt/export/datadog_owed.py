"""What Datadog is told of a snapshot, by its own names, and what it is still owed. Pure.

Datadog wants what a counter gained, not the counter: a value is a 32-bit float there, and a running total of 1e10 J
would stand still for kilojoules. What rounding leaves over is carried into the next interval, so that the sum of all
that was told is the counter, however long it runs.

The names and tags are those that the OpenMetrics check of Datadog's own Agent makes of `/metrics` with the namespace
`inferwatt` (datadog-checks-base, `raw_metric_prefix`): one dashboard serves both ways.
"""

import re
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from typing import Final, NamedTuple

from inferwatt.export.catalog import CATALOG, Kind, Metric
from inferwatt.export.metric import MICRO
from inferwatt.export.places import LABELS as PLACE
from inferwatt.export.places import Places, place_of, places_of
from inferwatt.ledger.rows import RequestRow
from inferwatt.records import FOLDED_TENANT
from inferwatt.snapshot import Labels, Snapshot

OLDEST_SECONDS: Final = 3600 - 60
"""Datadog refuses what is more than an hour old; a minute is left for the way."""
LONGEST_TAG: Final = 200
RENAMED: Final = {
    "version": "release",
    "namespace": "kube_namespace",
    "pod": "pod_name",
    "container": "kube_container_name",
}
"""Labels that would mean something else as a tag (`version`: the service's), or that Datadog calls otherwise."""
_PREFIX: Final = "inferwatt_"
_NO_TAG: Final = re.compile(r"[^\w\-:/.]")
"""What a tag may not hold becomes an underscore, as in Datadog's own clients."""
_REQUEST_JOULES: Final = CATALOG["inferwatt_request_energy_joules"]
_TOKEN_JOULES: Final = CATALOG["inferwatt_request_energy_per_output_token_joules"]


class Series(NamedTuple):
    """One value to tell: Datadog's name, the tags, the value."""

    name: str
    tags: tuple[str, ...]
    value: float


@dataclass(slots=True)
class Interval:
    """What counters gained in the `seconds` before `end_unix_seconds`, by Datadog's name and our labels.

    `places` is where servers ran then.
    """

    end_unix_seconds: int
    seconds: int
    places: Places = field(default_factory=dict)
    gained: dict[str, dict[Labels, float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.gained.values()))

    def series(self) -> Iterator[tuple[Labels, Series]]:
        """Yield each gain, with the labels by which it is forgotten."""
        for name, gains in list(self.gained.items()):
            metric = _COUNTED[name].metric
            for labels, value in list(gains.items()):
                yield labels, Series(name, tags_of(metric, labels, self.places), value)

    def forget(self, name: str, labels: Labels) -> None:
        """Leave out what was taken."""
        self.gained[name].pop(labels, None)


class Owed:
    """What counters gained since Datadog was last told, in intervals; the first look is where it begins.

    When more than `most` gains wait, the two oldest intervals become one: sums stay right, time is told less finely.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[str, dict[Labels, float]] = {}
        self._rests: dict[tuple[str, Labels], float] = {}
        self._last_unix_seconds: int | None = None
        self.waiting: deque[Interval] = deque()

    def gather(self, snapshot: Snapshot, unix_seconds: int) -> None:
        """Add an interval with what was gained since the last look."""
        last, self._last_unix_seconds = self._last_unix_seconds, unix_seconds
        interval = Interval(unix_seconds, max(unix_seconds - (last or unix_seconds), 1), places_of(snapshot))
        for name, totals in _totals(snapshot):
            seen = self._seen.setdefault(name, {})
            gains: dict[Labels, float] = {}
            for labels, total in totals.items():
                before = seen.get(labels, 0)
                if total != before:
                    seen[labels] = total
                    if last is not None:
                        gains[labels] = self._rounded(name, labels, total - before)
            if gains:
                interval.gained[name] = gains
        if interval.gained:
            self.waiting.append(interval)
        while len(self.waiting) > 1 and sum(map(len, self.waiting)) > self._most:
            self._merge()

    def expire(self, unix_seconds: int) -> int:
        """Give up what Datadog would refuse for its age; return how many points."""
        points = 0
        while self.waiting and self.waiting[0].end_unix_seconds < unix_seconds - OLDEST_SECONDS:
            points += len(self.waiting.popleft())
        return points

    def _merge(self) -> None:
        older, newer = self.waiting.popleft(), self.waiting[0]
        newer.seconds += older.seconds
        for name, gains in older.gained.items():
            both = newer.gained.setdefault(name, {})
            scale = _COUNTED[name].scale
            for labels, value in gains.items():
                both[labels] = self._rounded(name, labels, (value + both.get(labels, 0.0)) * scale)

    def _rounded(self, name: str, labels: Labels, gained: float) -> float:
        """Return a gain as a 32-bit float in the wire's unit; keep what that leaves over."""
        scale = _COUNTED[name].scale
        exact = gained + self._rests.pop((name, labels), 0.0)
        value: float = struct.unpack("f", struct.pack("f", exact / scale))[0]
        rest = exact - value * scale
        if rest:
            self._rests[name, labels] = rest
        return value


class _Counted(NamedTuple):
    metric: Metric
    scale: float


def name_of(metric: Metric) -> str:
    """Return what a family is called in Datadog; counters end with `.count`."""
    name = metric.family if metric.kind is Kind.COUNTER else metric.name
    plain = "inferwatt." + name.removeprefix(_PREFIX)
    return f"{plain}.count" if metric.kind is Kind.COUNTER else plain


def _counted(metric: Metric) -> dict[str, _Counted]:
    if metric.kind is Kind.COUNTER:
        return {name_of(metric): _Counted(metric, 10.0**metric.decimals)}
    if metric.kind is Kind.HISTOGRAM:
        return {f"{name_of(metric)}.{part}": _Counted(metric, 1.0) for part in ("count", "sum")}
    return {}


_OURS: Final = [metric for metric in CATALOG.values() if metric.name.startswith(_PREFIX)]
_COUNTED: Final = {name: counted for metric in _OURS for name, counted in _counted(metric).items()}


def _totals(snapshot: Snapshot) -> Iterator[tuple[str, Mapping[Labels, float]]]:
    for family, series in snapshot.values.items():
        if CATALOG[family].kind is Kind.COUNTER:
            yield name_of(CATALOG[family]), series
    for family, histograms in snapshot.histograms.items():
        name = name_of(CATALOG[family])
        yield f"{name}.count", {labels: sum(value.counts) for labels, value in histograms.items()}
        yield f"{name}.sum", {labels: value.sum for labels, value in histograms.items()}


def gauges(snapshot: Snapshot) -> Iterator[Series]:
    """Yield what stands now; what is said of a device or a server is a gauge of 1, as on the page."""
    places = places_of(snapshot)
    for family, series in snapshot.values.items():
        metric = CATALOG[family]
        if metric.kind in {Kind.GAUGE, Kind.INFO}:
            name, scale = name_of(metric), 10**metric.decimals
            for labels, value in series.items():
                if isfinite(value):
                    yield Series(name, tags_of(metric, labels, places), value / scale if metric.decimals else value)


def distributions(row: RequestRow, snapshot: Snapshot, places: Places) -> Iterator[Series]:
    """Yield the joules of one ended request, by the labels under which the page counts it.

    A model that the page does not name is folded here too; a family that is switched off is not told, and no
    correction: a value that was told cannot be taken back.
    """
    energy = row.energy
    if energy is None or energy.provenance is None or row.corrects is not None:
        return
    value = energy.energy_uj / 10**MICRO
    told = [(_REQUEST_JOULES, value)]
    if row.request.output_tokens:
        told.append((_TOKEN_JOULES, value / row.request.output_tokens))
    for metric, joules in told:
        known = snapshot.histograms.get(metric.name, {})
        labels = _shown(row.request.model, row.server, energy.provenance.value, known)
        if labels is not None:
            yield Series(name_of(metric), tags_of(metric, labels, places), joules)


def _shown(model: str, server: str, provenance: str, known: Mapping[Labels, object]) -> Labels | None:
    """Return the labels that the page has for it: server summed away, or the model folded; None where it has none."""
    spelled = ((name, where, provenance) for name in (model, FOLDED_TENANT) for where in (server, ""))
    return next((labels for labels in spelled if labels in known), None)


def tags_of(metric: Metric, labels: Labels, places: Places) -> tuple[str, ...]:
    """Return the labels of a series as tags, those of its server's place among them."""
    place = place_of(metric.name, labels, places)
    return _tags(metric.labels, labels) + (_tags(PLACE, place) if place else ())


@lru_cache(maxsize=50_000)
def _tags(names: tuple[str, ...], labels: Labels) -> tuple[str, ...]:
    """Return labels as tags; an empty one is no tag."""
    return tuple(tag(f"{RENAMED.get(name, name)}:{value}") for name, value in zip(names, labels, strict=True) if value)


def tag(text: str) -> str:
    """Return a tag as Datadog takes it; letters become small there."""
    return _NO_TAG.sub("_", text)[:LONGEST_TAG]


def told_names() -> frozenset[str]:
    """Return the name of everything that can be told: what a dashboard may ask for."""
    plain = {name_of(metric) for metric in _OURS if metric.kind in {Kind.GAUGE, Kind.INFO}}
    return frozenset(_COUNTED) | plain | {name_of(_REQUEST_JOULES), name_of(_TOKEN_JOULES)}
