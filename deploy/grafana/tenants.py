"""The dashboard *Tenants and cost*: who used what, what it costs, and calls to managed APIs. Data."""

from deploy.grafana.panels import (
    MODEL_LINE,
    NO_METER,
    NO_PRICE,
    NO_RULES,
    NO_TENANTS,
    OF_MODEL,
    Board,
    Kind,
    Panel,
    Query,
    gained,
    now,
    per,
    rate,
)

from inferwatt.export.rules import ENERGY, WORK
from inferwatt.units import JOULES_PER_KWH

TENANT = "inferwatt_tenant_energy_joules_total"
LINE = "{{tenant}} ({{provenance}})"
MONEY = f"/ {JOULES_PER_KWH} * $price > 0"
"""Joules to what they cost; nothing where the price is 0."""
NO_CALLS = "No call to a managed API was seen: docs/estimates.md says how they are."
EMITTED = "inferwatt_estimated_emissions_co2e_grams_total"
ESTIMATED = "inferwatt_estimated_tenant_energy_joules_total"


def tokens_price(tokens: float) -> str:
    """Return what the energy of so many output tokens costs, by model."""
    energy = rate("model_name, provenance", ENERGY, OF_MODEL, WORK)
    return f"{tokens:.0f} * {per(energy, rate('model_name', 'inferwatt_output_tokens_total', OF_MODEL))} {MONEY}"


ENERGY_PANELS = (
    Panel(
        "Energy by tenant",
        "Of their requests, in the time that is shown; idle time belongs to no tenant here.",
        "watth",
        NO_TENANTS,
        (Query(f"sort_desc({gained('tenant, provenance', TENANT, OF_MODEL)} / 3600)", LINE),),
        Kind.BARS,
    ),
    Panel(
        "Power by tenant",
        "Of their requests.",
        "watt",
        NO_TENANTS,
        (Query(rate("tenant, provenance", TENANT, OF_MODEL), LINE),),
        Kind.STACKED,
    ),
    Panel(
        "Energy by tenant and model",
        "In the time that is shown.",
        "watth",
        NO_TENANTS,
        (
            Query(
                f"sort_desc({gained('tenant, model_name, provenance', TENANT, OF_MODEL)} / 3600)",
                "{{tenant}} {{model_name}} ({{provenance}})",
            ),
        ),
        Kind.BARS,
    ),
    Panel(
        "Against the budget",
        "Each tenant's watts of the last hour, divided by its budget's: above 1 it is used up too early.",
        "none",
        f"No budget: inferwatt print prometheus-rules --budget acme=100. {NO_RULES}",
        (
            Query(
                "sum by (tenant) (tenant:inferwatt_power_watts:rate1h) / on (tenant) "
                "max by (tenant) (tenant:inferwatt_budget_watts:mean30d)",
                "{{tenant}}",
                sometimes=True,
            ),
        ),
    ),
)

COST = (
    Panel(
        "Cost of energy by tenant",
        "In the time that is shown, at the price above: energy only, no hardware, no cooling.",
        "none",
        NO_PRICE,
        (Query(f"sort_desc({gained('tenant, provenance', TENANT, OF_MODEL)} {MONEY})", LINE, sometimes=True),),
        Kind.BARS,
    ),
    Panel(
        "Cost of the energy of a million output tokens",
        "A model's work, idle left out, at the price above.",
        "none",
        NO_PRICE,
        (Query(tokens_price(1e6), MODEL_LINE, sometimes=True),),
    ),
)

MANAGED = (
    Panel(
        "Estimated energy of calls to managed APIs",
        "By tenant, in the time that is shown: estimated by tokens, measured nowhere; in no other panel.",
        "watth",
        NO_CALLS,
        (Query(f"sort_desc({gained('tenant, provenance', ESTIMATED, OF_MODEL)} / 3600)", LINE, sometimes=True),),
        Kind.BARS,
    ),
    Panel(
        "Between which bounds",
        "Joules a second of all such calls, and the ends of their 90% interval.",
        "watt",
        NO_CALLS,
        tuple(
            Query(
                rate("model_name, provider", f"inferwatt_estimated_energy_{end}joules_total", OF_MODEL),
                f"{{{{model_name}}}} {word}",
                sometimes=True,
            )
            for end, word in (("low_", "at least"), ("", "estimate"), ("high_", "at most"))
        ),
    ),
    Panel(
        "Emissions of calls to managed APIs",
        "Grams of CO2 equivalent in the time that is shown, at the configured intensity.",
        "massg",
        f"No intensity: set estimates.carbon_grams_per_kwh (docs/estimates.md). {NO_CALLS}",
        (
            Query(
                f"sort_desc({gained('model_name, provider', EMITTED, OF_MODEL)})",
                "{{model_name}} ({{provider}})",
                sometimes=True,
            ),
        ),
        Kind.BARS,
    ),
    Panel(
        "Tenants named",
        "Beyond the limit they are counted as __other__.",
        "short",
        NO_METER,
        (
            Query(f"max({now('inferwatt_tenants_limit')})", "limit"),
            Query(f"count(count by (tenant) ({now(TENANT)}))", "named", sometimes=True),
            Query(f"sum({now('inferwatt_tenants_folded_total')})", "folded", sometimes=True),
        ),
    ),
)

TENANTS = Board(
    "tenants",
    "inferwatt: tenants and cost",
    "Whose the energy is, and what it costs at your price.",
    (("Energy", ENERGY_PANELS), ("Cost", COST), ("Managed APIs, and limits", MANAGED)),
    by_model=True,
    priced=True,
)
