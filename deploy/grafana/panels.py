"""What a dashboard is made of, and the PromQL that its queries are put together from. Pure data.

Every sum keeps `provenance`: measured and modelled joules are never one line. Where nothing is drawn, a panel says why.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

HERE: Final = 'instance=~"$instance"'
STEP: Final = "$__rate_interval"
OF_MODEL: Final = 'model_name=~"$model"'
MODEL_LINE: Final = "{{model_name}} ({{provenance}})"

NO_METER: Final = (
    "No device is metered: inferwatt sources says what is lacking. Or Prometheus does not scrape the agent."
)
NO_WORK: Final = "No request in this time: Prometheus has seen no model at work."
NO_TENANTS: Final = (
    "No tenant: Prometheus needs the agent's token (docs/agent.md), or tenants.enabled is false, or nobody asked."
)
NO_PRICE: Final = "Type your price into Price of a kWh, above: 0 is none. Or there was no request in this time."
NO_PODS: Final = "No server runs in a container, as far as the agent sees: docs/kubernetes.md. Or there was no work."
NO_RULES: Final = "It needs the recording rules: inferwatt print prometheus-rules (docs/prometheus.md)."


class Kind(StrEnum):
    """How a panel draws: by time as lines or stacked, or what holds at the end as numbers, bars or a table."""

    LINES = "lines"
    STACKED = "stacked"
    NUMBERS = "numbers"
    BARS = "bars"
    HEAT = "heat"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL and a legend.

    Attributes:
        expr: the query, with Grafana's variables in it.
        legend: what a line is called, by its labels.
        sometimes: a healthy machine that serves requests may have no such series; the panel says when there is one.
        right_unit: the unit of an axis of its own, on the right.
    """

    expr: str
    legend: str = ""
    sometimes: bool = False
    right_unit: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: its heading.
        what: what is drawn, in a sentence or two.
        unit: as Grafana names it; all queries' but those with one of their own.
        absent: what is said where no query has a series: why, and what would bring it.
        queries: what it asks.
        kind: how it draws.
    """

    title: str
    what: str
    unit: str
    absent: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard: rows of panels under their headings.

    Attributes:
        name: how `inferwatt print grafana --board` calls it.
        title: how Grafana does.
        what: what it answers.
        rows: heading and panels.
        by_model: it has a list of models to choose from.
        priced: it has a field for the price of a kWh.
    """

    name: str
    title: str
    what: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    by_model: bool = False
    priced: bool = False

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All of them, in order."""
        return tuple(panel for _, panels in self.rows for panel in panels)


def now(family: str, *conditions: str) -> str:
    """Return what a family is at the chosen agents."""
    return f"{family}{{{', '.join((HERE, *conditions))}}}"


def rate(by: str, family: str, *conditions: str) -> str:
    """Return how fast a counter grows, by some labels; of joules, that is watts."""
    return f"sum by ({by}) (rate({now(family, *conditions)}[{STEP}]))"


def gained(by: str, family: str, *conditions: str, over: str = "$__range") -> str:
    """Return what a counter has gained, in all the time that is shown or in each step of it, by some labels."""
    return f"sum by ({by}) (increase({now(family, *conditions)}[{over}]))"


def equal(label: str, value: str) -> str:
    """Return the condition that a label has a value."""
    return f'{label}="{value}"'


def per(energy: str, count: str, on: str = "model_name") -> str:
    """Divide joules by provenance by a count that has none; absent where nothing was counted."""
    return f"{energy} / on ({on}) group_left () ({count} > 0)"


def quantiles(family: str, *conditions: str, by: str = "model_name") -> tuple[Query, ...]:
    """Return the median and the 95th percentile of a histogram."""
    buckets = rate(f"le, {by}", f"{family}_bucket", *conditions)
    named = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return tuple(
        Query(f"histogram_quantile({ratio}, {buckets})", f"p{round(100 * ratio)} {named}") for ratio in (0.5, 0.95)
    )
