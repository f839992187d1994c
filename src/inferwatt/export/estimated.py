"""The metrics of calls to managed APIs: estimates, families of their own, which no device conserves. Pure."""

from inferwatt.export.metric import MICRO, NANO, counter, gauge

PROMPT, CACHED, OUTPUT = "prompt", "cached", "output"
"""Kinds of tokens, disjoint: the prompt that was computed, the part of it that was read from a cache, the output."""

_OF = ("model_name", "provider")

ENERGY = "inferwatt_estimated_energy_joules_total"
LOW = "inferwatt_estimated_energy_low_joules_total"
HIGH = "inferwatt_estimated_energy_high_joules_total"
TENANT = "inferwatt_estimated_tenant_energy_joules_total"
TOKENS = "inferwatt_estimated_tokens_total"
REQUESTS = "inferwatt_estimated_requests_total"
UNKNOWN = "inferwatt_unestimated_requests_total"
EMISSIONS = {
    "inferwatt_estimated_emissions_co2e_grams_total": "emissions_co2e_grams",
    "inferwatt_estimated_emissions_low_co2e_grams_total": "emissions_low_co2e_grams",
    "inferwatt_estimated_emissions_high_co2e_grams_total": "emissions_high_co2e_grams",
}
"""By metric, what a call's figure is called."""
INTENSITY = "inferwatt_estimated_carbon_intensity_grams_per_joule"
SPANS = "inferwatt_spans_total"

ESTIMATED = (
    counter(
        ENERGY,
        "Energy of calls to managed APIs, estimated by their tokens: no device conserves it, it is in no other family.",
        (*_OF, "provenance"),
        "joules",
        MICRO,
    ),
    counter(
        LOW,
        "Lower ends (90%) of the same estimates: their causes are shared, so they add up linearly.",
        (*_OF, "provenance"),
        "joules",
        MICRO,
    ),
    counter(
        HIGH,
        "Upper ends (90%) of the same estimates: their causes are shared, so they add up linearly.",
        (*_OF, "provenance"),
        "joules",
        MICRO,
    ),
    counter(
        TENANT,
        "Estimated energy of calls to managed APIs by tenant, as in inferwatt_tenant_energy_joules_total.",
        ("tenant", *_OF, "provenance"),
        "joules",
        MICRO,
    ),
    *(
        counter(
            name,
            f"{what} of calls to managed APIs, CO2 equivalent: their estimated energy at the configured intensity.",
            (*_OF, "provenance"),
            "grams",
            NANO,
        )
        for name, what in zip(
            EMISSIONS,
            ("Emissions", "Lower ends (90%) of the emissions", "Upper ends (90%) of the emissions"),
            strict=True,
        )
    ),
    gauge(
        INTENSITY,
        "What the electricity of managed APIs emits, as configured (estimates.carbon_grams_per_kwh), and its source.",
        ("source",),
        "grams_per_joule",
    ),
    counter(TOKENS, "Tokens of calls to managed APIs, as their answers told them.", (*_OF, "kind")),
    counter(REQUESTS, "Calls to managed APIs whose energy was estimated.", (*_OF, "outcome")),
    counter(UNKNOWN, "Calls to managed APIs that told no tokens: their energy is in no family.", (*_OF, "outcome")),
    counter(SPANS, "OpenTelemetry spans that were received, by what became of them (docs/spans.md).", ("result",)),
)
