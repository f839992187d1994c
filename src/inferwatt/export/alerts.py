"""Prometheus' alerts, as data: what a person should look at, each with the page that says how. Pure.

Thresholds are first settings, on the cautious side: each runbook says what to change. Alerts ask for what they compare
with, so that a machine that never had a GPU, a tenant without a budget or a model without load is silent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from inferwatt.export.catalog import IDLE_RESIDENT
from inferwatt.export.rules import ENERGY, RECORDS, Record, budgets, group
from inferwatt.export.yaml_text import Data, yaml_text

RUNBOOKS: Final = "docs/runbooks"
"""Where the pages are, in this repository; a company says where it serves them."""
PAGE: Final = "page"
TICKET: Final = "ticket"


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: `lasting` is how long `expr` must hold; the runbook is the page named `runbook`."""

    name: str
    runbook: str
    expr: str
    lasting: str
    severity: str
    summary: str
    description: str

    def data(self, runbooks: str) -> dict[str, Data]:
        """Return it as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.lasting,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{runbooks}/{self.runbook}.md",
            },
        }


def _burn(window: str, short: str, rate: float) -> str:
    """Return what holds where a tenant burns its budget `rate` times too fast, over a long and a short time."""
    over = (
        f"(sum by (tenant) (tenant:inferwatt_power_watts:rate{each})\n"
        f"  / on (tenant) tenant:inferwatt_budget_watts:mean30d > {rate:g})"
        for each in (window, short)
    )
    return "\nand on (tenant)\n".join(over)


WASTE: Final = (
    Alert(
        "InferwattIdleBurn",
        "idle-burn",
        "model:inferwatt_idle_ratio:rate1h > 0.9\nand on (model_name, provenance)\n"
        f'sum by (model_name, provenance) (rate({ENERGY}{{phase="{IDLE_RESIDENT}"}}[1h])) > 50',
        "2h",
        TICKET,
        "{{ $labels.model_name }} burns energy without work",
        "{{ $value | humanizePercentage }} of the energy of {{ $labels.model_name }} ({{ $labels.provenance }}) was "
        "idle in the last hours, and that is more than 50 W.",
    ),
    Alert(
        "InferwattEfficiencyRegression",
        "efficiency-regression",
        "model:inferwatt_energy_per_output_token:ratio_to_1d_ago > 1.3\nand on (model_name)\n"
        "(model:inferwatt_output_tokens:rate1h / (model:inferwatt_output_tokens:rate1h offset 1d) > 0.7)",
        "30m",
        TICKET,
        "{{ $labels.model_name }} needs more joules per token than yesterday",
        "{{ $labels.model_name }} ({{ $labels.provenance }}) takes {{ $value | humanize }} times the joules per output "
        "token of this time yesterday, and its load is not lower.",
    ),
    Alert(
        "InferwattBudgetBurnFast",
        "budget-burn",
        _burn("1h", "5m", 10),
        "5m",
        PAGE,
        "{{ $labels.tenant }} burns its energy budget ten times too fast",
        "At the rate of the last hour ({{ $value | humanize }} times its budget) {{ $labels.tenant }} uses the energy "
        "of 30 days in under three.",
    ),
    Alert(
        "InferwattBudgetBurnSlow",
        "budget-burn",
        _burn("6h", "1h", 2),
        "1h",
        TICKET,
        "{{ $labels.tenant }} burns its energy budget twice too fast",
        "At the rate of the last six hours ({{ $value | humanize }} times its budget) {{ $labels.tenant }} uses the "
        "energy of 30 days in under 15.",
    ),
)

HARDWARE: Final = (
    Alert(
        "InferwattDeviceThrottled",
        "device-throttled",
        "sum by (instance, device, reason) (rate(inferwatt_device_throttled_seconds_total[5m])) > 0.2",
        "15m",
        TICKET,
        "{{ $labels.device }} of {{ $labels.instance }} is throttled",
        "It was throttled ({{ $labels.reason }}) {{ $value | humanizePercentage }} of the last minutes.",
    ),
    Alert(
        "InferwattNegativeResidual",
        "negative-residual",
        'sum by (instance, device) (increase(inferwatt_device_events_total{kind="negative_residual"}[30m])) > 0',
        "0m",
        TICKET,
        "The devices of {{ $labels.instance }} seem to use more than the server that feeds them",
        "One of the meters is wrong, or a device is counted twice.",
    ),
)

METER: Final = (
    Alert(
        "InferwattAgentDown",
        "agent-down",
        'up{job="inferwatt"} == 0',
        "5m",
        PAGE,
        "The meter of {{ $labels.instance }} does not answer",
        "Its page could not be scraped for five minutes. What the devices use meanwhile is booked when it comes back, "
        "without saying whose it was.",
    ),
    Alert(
        "InferwattSourceLost",
        "source-lost",
        "inferwatt_source_up == 0\nand\nmax_over_time(inferwatt_source_up[1d]) == 1",
        "5m",
        PAGE,
        "No device of {{ $labels.source }} answers on {{ $labels.instance }}",
        "It delivered within the last day. Its joules are missing until it does again.",
    ),
    Alert(
        "InferwattSamplesLost",
        "samples-lost",
        "rate(inferwatt_samples_lost_total[10m])\n  /\n"
        "(rate(inferwatt_samples_total[10m]) + rate(inferwatt_samples_lost_total[10m])) > 0.1",
        "15m",
        TICKET,
        "Readings of {{ $labels.device }} get lost on {{ $labels.instance }}",
        "{{ $value | humanizePercentage }} of the readings failed or came too late: energy stays right, whose it was "
        "gets less sure.",
    ),
    Alert(
        "InferwattUnattributed",
        "attribution-unsure",
        "provenance:inferwatt_unattributed_ratio:rate5m > 0.1",
        "15m",
        TICKET,
        "Energy that nobody can be named for",
        "{{ $value | humanizePercentage }} of the {{ $labels.provenance }} energy is unattributed.",
    ),
    Alert(
        "InferwattSplitUnsure",
        "attribution-unsure",
        "model:inferwatt_split_uncertainty_ratio:rate1h > 0.5",
        "1h",
        TICKET,
        "The split of {{ $labels.model_name }} is unsure",
        "The 90% bound of the split is {{ $value | humanizePercentage }} of the requests' energy in the last hour.",
    ),
    Alert(
        "InferwattRecordsDropped",
        "records-dropped",
        'sum by (instance, reason) (increase(inferwatt_records_dropped_total{reason!="duplicate"}[15m])) > 10',
        "0m",
        TICKET,
        "Records of requests are dropped on {{ $labels.instance }}",
        "{{ $value | humanize }} records in 15 minutes ({{ $labels.reason }}): their energy is not theirs.",
    ),
    Alert(
        "InferwattLedgerFailing",
        "ledger-failing",
        "increase(inferwatt_ledger_errors_total[10m]) > 3\nor\nincrease(inferwatt_ledger_set_aside_total[1h]) > 0",
        "0m",
        PAGE,
        "The ledger of {{ $labels.instance }} cannot be written",
        "Figures are kept in memory and tried again; they are lost if the agent ends now.",
    ),
    Alert(
        "InferwattExportFailing",
        "export-failing",
        "(increase(inferwatt_export_failures_total[15m]) > 0\n"
        "  unless on (instance, exporter) increase(inferwatt_exports_total[15m]) > 0)\nor\n"
        "increase(inferwatt_export_dropped_total[15m]) > 0",
        "5m",
        TICKET,
        "{{ $labels.instance }} cannot send to {{ $labels.exporter }}",
        "{{ $value | humanize }} batches failed, or items were lost, in 15 minutes ({{ $labels.reason }}).",
    ),
    Alert(
        "InferwattTenantsFolded",
        "tenants-folded",
        "increase(inferwatt_tenants_folded_total[1h]) > 0",
        "0m",
        TICKET,
        "More tenants than are named on {{ $labels.instance }}",
        "New tenants are counted as __other__: their energy cannot be told apart.",
    ),
)

ALERTS: Final = (*WASTE, *HARDWARE, *METER)


def rules_data(kwh_by_tenant: Iterable[tuple[str, float]] = (), runbooks: str = RUNBOOKS) -> Data:
    """Return all rules and alerts as one file for Prometheus."""
    records: tuple[Record, ...] = (*RECORDS, *budgets(kwh_by_tenant))
    groups = [group("inferwatt", [record.data() for record in records])]
    for name, alerts in (("waste", WASTE), ("hardware", HARDWARE), ("meter", METER)):
        groups.append(group(f"inferwatt-{name}", [alert.data(runbooks) for alert in alerts]))
    return {"groups": groups}


def rules_text(kwh_by_tenant: Iterable[tuple[str, float]] = (), runbooks: str = RUNBOOKS) -> str:
    """Return the same as YAML."""
    return yaml_text(
        rules_data(kwh_by_tenant, runbooks),
        "Written by `inferwatt print prometheus-rules`: change src/inferwatt/export/rules.py or alerts.py instead.",
    )
