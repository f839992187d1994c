"""Prometheus' recording rules, as data: what dashboards, alerts and autoscalers ask for again and again. Pure.

A rule's name is what its labels are, what it is, and over which time: `model:inferwatt_power_watts:rate5m`. One series
each for a model (or tenant, or device) and provenance, whatever pods and agents there are, so that an autoscaler can
ask for it as it stands. Nothing is there while the denominator is zero: no load has no joules per token.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from inferwatt.export.catalog import IDLE_EMPTY, IDLE_RESIDENT, UNATTRIBUTED
from inferwatt.export.yaml_text import Data
from inferwatt.units import JOULES_PER_KWH

WORK: Final = 'phase=~"prefill|decode|unlisted"'
"""The phases in which something was computed for somebody."""
IDLE: Final = f'phase=~"{IDLE_RESIDENT}|{IDLE_EMPTY}"'
ENERGY: Final = "inferwatt_energy_joules_total"
MONTH_SECONDS: Final = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Record:
    """A recording rule; `labels` are set on what it records."""

    name: str
    expr: str
    labels: tuple[tuple[str, str], ...] = ()

    def data(self) -> dict[str, Data]:
        """Return it as Prometheus reads it."""
        labels: dict[str, Data] = {"labels": dict(self.labels)} if self.labels else {}
        return {"record": self.name, "expr": self.expr, **labels}


def _by(by: str, name: str, window: str, selector: str = "") -> str:
    """Return the rate of a counter, summed over all labels but `by`."""
    series = f"{name}{{{selector}}}" if selector else name
    return f"sum by ({by}) (rate({series}[{window}]))"


def _tokens(window: str) -> str:
    """Return all tokens of a model: the prompt, computed and from a cache, and the output."""
    output = _by("model_name", "inferwatt_output_tokens_total", window)
    return f"({output} + {_by('model_name', 'inferwatt_prompt_tokens_total', window)})"


def _per(energy: str, count: str) -> str:
    """Divide joules by provenance by a count that has none; absent where nothing was counted."""
    return f"{energy}\n  / on (model_name) group_left ()\n({count} > 0)"


def _model_rules(window: str) -> tuple[Record, ...]:
    energy = _by("model_name, provenance", ENERGY, window, WORK)
    output = _by("model_name", "inferwatt_output_tokens_total", window)
    requests = _by("model_name", "inferwatt_requests_total", window)
    idle = _by("model_name, provenance", ENERGY, window, f'phase="{IDLE_RESIDENT}"')
    of_model = _by("model_name, provenance", ENERGY, window, 'model_name!=""')
    return (
        Record(f"model:inferwatt_work_power_watts:rate{window}", energy),
        Record(f"model:inferwatt_output_tokens:rate{window}", output),
        Record(f"model:inferwatt_energy_per_output_token_joules:rate{window}", _per(energy, output)),
        Record(f"model:inferwatt_energy_per_token_joules:rate{window}", _per(energy, _tokens(window))),
        Record(f"model:inferwatt_energy_per_request_joules:rate{window}", _per(energy, requests)),
        Record(
            f"model:inferwatt_idle_ratio:rate{window}",
            f"{idle}\n  /\n({of_model} > 0)",
        ),
    )


def _part(selector: str, window: str) -> str:
    """Return which part of all joules of a provenance is in some phases."""
    return (
        f"{_by('provenance', ENERGY, window, selector)}\n  /\n"
        f"({_by('provenance', 'inferwatt_device_energy_joules_total', window)} > 0)"
    )


def _tenant_rule(window: str) -> Record:
    energy = _by("tenant, provenance", "inferwatt_tenant_energy_joules_total", window)
    return Record(f"tenant:inferwatt_power_watts:rate{window}", energy)


RECORDS: Final = (
    Record(
        "device:inferwatt_power_watts:rate5m",
        _by("device, provenance", "inferwatt_device_energy_joules_total", "5m"),
    ),
    *_model_rules("5m"),
    *_model_rules("1h"),
    Record(
        "model:inferwatt_energy_per_output_token:ratio_to_1d_ago",
        "model:inferwatt_energy_per_output_token_joules:rate1h\n  /\n"
        "(model:inferwatt_energy_per_output_token_joules:rate1h offset 1d > 0)",
    ),
    Record(
        "model:inferwatt_split_uncertainty_ratio:rate1h",
        "sqrt(sum by (model_name, provenance) (increase(inferwatt_energy_split_variance_square_joules_total[1h])))\n"
        "  /\n(sum by (model_name, provenance) (increase(inferwatt_tier_energy_joules_total[1h])) > 0)",
    ),
    _tenant_rule("5m"),
    _tenant_rule("1h"),
    _tenant_rule("6h"),
    Record("provenance:inferwatt_idle_ratio:rate5m", _part(IDLE, "5m")),
    Record("provenance:inferwatt_unattributed_ratio:rate5m", _part(f'phase="{UNATTRIBUTED}"', "5m")),
)


def budgets(kwh_by_tenant: Iterable[tuple[str, float]]) -> tuple[Record, ...]:
    """Return each tenant's budget of kWh in 30 days as mean watts, which the alerts compare with what it draws."""
    return tuple(
        Record(
            "tenant:inferwatt_budget_watts:mean30d",
            f"vector({kwh * JOULES_PER_KWH / MONTH_SECONDS:.6g})",
            (("tenant", tenant),),
        )
        for tenant, kwh in kwh_by_tenant
    )


def group(name: str, rules: Sequence[Data]) -> dict[str, Data]:
    """Return a group of rules as Prometheus reads it."""
    return {"name": name, "interval": "30s", "rules": rules}
