"""The dashboards' queries, with Grafana's variables filled in as Grafana does."""

from collections.abc import Iterable
from dataclasses import dataclass

from deploy.grafana.panels import Board

VARIABLES = {"$__rate_interval": "20s", "$__range": "5m", "$instance": ".*", "$model": ".*", "$price": "0.3"}
"""`.*` is what *All* stands for; the times are those of a Prometheus that scrapes each second."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query and where it is."""

    board: str
    panel: str
    expr: str
    sometimes: bool

    def __str__(self) -> str:
        return f"{self.board}/{self.panel}"


def asked(boards: Iterable[Board]) -> list[Asked]:
    """Return every query of the dashboards."""
    return [
        Asked(board.name, panel.title, query.expr, query.sometimes)
        for board in boards
        for panel in board.panels
        for query in panel.queries
    ]


def filled(expr: str, **variables: str) -> str:
    """Return a query without variables; `variables` are those that a person chose."""
    for name, value in {**VARIABLES, **{f"${name}": value for name, value in variables.items()}}.items():
        expr = expr.replace(name, value)
    return expr
