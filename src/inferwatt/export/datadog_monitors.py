"""Monitors for Datadog, as data: what can be said of Prometheus' alerts, each with its runbook. Pure."""

from typing import Final

from inferwatt.export.alerts import RUNBOOKS
from inferwatt.export.datadog_boards import Json, gained, stands

HOUR: Final = "sum(last_1h)"
HALF: Final = "sum(last_30m)"
QUARTER: Final = "sum(last_15m)"
MODEL: Final = "host,model_name,server,provenance"
DEVICE: Final = "host,device"


def _count(name: str, where: str, by: str) -> str:
    return gained(name, where, by, how="as_count")


ALL: Final = _count("energy_joules.count", "*", "host,provenance")


def monitor(name: str, query: str, critical: float, says: str, runbook: str) -> Json:
    """Return a monitor; `query` is compared with `critical` (over it is an alert, unless the query ends with `<`)."""
    sign = "" if query.endswith("<") else " >"
    return {
        "name": f"inferwatt: {name}",
        "type": "query alert",
        "query": f"{query}{sign} {critical}",
        "message": f"{says}\n\nRunbook: {RUNBOOKS}/{runbook}.md",
        "tags": ["inferwatt"],
        "options": {
            "thresholds": {"critical": critical},
            "notify_no_data": False,
            "include_tags": True,
            "require_full_window": False,
        },
    }


def monitors() -> list[Json]:
    """Return the monitors; those of Prometheus' alerts that Datadog's language can say."""
    return [*_of_energy(), *_of_the_meter()]


def _of_energy() -> list[Json]:
    return [
        monitor(
            "a model burns while it is idle",
            f"{HALF}:{_count('energy_joules.count', 'phase:idle_resident', MODEL)} / 1800",
            50,
            "{{model_name.name}} on {{server.name}} uses {{value}} W for half an hour, and is idle.",
            "idle-burn",
        ),
        monitor(
            "joules that nobody can be named for",
            f"{HOUR}:{_count('energy_joules.count', 'phase:unattributed', 'host,provenance')} / {ALL}",
            0.1,
            "A tenth of the {{provenance.name}} energy of {{host.name}} is unattributed.",
            "attribution-unsure",
        ),
        monitor(
            "a device is throttled",
            f"{QUARTER}:{_count('device_throttled_seconds.count', '*', f'{DEVICE},reason')} / 900",
            0.2,
            "{{device.name}} of {{host.name}} is throttled ({{reason.name}}) a fifth of the time.",
            "device-throttled",
        ),
    ]


def _of_the_meter() -> list[Json]:
    return [
        monitor(
            "a source is lost",
            f"max(last_10m):{stands('source_up', '*', 'host,source', over='max')} <",
            1,
            "{{source.name}} of {{host.name}} delivers nothing.",
            "source-lost",
        ),
        monitor(
            "readings are lost",
            f"{QUARTER}:{_count('samples_lost.count', '*', DEVICE)} / {_count('samples.count', '*', DEVICE)}",
            0.1,
            "A tenth of the readings of {{device.name}} of {{host.name}} is lost.",
            "samples-lost",
        ),
        monitor(
            "records of requests are dropped",
            f"{QUARTER}:{_count('records_dropped.count', '*', 'host,reason')}",
            0,
            "{{host.name}} drops records: {{reason.name}}.",
            "records-dropped",
        ),
        monitor(
            "the ledger cannot be written",
            f"{QUARTER}:{_count('ledger_errors.count', '*', 'host')}",
            0,
            "The ledger of {{host.name}} is not written; its rows wait in memory.",
            "ledger-failing",
        ),
        monitor(
            "an exporter has lost something",
            f"{QUARTER}:{_count('export_dropped.count', '*', 'host,exporter,reason')}",
            0,
            "{{exporter.name}} of {{host.name}} has lost requests or points: {{reason.name}}.",
            "export-failing",
        ),
        monitor(
            "more tenants than are named",
            f"{HOUR}:{_count('tenants_folded.count', '*', 'host')}",
            0,
            "{{host.name}} counts new tenants as __other__.",
            "tenants-folded",
        ),
    ]
