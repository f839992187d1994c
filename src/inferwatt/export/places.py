"""Where a server runs, beside every figure of it: namespace, pod and container. Pure.

Counters are not kept by them: a pod that is replaced would begin each counter of its server anew, and every pod that
ever was would stay. They are put beside a figure where it is told, by its label `server`, and only where some server is
in a container. What belongs to no server, or to one outside of containers, then has them empty: to Prometheus that is a
label that is not there, and that it does not take from its target, which is the agent's own pod.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, TypeVar

from inferwatt.export.catalog import CATALOG
from inferwatt.export.metric import Metric
from inferwatt.snapshot import Labels, Snapshot

Value = TypeVar("Value")
Places = Mapping[str, Labels]
"""By server: its namespace, pod and container."""

LABELS: Final = ("namespace", "pod", "container")
INFO: Final = "inferwatt_server_info"
NOWHERE: Final = ("", "", "")
_AT: Final = {
    name: metric.labels.index("server")
    for name, metric in CATALOG.items()
    if "server" in metric.labels and name != INFO
}
"""Where the label `server` stands, by family."""
SERVED: Final = frozenset(_AT)
"""Families of a server's figures."""
_PLACED: Final = {name: replace(CATALOG[name], labels=(*CATALOG[name].labels, *LABELS)) for name in _AT}


def places_of(snapshot: Snapshot) -> Places:
    """Return where the servers run; nothing where no server is in a container."""
    first = CATALOG[INFO].labels.index(LABELS[0])
    return {labels[0]: labels[first:] for labels in snapshot.values.get(INFO, {}) if any(labels[first:])}


def place_of(family: str, labels: Labels, places: Places) -> Labels:
    """Return the place of a series' server, nothing where it has none."""
    if not places or family not in _AT:
        return ()
    return places.get(labels[_AT[family]], ())


def placed(metric: Metric, series: Mapping[Labels, Value], places: Places) -> tuple[Metric, Mapping[Labels, Value]]:
    """Return a family with the labels of places, and its series with theirs; the same where there are none."""
    if not places or metric.name not in _AT:
        return metric, series
    return _PLACED[metric.name], {
        (*labels, *(place_of(metric.name, labels, places) or NOWHERE)): value for labels, value in series.items()
    }
