"""What is pasted elsewhere: a scrape configuration for Prometheus, a ServiceMonitor, rules and dashboards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inferwatt.errors import ConfigError, Unavailable
from inferwatt.export.alerts import RUNBOOKS, rules_data, rules_text
from inferwatt.export.datadog_boards import dashboard, text_of_json
from inferwatt.export.datadog_monitors import monitors
from inferwatt.export.yaml_text import Data, yaml_text

AGENT: Final = "127.0.0.1:9595"
JOB: Final = "inferwatt"
"""What the alerts call the job: in Kubernetes it is the Service's `app.kubernetes.io/name`."""
TOKEN_SECRET: Final = "inferwatt-token"
BOARDS: Final = ("overview", "models", "tenants", "hardware", "meter")
_BOARD_FOLDERS: Final = (
    Path(__file__).with_name("boards"),  # in a wheel
    Path(__file__).parents[3] / "deploy" / "grafana" / "dashboards",  # in a checkout
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of the text."""

    targets: tuple[str, ...] = ()
    token_file: str = ""
    release: str = ""
    budgets: tuple[str, ...] = ()
    runbooks: str | None = None
    board: str = BOARDS[0]


def text_of(what: str, options: Options) -> str:
    """Return the text of `what`.

    Raises:
        ConfigError: an option is missing or wrong.
        Unavailable: the dashboards were not installed.
    """
    if what == "prometheus-config":
        return prometheus_config(options.targets or (AGENT,), options.token_file)
    if what == "grafana":
        return grafana(options.board)
    if what == "datadog-dashboard":
        return text_of_json(dashboard())
    if what == "datadog-monitors":
        return text_of_json(monitors())
    if what == "servicemonitor":
        return service_monitor(options.release)
    budgets = [budget_of(text) for text in options.budgets]
    return prometheus_rules(budgets, runbooks=options.runbooks or RUNBOOKS, release=options.release)


def prometheus_config(targets: Sequence[str], token_file: str = "") -> str:
    """Return a `prometheus.yml` that scrapes agents; an existing one takes the job and the rule file from it.

    `honor_labels` leaves `namespace`, `pod` and `container` of our figures as they are: else they would be those of the
    agent. Without the token the families by tenant are left out, unless Prometheus runs as the agent's user.
    """
    authorization: dict[str, Data] = (
        {"authorization": {"type": "Bearer", "credentials_file": token_file}} if token_file else {}
    )
    job: dict[str, Data] = {
        "job_name": JOB,
        "scrape_interval": "15s",
        "honor_labels": True,
        **authorization,
        "static_configs": [{"targets": list(targets)}],
    }
    return yaml_text(
        {"rule_files": ["inferwatt.rules.yml"], "scrape_configs": [job]},
        "prometheus.yml; the rules: inferwatt print prometheus-rules > inferwatt.rules.yml",
    )


def service_monitor(release: str) -> str:
    """Return a ServiceMonitor; the operator ignores one without the label `release` of its own installation.

    Raises:
        ConfigError: no release is named.
    """
    if not release:
        what = "the operator ignores a ServiceMonitor that is not labelled with its own release"
        raise ConfigError(what, where="--release", fix="helm list -A names it: --release kube-prometheus-stack")
    endpoint: dict[str, Data] = {
        "port": "metrics",
        "interval": "15s",
        "honorLabels": True,
        "authorization": {"type": "Bearer", "credentials": {"name": TOKEN_SECRET, "key": "token"}},
    }
    return yaml_text(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "ServiceMonitor",
            "metadata": {"name": JOB, "labels": {"app.kubernetes.io/name": JOB, "release": release}},
            "spec": {
                "jobLabel": "app.kubernetes.io/name",
                "selector": {"matchLabels": {"app.kubernetes.io/name": JOB}},
                "endpoints": [endpoint],
            },
        },
        "kubectl apply -n NAMESPACE -f FILE, in the namespace of the agent's Service",
    )


def prometheus_rules(
    kwh_by_tenant: Sequence[tuple[str, float]] = (), *, runbooks: str = RUNBOOKS, release: str = ""
) -> str:
    """Return the rules as Prometheus reads them, or as a PrometheusRule where there is a release of the operator."""
    if not release:
        return rules_text(kwh_by_tenant, runbooks)
    return yaml_text(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": JOB, "labels": {"app.kubernetes.io/name": JOB, "release": release}},
            "spec": rules_data(kwh_by_tenant, runbooks),
        }
    )


def grafana(board: str) -> str:
    """Return a dashboard as JSON, for Grafana's *Import*.

    Raises:
        ConfigError: there is no such dashboard.
        Unavailable: the dashboards were not installed.
    """
    if board not in BOARDS:
        raise ConfigError(f"there is no dashboard {board}", where="--board", fix=f"one of: {', '.join(BOARDS)}")
    for folder in _BOARD_FOLDERS:
        path = folder / f"inferwatt-{board}.json"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise Unavailable("the dashboard is not there", where=_BOARD_FOLDERS[0], fix="install inferwatt anew, from a wheel")


def budget_of(text: str) -> tuple[str, float]:
    """Return tenant and kWh of `acme=100`.

    Raises:
        ConfigError: it is not of that form, or no positive number.
    """
    tenant, _, number = text.rpartition("=")
    try:
        kwh = float(number)
    except ValueError:
        kwh = 0.0
    if not (tenant and 0 < kwh < float("inf")):
        raise ConfigError(f"{text} is no budget", where="--budget", fix="a tenant and its kWh in 30 days: acme=100")
    return tenant, kwh
