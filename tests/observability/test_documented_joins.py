"""The queries of docs/kubernetes.md and docs/compare.md, worked out by the real promtool on figures that are known."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.real.conftest import missing

DOCS = Path(__file__).resolve().parents[2] / "docs"
AGENT = 'namespace="inferwatt",pod="inferwatt-x",container="agent"'
SERVER = 'namespace="llm",pod="vllm-0",container="server"'
SERIES = {
    f'inferwatt_energy_joules_total{{server="vllm:8000",instance="a",{SERVER},provenance="measured"}}': "0+30000x130",
    'inferwatt_energy_joules_total{server="",instance="a",provenance="measured"}': "0+30000x130",
    f'inferwatt_device_energy_joules_total{{instance="a",{AGENT},provenance="measured"}}': "0+60000x130",
    'tenant:inferwatt_power_watts:rate1h{tenant="a",provenance="measured"}': "30+0x130",
    'tenant:inferwatt_power_watts:rate1h{tenant="b",provenance="measured"}': "10+0x130",
}
"""A server of 1,000 W in a pod that is not the agent's, as much that is nobody's, and two tenants."""


@pytest.mark.parametrize(
    ("page", "number", "expected"),
    [
        ("kubernetes.md", 0, {f'{{{SERVER},provenance="measured"}}': 1000.0}),
        ("compare.md", 0, {f'{{{SERVER},provenance="measured"}}': 0.25}),
        ("compare.md", 1, {'{tenant="a",provenance="measured"}': 0.75, '{tenant="b",provenance="measured"}': 0.25}),
    ],
)
def test_a_documented_query_gives_what_the_page_says(
    page: str, number: int, expected: dict[str, float], tmp_path: Path
) -> None:
    """The server's pod is named, not the agent's; money and parts are right."""
    if shutil.which("promtool") is None:
        missing("promtool is not installed")
    text = (DOCS / page).read_text(encoding="utf-8")
    query = re.findall(r"(?sm)^```promql\n(.*?)^```", text)[number]
    samples = [{"labels": labels, "value": value} for labels, value in expected.items()]
    wanted = {"expr": f"round({query}, 0.001)", "eval_time": "61m", "exp_samples": samples}
    series = [{"series": name, "values": values} for name, values in SERIES.items()]
    file = tmp_path / "queries.json"  # JSON is YAML
    file.write_text(
        json.dumps({"tests": [{"interval": "30s", "input_series": series, "promql_expr_test": [wanted]}]}),
        encoding="utf-8",
    )
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
