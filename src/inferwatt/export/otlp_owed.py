"""What an OTLP receiver is told of a snapshot's counters, and what it is still owed. Pure.

Our counters go on over restarts, a stream of OTLP begins with its process: what is told is what was used since this
agent's exporter first looked. Cumulative, that is told whole each time, and a failure loses nothing. As deltas, what a
counter gained since it was last taken is told, and what was not taken grows until it is: sums stay right, time is told
less finely, and nothing has to wait in a queue. A server that has moved to another pod has other attributes: its
cumulative streams begin anew there, with what was not told of the old ones.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import sub
from typing import Final, NamedTuple

from inferwatt.export.catalog import CATALOG, Kind
from inferwatt.export.otlp_names import DEVICE_ENERGY, HOST
from inferwatt.export.places import SERVED, place_of, places_of
from inferwatt.records import Provenance
from inferwatt.snapshot import Exemplar, HistogramValue, Labels, Snapshot

Total = float | HistogramValue
_OVERHEAD: Final = "overhead"
"""The domain of what a server draws beyond its devices; where it is known, their sum is the server's own meter."""
_RANK: Final = {provenance.value: rank for rank, provenance in enumerate(Provenance)}


class Point(NamedTuple):
    """What one series gained since `since_unix_ns`, when its counter stood at `total`; `place` is its server's."""

    family: str
    labels: Labels
    since_unix_ns: int
    gained: Total
    total: Total
    place: Labels = ()


@dataclass(slots=True)
class _Stream:
    """A cumulative stream of a server's series: where that runs, where the stream began, and what of it is told."""

    place: Labels
    since_unix_ns: int
    base: Total
    told: Total
    told_unix_ns: int


class Owed:
    """Knows what was told, and since when what was not is owed.

    Args:
        is_delta: tell what was gained since the last time, not since the start.
        started_unix_ns: when this process began: where every cumulative stream begins.
        host: what the server is called in `hw.host.energy`.
    """

    def __init__(self, *, is_delta: bool, started_unix_ns: int, host: str) -> None:
        self._is_delta = is_delta
        self._started_unix_ns = started_unix_ns
        self._host = host
        self._told: dict[str, dict[Labels, Total]] = {}
        self._late: dict[tuple[str, Labels], int] = {}
        """Since when what moved is owed; only while it is."""
        self._streams: dict[tuple[str, Labels], _Stream] = {}
        self._pointed: dict[tuple[str, Labels], Mapping[int, Exemplar]] = {}
        """The exemplars that were told."""
        self._looked_unix_ns: int | None = None

    def look(self, snapshot: Snapshot, unix_ns: int) -> list[Point]:
        """Return what is owed by now; the first look is where it begins."""
        before, self._looked_unix_ns = self._looked_unix_ns, unix_ns
        places = places_of(snapshot)
        return [
            point
            for family, series in totals(snapshot, self._host)
            for labels, total in series.items()
            if (point := self._point(family, labels, total, before, place_of(family, labels, places) if places else ()))
            is not None
        ]

    def taken(self, points: Iterable[Point]) -> None:
        """Note that what was owed of these is told; others may be among them."""
        for point in points:
            key = point.family, point.labels
            if self._late.pop(key, None) is not None:
                self._told[point.family][point.labels] = point.total
            if isinstance(point.total, HistogramValue):
                self._pointed[key] = point.total.exemplars
            if (stream := self._streams.get(key)) is not None:
                stream.told, stream.told_unix_ns = point.total, self._looked_unix_ns or stream.told_unix_ns

    def _point(self, family: str, labels: Labels, total: Total, before: int | None, place: Labels) -> Point | None:
        told = self._told.setdefault(family, {})
        base = told.get(labels)
        if base is None:
            base = told[labels] = total if before is None or family == HOST else _nothing(total)
        since = self._started_unix_ns
        if self._is_delta:
            if before is None or total == base:
                return None
            since = self._late.setdefault((family, labels), before)
        elif family in SERVED:
            stream = self._stream(family, labels, base, place)
            since, base = stream.since_unix_ns, stream.base
        return Point(family, labels, since, self._gained(family, labels, total, base), total, place)

    def _stream(self, family: str, labels: Labels, base: Total, place: Labels) -> _Stream:
        """Return the stream of a series: where its server has moved another one begins, with what is not yet told."""
        start = self._started_unix_ns
        stream = self._streams.setdefault((family, labels), _Stream(place, start, base, base, start))
        if stream.place != place:
            stream.place, stream.since_unix_ns, stream.base = place, stream.told_unix_ns, stream.told
        return stream

    def _gained(self, family: str, labels: Labels, total: Total, base: Total) -> Total:
        if isinstance(total, HistogramValue) and isinstance(base, HistogramValue):
            known = self._pointed.get((family, labels), {})
            new = {
                place: each
                for place, each in total.exemplars.items()
                if (old := known.get(place)) is not each and old != each
            }
            return HistogramValue(tuple(map(sub, total.counts, base.counts)), total.sum - base.sum, new)
        return total - base  # type: ignore[operator]


def totals(snapshot: Snapshot, host: str) -> Iterator[tuple[str, Mapping[Labels, Total]]]:
    """Yield every counter and histogram, by our family's name, and the whole server's energy where that is known."""
    for family, series in snapshot.values.items():
        if CATALOG[family].kind is Kind.COUNTER:
            yield family, series
    yield from snapshot.histograms.items()
    devices = snapshot.values.get(DEVICE_ENERGY, {})
    if any(domain == _OVERHEAD for _, domain, _ in devices):
        weakest = max((provenance for *_, provenance in devices), key=_RANK.__getitem__)
        yield HOST, {(host, weakest): sum(devices.values())}


def _nothing(total: Total) -> Total:
    return HistogramValue((0,) * len(total.counts), 0.0, {}) if isinstance(total, HistogramValue) else 0
