"""What is left out of every exporter: families that are switched off, and labels that are summed away. Pure.

A label that is summed away has the empty value, which to Prometheus is a label that is not there. What is said of a
thing keeps its labels, but for where a server runs: that is told beside each of its figures from there (places.py).
"""

from collections.abc import Callable, Collection, Mapping
from operator import add
from typing import Final, TypeVar

from inferwatt.errors import ConfigError
from inferwatt.export.catalog import CATALOG, Kind
from inferwatt.export.places import LABELS
from inferwatt.snapshot import HistogramValue, Labels, Snapshot

Value = TypeVar("Value")
PLACE: Final = frozenset(LABELS)


class Switches:
    """Makes of each snapshot what is shown of it; the last one is kept, for each exporter asks for the same.

    Raises:
        ConfigError: there is no such family.
    """

    def __init__(self, families_off: Collection[str] = (), labels_off: Collection[str] = ()) -> None:
        for name in families_off:
            if name not in CATALOG:
                raise ConfigError(f"there is no family {name}", where="export.families_off", fix="see docs/metrics.md")
        self._families_off = frozenset(families_off)
        self._labels_off = frozenset(labels_off)
        self._last: tuple[Snapshot, Snapshot] | None = None

    def shown(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot without what is switched off."""
        if not self._families_off and not self._labels_off:
            return snapshot
        last = self._last
        if last is None or last[0] is not snapshot:
            values = {name: self._summed(name, series, add) for name, series in self._left(snapshot.values)}
            histograms = {name: self._summed(name, series, _both) for name, series in self._left(snapshot.histograms)}
            last = self._last = (snapshot, Snapshot(values, histograms, snapshot.live))
        return last[1]

    def _left(self, families: Mapping[str, Mapping[Labels, Value]]) -> list[tuple[str, Mapping[Labels, Value]]]:
        return [(name, series) for name, series in families.items() if name not in self._families_off]

    def _summed(
        self, name: str, series: Mapping[Labels, Value], both: Callable[[Value, Value], Value]
    ) -> Mapping[Labels, Value]:
        metric = CATALOG[name]
        labels_off = self._labels_off & PLACE if metric.kind is Kind.INFO else self._labels_off
        off = [place for place, label in enumerate(metric.labels) if label in labels_off]
        if not off:
            return series
        sums: dict[Labels, Value] = {}
        for labels, value in series.items():
            key = tuple("" if place in off else label for place, label in enumerate(labels))
            sums[key] = both(sums[key], value) if key in sums else value
        return sums


def _both(one: HistogramValue, other: HistogramValue) -> HistogramValue:
    counts = tuple(map(add, one.counts, other.counts))
    return HistogramValue(counts, one.sum + other.sum, {**one.exemplars, **other.exemplars})
