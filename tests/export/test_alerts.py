import re
from pathlib import Path

import pytest

from inferwatt.export.alerts import ALERTS, Alert, rules_text
from inferwatt.export.catalog import CATALOG
from inferwatt.export.rules import RECORDS, Record, budgets

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
UNIT_TESTS = (PROMETHEUS / "inferwatt.rules.test.yml").read_text(encoding="utf-8")
PARTS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def name_of(alert: Alert) -> str:
    """Name a test case after its alert."""
    return alert.name


def test_the_rules_that_are_checked_in_are_those_of_the_code() -> None:
    """deploy/prometheus/inferwatt.rules.yml is what `inferwatt print prometheus-rules` writes now."""
    assert (PROMETHEUS / "inferwatt.rules.yml").read_text(encoding="utf-8") == rules_text()


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_an_alert_has_a_runbook(alert: Alert) -> None:
    """Who is woken finds a page that names the alert, in the same four parts as every other."""
    text = (RUNBOOKS / f"{alert.runbook}.md").read_text(encoding="utf-8")

    assert f"`{alert.name}`" in text
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    """Each page belongs to an alert."""
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {alert.runbook for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_an_alert_has_a_unit_test_in_which_it_fires(alert: Alert) -> None:
    """Promtool is asked for it, and for labels that only a firing alert has."""
    fires = (
        rf'{alert.name}",alertstate="firing",[^}}]*severity="{alert.severity}"|alertname: {alert.name}\n[^-]*exp_alerts'
    )

    assert re.search(fires, UNIT_TESTS)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_a_recording_rule_has_a_unit_test(record: Record) -> None:
    """Promtool works each rule out from figures that are known."""
    assert f"labels: '{record.name}{{" in UNIT_TESTS


def test_rules_ask_for_what_is_in_the_catalogue() -> None:
    """No rule or alert names a metric of ours that is not there: a renamed one would be silent for ever."""
    texts = [*(record.expr for record in RECORDS), *(alert.expr for alert in ALERTS)]
    named = {name for text in texts for name in re.findall(r"(?<![:\w])inferwatt_\w+", text)}
    recorded = {record.name for record in (*RECORDS, *budgets([("t", 1)]))}
    asked = {name for text in texts for name in re.findall(r"\w+:inferwatt_\w+:\w+", text)}

    assert named <= set(CATALOG)
    assert asked <= recorded


def test_a_budget_is_mean_watts() -> None:
    """100 kWh in 30 days are 360 MJ in 2.592 million seconds: 138.9 W."""
    (record,) = budgets([("acme", 100.0)])

    assert (record.expr, record.labels) == ("vector(138.889)", (("tenant", "acme"),))
