"""The dashboard and the monitors ask only for what we send, by the tags that it has."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from inferwatt.export.catalog import CATALOG, Metric
from inferwatt.export.datadog_boards import dashboard, text_of_json
from inferwatt.export.datadog_monitors import monitors
from inferwatt.export.datadog_owed import RENAMED, name_of, told_names
from inferwatt.export.places import LABELS as PLACE
from inferwatt.export.places import SERVED
from tests.docs.documents import DOCS, ROOT

QUERY = re.compile(r"(?:sum|avg|max|min):([a-z0-9_.]+)\{([^}]*)\}(?: by \{([^}]*)\})?")
STORED = ROOT / "deploy" / "datadog"
OF_DATADOG = {"host"}


def families() -> dict[str, Metric]:
    """Return the family behind each name that is sent."""
    found = {name_of(metric): metric for metric in CATALOG.values()}
    return {name: found.get(name) or found[name.rpartition(".")[0]] for name in told_names()}


def queries(part: Any) -> Iterator[str]:
    """Yield every query within a dashboard or monitors."""
    if isinstance(part, dict):
        yield from [part["query"]] if isinstance(part.get("query"), str) else []
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from queries(each)


QUERIES = [*queries(dashboard()), *queries(monitors())]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_what_is_sent(query: str) -> None:
    """Its metrics are sent, and it filters and groups by tags that they have."""
    asked = QUERY.findall(query)
    assert asked
    for name, where, by in asked:
        metric = families()[name]
        own = (*metric.labels, *(PLACE if metric.name in SERVED else ()))
        labels = {RENAMED.get(label, label) for label in own} | OF_DATADOG
        named = set(re.findall(r"\$([a-z_]+)|([a-z_]+):", where))
        assert {variable or key for variable, key in named} <= labels, query
        assert {each for each in by.split(",") if each} <= labels, query


def test_joules_of_different_provenance_are_never_added() -> None:
    """Whatever asks for joules groups by provenance, or is of the one that was chosen."""
    for query in QUERIES:
        for name, where, by in QUERY.findall(query):
            if "provenance" in families()[name].labels:
                assert "provenance" in where + by, query


def test_phases_that_are_asked_for_exist() -> None:
    """A filter by a phase that there is not would be silent for ever."""
    asked = {phase for query in QUERIES for phase in re.findall(r"phase:([a-z_]+)", query)}

    assert asked == {"prefill", "decode", "unlisted", "idle_resident", "idle_empty", "unattributed"}


@pytest.mark.parametrize(("file", "made"), [("dashboard.json", dashboard()), ("monitors.json", monitors())])
def test_what_is_kept_is_what_is_made(file: str, made: Any) -> None:
    """`inferwatt print datadog-dashboard` and `datadog-monitors` write the files."""
    assert (STORED / file).read_text(encoding="utf-8") == text_of_json(made)


def test_a_monitor_compares_with_its_threshold_and_has_a_runbook() -> None:
    """Datadog refuses a monitor whose query and threshold differ; each leads to a page that is there."""
    for each in monitors():
        critical = each["options"]["thresholds"]["critical"]
        assert re.search(rf"[<>] {re.escape(json.dumps(critical))}$", each["query"])
        (runbook,) = re.findall(r"docs/(runbooks/\S+\.md)", each["message"])
        assert (DOCS / runbook).is_file()
        by = {label for _, _, labels in QUERY.findall(each["query"]) for label in labels.split(",")}
        assert set(re.findall(r"\{\{(\w+)\.name\}\}", each["message"])) <= by
