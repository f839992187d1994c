from pathlib import Path

import pytest

from inferwatt.errors import ConfigError, Unavailable
from inferwatt.export import paste
from inferwatt.export.paste import BOARDS, Options, text_of


def test_a_scrape_configuration_names_its_agents_and_the_token() -> None:
    """What is pasted scrapes every agent that was named, with the token, and leaves our own labels alone."""
    text = text_of("prometheus-config", Options(targets=("a:9595", "b:9595"), token_file="/run/token"))

    assert '          - "a:9595"\n          - "b:9595"\n' in text
    assert "      type: Bearer\n      credentials_file: /run/token\n" in text
    assert "    honor_labels: true\n" in text


def test_a_service_monitor_is_labelled_with_the_release() -> None:
    """The most asked question of the operator's users: without this label their ServiceMonitor is ignored."""
    assert "    release: kps\n" in text_of("servicemonitor", Options(release="kps"))
    with pytest.raises(ConfigError, match=r"(?s)--release.*helm list"):
        text_of("servicemonitor", Options())


def test_rules_for_the_operator_are_a_resource_with_its_label() -> None:
    """With a release, the same rules are a PrometheusRule."""
    text = text_of("prometheus-rules", Options(release="kps", runbooks="https://wiki/x", budgets=("acme=100",)))

    assert "kind: PrometheusRule\n" in text
    assert "    release: kps\n" in text
    assert 'runbook_url: "https://wiki/x/idle-burn.md"' in text
    assert "                tenant: acme\n" in text or "            tenant: acme\n" in text


@pytest.mark.parametrize("budget", ["acme", "=5", "acme=", "acme=x", "acme=-1", "acme=0", "acme=inf", "acme=nan"])
def test_what_is_no_budget_is_refused(budget: str) -> None:
    """A budget is a tenant and a positive number of kWh."""
    with pytest.raises(ConfigError, match=r"(?s)no budget.*acme=100"):
        text_of("prometheus-rules", Options(budgets=(budget,)))


def test_a_dashboard_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is none, and files that were not installed, say what to do."""
    with pytest.raises(ConfigError, match=BOARDS[0]):
        text_of("grafana", Options(board="nonsense"))
    monkeypatch.setattr(paste, "_BOARD_FOLDERS", (Path("/nowhere"),))
    with pytest.raises(Unavailable, match="install inferwatt anew"):
        text_of("grafana", Options())
