"""Every alert of ours in a real Prometheus, over a day of stored trouble, and from there in a real Alertmanager."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferwatt.export.alerts import ALERTS, RUNBOOKS
from tests.real.pages import wait_for
from tests.real.prometheus import free_port, program, scraping
from tests.real.test_prometheus import serving

from .alertmanager import Alertmanager, alerting
from .quick_rules import quick_rules

pytest.importorskip("cramjam", reason="it comes with make test-observability")

ROOT = Path(__file__).resolve().parents[2]
MINUTE, HOUR = 60, 3600
ONE_WATT_KWH = 0.72
"""A budget of 30 days."""
BUDGETS = (("fast", ONE_WATT_KWH), ("slow", ONE_WATT_KWH), ("well", ONE_WATT_KWH))
WELL = {"small", "quiet", "well", "gpu-1", "n1"}
"""What has no trouble: no alert may name it."""


@dataclass(frozen=True)
class Course:
    """A series: what it was so many seconds ago, over the last `hours`, the last `until_hours` left out."""

    name: str
    labels: str
    was: Callable[[float], float]
    hours: float = 2.0
    until_hours: float = 0.0


def growing(a_minute: float, hours: float = 2.0) -> Callable[[float], float]:
    """Return a counter that grows so much in a minute."""
    return lambda ago: (hours * HOUR - ago) / MINUTE * a_minute


def since(minutes: float, before: float, after: float) -> Callable[[float], float]:
    """Return what changed so many minutes ago."""
    return lambda ago: before if ago > minutes * MINUTE else after


def spent(model: str, phase: str, a_minute: float) -> Course:
    """Return a model's joules of a phase."""
    labels = f'model_name="{model}",server="a",phase="{phase}",component="accelerator",provenance="measured"'
    return Course("inferwatt_energy_joules_total", labels, growing(a_minute))


def tenant(name: str, a_minute: float) -> Course:
    """Return a tenant's joules."""
    labels = f'tenant="{name}",model_name="m",provenance="measured"'
    return Course("inferwatt_tenant_energy_joules_total", labels, growing(a_minute, 7), 7)


YESTERDAY = (25.0, 23.0)
N2 = 'instance="n2"'
TROUBLE = (
    spent("big", "idle_resident", 6000),
    spent("big", "decode", 60),
    spent("small", "idle_resident", 600),
    spent("", "unattributed", 3000),
    Course("inferwatt_device_energy_joules_total", 'device="gpu-0",domain="gpu",provenance="measured"', growing(9000)),
    spent("m", "decode", 120),
    spent("quiet", "decode", 60),
    *(
        Course("inferwatt_output_tokens_total", f'model_name="{name}",server="a"', growing(60))
        for name in ("m", "quiet")
    ),
    *(
        Course(f"model:inferwatt_{what}:rate1h", f'model_name="{name}"{more}', lambda _: 1.0, *YESTERDAY)
        for name in ("m", "quiet")
        for what, more in (("output_tokens", ""), ("energy_per_output_token_joules", ',provenance="measured"'))
    ),
    tenant("fast", 1200),
    tenant("slow", 180),
    tenant("well", 60),
    Course("inferwatt_device_throttled_seconds_total", f'{N2},device="gpu-0",reason="power_cap"', growing(30)),
    Course("inferwatt_device_throttled_seconds_total", f'{N2},device="gpu-1",reason="power_cap"', growing(6)),
    Course("inferwatt_device_events_total", f'{N2},device="overhead",kind="negative_residual"', since(20, 0, 1)),
    Course("inferwatt_source_up", f'{N2},source="nvml"', since(20, 1, 0)),
    Course("inferwatt_source_up", 'instance="n1",source="rapl"', lambda _: 1.0),
    *(
        Course(f"inferwatt_samples{what}_total", f'{N2},device="{device}"', growing(a_minute))
        for device, what, a_minute in (
            ("gpu-0", "", 600),
            ("gpu-0", "_lost", 200),
            ("gpu-1", "", 600),
            ("gpu-1", "_lost", 6),
        )
    ),
    Course(
        "inferwatt_energy_split_variance_square_joules_total",
        'model_name="m",server="a",provenance="measured"',
        growing(100),
    ),
    Course(
        "inferwatt_tier_energy_joules_total",
        'model_name="m",server="a",tier="token_share",provenance="measured"',
        growing(1),
    ),
    Course("inferwatt_records_dropped_total", f'{N2},reason="overload"', growing(5)),
    Course("inferwatt_ledger_errors_total", N2, growing(1)),
    Course("inferwatt_ledger_set_aside_total", 'instance="n1"', lambda _: 1.0),
    Course("inferwatt_tenants_folded_total", N2, since(10, 0, 1)),
    Course("inferwatt_export_failures_total", f'{N2},exporter="otlp",reason="connection"', growing(1)),
    Course("inferwatt_exports_total", f'{N2},exporter="otlp"', lambda _: 7.0),
)


def store(folder: Path) -> None:
    """Put the trouble into a database, as `promtool` backfills one."""
    now = int(time.time()) - 1
    lines = [
        f"{course.name}{{{course.labels}}} {course.was(ago)} {now - ago}"
        for name in {course.name: None for course in TROUBLE}
        for course in TROUBLE
        if course.name == name
        for ago in range(round(course.hours * HOUR), round(course.until_hours * HOUR) - 1, -MINUTE)
    ]
    text = folder / "trouble.txt"
    text.write_text("\n".join([*lines, "# EOF\n"]))
    command = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def told() -> list[str]:
    """Return what the webhook was told: the names of alerts."""
    return []


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory, told: list[str]) -> Iterator[Alertmanager]:
    """Return an Alertmanager whose Prometheus has the trouble, and a target that does not answer."""
    folder = tmp_path_factory.mktemp("alerts")
    store(folder)
    (folder / "inferwatt.rules.yml").write_text(quick_rules(BUDGETS))

    async def hook(request: Request) -> Response:
        told.extend(alert["labels"]["alertname"] for alert in (await request.json())["alerts"])
        return Response()

    with (
        serving(Starlette(routes=[Route("/", hook, methods=["POST"])])) as webhook,
        alerting(folder, f"{webhook}/") as manager,
        scraping(
            folder,
            {"inferwatt": f"http://127.0.0.1:{free_port()}/metrics"},
            ["inferwatt.rules.yml"],
            [manager.address],
        ),
    ):
        wait_for("all alerts", lambda: {alert.name for alert in ALERTS} <= manager.names())
        yield manager


def test_every_alert_fires_and_none_for_what_is_well(alertmanager: Alertmanager) -> None:
    """Each alert that we have is in Alertmanager; none names a model, tenant, device or machine without trouble."""
    alerts = alertmanager.alerts()

    assert {alert["labels"]["alertname"] for alert in alerts} == {alert.name for alert in ALERTS}
    assert [alert["labels"] for alert in alerts if WELL & set(alert["labels"].values())] == []


def test_every_alert_says_what_and_names_a_page(alertmanager: Alertmanager) -> None:
    """Its words are filled in, and its runbook is a page of this repository."""
    for alert in alertmanager.alerts():
        said = alert["annotations"]
        assert not re.search(r"<no value>|<error|\{\{|  ", said["summary"] + said["description"])
        assert said["runbook_url"].startswith(f"{RUNBOOKS}/")
        assert (ROOT / said["runbook_url"]).is_file()


def test_yesterday_is_compared_with(alertmanager: Alertmanager) -> None:
    """A model that takes two joules a token where it took one yesterday is told so, from a day of stored rules."""
    (regression,) = (
        alert for alert in alertmanager.alerts() if alert["labels"]["alertname"] == "InferwattEfficiencyRegression"
    )

    assert regression["labels"]["model_name"] == "m"
    assert (
        "takes 2 times the joules per output token of this time yesterday" in regression["annotations"]["description"]
    )


def test_somebody_is_told(alertmanager: Alertmanager, told: list[str]) -> None:
    """Alertmanager sends each of them on."""
    assert wait_for("the webhook is told of all", lambda: alertmanager.names() <= set(told))
