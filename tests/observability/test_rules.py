"""Every rule is PromQL to a parser that is not Prometheus' own either."""

import pytest

from inferwatt.export.alerts import ALERTS
from inferwatt.export.rules import RECORDS

promql_parser = pytest.importorskip("promql_parser", reason="it comes with make test-observability")


@pytest.mark.parametrize("rule", [*RECORDS, *ALERTS], ids=lambda rule: rule.name)
def test_a_rule_is_promql(rule: object) -> None:
    """It parses."""
    assert promql_parser.parse(getattr(rule, "expr")) is not None  # noqa: B009 - rules and alerts share this name only
