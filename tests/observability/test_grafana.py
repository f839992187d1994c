"""The dashboards as they are checked in: what the code makes, PromQL to a parser, and of metrics that there are."""

import json
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from inferwatt.export.catalog import CATALOG, Kind
from inferwatt.export.paste import BOARDS as NAMES
from inferwatt.export.paste import Options, text_of
from inferwatt.export.places import LABELS as PLACE
from inferwatt.export.places import SERVED
from inferwatt.export.rules import RECORDS

promql_parser = pytest.importorskip("promql_parser", reason="it comes with make test-observability")
pytest.importorskip("grafana_foundation_sdk", reason="it comes with make test-observability")
yaml = pytest.importorskip("yaml")

from deploy.grafana import make_dashboards  # noqa: E402 - it needs Grafana's library
from deploy.grafana.panels import Board  # noqa: E402
from grafana_foundation_sdk.models.dashboard import Dashboard  # noqa: E402

from .grafana_queries import Asked, asked, filled  # noqa: E402

BOARDS = make_dashboards.BOARDS
PROVISIONING = Path(make_dashboards.__file__).with_name("provisioning")
OF_EVERY_TARGET = {"instance", "job", "le"}
BUDGET = "tenant:inferwatt_budget_watts:mean30d"


def named(board: Board) -> str:
    """Return what a test of a dashboard is called."""
    return board.name


def panels_of(board: Board) -> list[dict[str, Any]]:
    """Return the panels of the checked-in JSON, rows included."""
    document = json.loads((make_dashboards.FOLDER / f"inferwatt-{board.name}.json").read_text(encoding="utf-8"))
    return list(document["panels"])


def selectors(text: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each metric of a query, with the labels that are asked of it."""
    pending = [promql_parser.parse(text)]
    while pending:
        node = pending.pop()
        if isinstance(node, promql_parser.VectorSelector):
            yield node.name, {matcher.name for matcher in node.matchers.matchers}
        for name in ("expr", "lhs", "rhs", "vector_selector", "vs"):
            child = getattr(node, name, None)
            pending += [child] if child is not None else []
        pending += getattr(node, "args", None) or []


def known() -> dict[str, set[str]]:
    """Return every series that Prometheus can have of us, with its labels; of rules, those of their `by` and labels."""
    labels = {name: {*metric.labels, *(PLACE if name in SERVED else ())} for name, metric in CATALOG.items()}
    series = {name: labels[name] for name, metric in CATALOG.items() if metric.kind is not Kind.HISTOGRAM}
    for metric in CATALOG.values():
        if metric.kind is Kind.HISTOGRAM:
            series |= {f"{metric.name}_{end}": labels[metric.name] for end in ("bucket", "count", "sum")}
    rules = {record.name: {"model_name", "tenant", "device", "provenance"} for record in RECORDS}
    return series | rules | {BUDGET: {"tenant"}}


@pytest.mark.parametrize("board", BOARDS, ids=named)
def test_a_dashboard_is_what_the_code_makes(board: Board) -> None:
    """The JSON is what make_dashboards.py would write now, and `inferwatt print grafana` prints it."""
    text = (make_dashboards.FOLDER / f"inferwatt-{board.name}.json").read_text(encoding="utf-8")

    assert text == make_dashboards.text_of(board)
    assert text == text_of("grafana", Options(board=board.name))


def test_every_dashboard_is_checked_in_and_can_be_printed() -> None:
    """There is a file for each and none beside, and the command knows their names."""
    assert tuple(board.name for board in BOARDS) == NAMES
    assert {path.name for path in make_dashboards.FOLDER.iterdir()} == {f"inferwatt-{name}.json" for name in NAMES}


@pytest.mark.parametrize("board", BOARDS, ids=named)
def test_grafanas_own_models_take_it_whole(board: Board) -> None:
    """What Grafana's library reads of the JSON is the JSON: no key that it does not know."""
    text = make_dashboards.text_of(board)

    assert json.loads(make_dashboards.encoded(Dashboard.from_json(json.loads(text)))) == json.loads(text)


@pytest.mark.parametrize("query", asked(BOARDS), ids=str)
def test_a_query_is_promql_of_metrics_that_there_are(query: Asked) -> None:
    """It parses, and asks for nothing that neither the catalogue nor a rule has."""
    series = known()
    found = list(selectors(filled(query.expr)))

    assert found != []
    for name, labels in found:
        assert name in series
        assert labels <= series[name] | OF_EVERY_TARGET, name


@pytest.mark.parametrize("board", BOARDS, ids=named)
def test_every_panel_says_what_it_is_and_why_it_may_be_empty(board: Board) -> None:
    """Title, description, unit and the words for no data are there, and no two panels have one title."""
    panels = [panel for panel in panels_of(board) if panel["type"] != "row"]

    for panel in panels:
        words = [
            panel["title"],
            panel["description"],
            *(panel["fieldConfig"]["defaults"][k] for k in ("unit", "noValue")),
        ]
        assert all(words), panel["title"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCD"[: len(panel["targets"])])
    assert len({panel["title"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("board", BOARDS, ids=named)
def test_no_panel_lies_on_another(board: Board) -> None:
    """All lie within the 24 columns, and beside each other; each has a number of its own."""
    panels = panels_of(board)
    places = [panel["gridPos"] for panel in panels]

    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert [(a, b) for a, b in combinations(places, 2) if _overlap(a, b, "x", "w") and _overlap(a, b, "y", "h")] == []
    assert all(a["y"] <= b["y"] for a, b in pairwise(places))


def _overlap(one: dict[str, int], other: dict[str, int], at: str, size: str) -> bool:
    return one[at] < other[at] + other[size] and other[at] < one[at] + one[size]


@pytest.mark.parametrize("board", BOARDS, ids=named)
def test_what_can_be_chosen_is_of_metrics_that_there_are(board: Board) -> None:
    """Lists of agents and models are made of a label of a series; all is chosen at first, and each is used."""
    document = json.loads(make_dashboards.text_of(board))
    lists = {each["name"]: each for each in document["templating"]["list"] if each["type"] == "query"}

    for name, each in lists.items():
        metric, label = each["query"].removeprefix("label_values(").removesuffix(")").split(", ")
        assert label in known()[metric] | OF_EVERY_TARGET
        assert (each["current"]["value"], each["allValue"]) == ("$__all", ".*")
        assert f"${name}" in json.dumps(document["panels"])


def test_what_is_provisioned_is_there() -> None:
    """Grafana is pointed at the folder of the dashboards, and at a Prometheus, under the name that they ask for."""
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "inferwatt.yml").read_text())["providers"]
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]

    assert (provider["type"], Path(provider["options"]["path"]).name) == ("file", make_dashboards.FOLDER.name)
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
