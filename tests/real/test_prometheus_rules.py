"""The rules and the scrape configuration, as Prometheus' own promtool reads them."""

import subprocess
from pathlib import Path

import pytest

from inferwatt.export.paste import Options, text_of
from tests.real.prometheus import program

pytestmark = pytest.mark.real

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"


def promtool(*arguments: str, folder: Path = FOLDER) -> None:
    """Run promtool; what it says is in the failure."""
    run = subprocess.run(
        [program("promtool"), *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )

    assert run.returncode == 0, run.stdout + run.stderr


def test_every_rule_and_alert_passes_its_unit_tests() -> None:
    """Rules come to the figures that are known, alerts fire where they must and are silent where they must."""
    promtool("test", "rules", "inferwatt.rules.test.yml")


def test_what_is_printed_for_prometheus_is_taken_whole(tmp_path: Path) -> None:
    """`promtool check config` accepts configuration, rules and a budget as they are printed."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    options = Options(targets=("127.0.0.1:9595", "node-2:9595"), token_file=str(token), budgets=("acme=100", "ü b=2"))
    (tmp_path / "prometheus.yml").write_text(text_of("prometheus-config", options))
    (tmp_path / "inferwatt.rules.yml").write_text(text_of("prometheus-rules", options))

    promtool("check", "config", "prometheus.yml", folder=tmp_path)
