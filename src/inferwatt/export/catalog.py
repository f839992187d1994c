"""Every metric, once: name, kind, help, labels, unit, buckets. Exporters and the documentation follow it. Pure.

Rules that a test holds: SI base units; a name ends with its unit, then `_total` if it is a counter; the values of
a label are disjoint, so that a sum over all of them means something; no label that scrapers add themselves.
`CATALOG[name].labels` is the order of the label values in `Snapshot.values[name]` and `Snapshot.histograms[name]`.
"""

from inferwatt.export.estimated import ESTIMATED
from inferwatt.export.metric import (
    MICRO,
    NANO,
    Kind,
    Metric,
    bucket_index,
    catalogue,
    counter,
    doubling,
    gauge,
    histogram,
    info,
)
from inferwatt.export.own import OWN

__all__ = ["CATALOG", "Kind", "Metric", "bucket_index"]

PREFILL = "prefill"
DECODE = "decode"
UNLISTED = "unlisted"
IDLE_RESIDENT = "idle_resident"
IDLE_EMPTY = "idle_empty"
OTHER = "other"
UNATTRIBUTED = "unattributed"
PHASES = (PREFILL, DECODE, UNLISTED, IDLE_RESIDENT, IDLE_EMPTY, OTHER, UNATTRIBUTED)
"""Where a joule went. Disjoint: their sum is what the devices measured. The last three belong to no model."""

CACHE_NONE = "none"
CACHE_READ = "read"
"""Prompt tokens that were computed, and those reused: the two sum to the prompt."""

REQUEST_JOULES = doubling(0.1, 21)
"""0.1 J to 105 kJ."""
TOKEN_JOULES = doubling(0.0001, 21)
"""0.1 mJ to 105 J."""
WAIT_SECONDS = doubling(0.001, 18)
"""1 ms to 131 s."""
GAP_SECONDS = doubling(0.0005, 15)
"""0.5 ms to 8 s."""

_MODEL = ("model_name", "server")
_DEVICE = ("device", "domain", "provenance")

_HARDWARE = (
    counter(
        "inferwatt_device_energy_joules_total",
        "Energy that the device used, by its own counter or by the source that provenance names; domains are disjoint.",
        _DEVICE,
        "joules",
        MICRO,
    ),
    gauge(
        "inferwatt_device_power_watts",
        "Mean power of the device over the last second; for graphs prefer rate() of the energy counter.",
        _DEVICE,
        "watts",
    ),
    gauge(
        "inferwatt_device_systematic_uncertainty_ratio",
        "Bound (90%) of the error that all readings of the device share, such as a sensor's gain: it adds up linearly.",
        _DEVICE,
        "ratio",
    ),
    info(
        "inferwatt_device_info", "What the device is; join on device.", ("device", "vendor", "model", "driver", "uuid")
    ),
    counter(
        "inferwatt_device_bridged_energy_joules_total",
        "Energy used while reads failed or were lost, contained in the device's energy: its sum is right, its course "
        "within the gap is not known.",
        _DEVICE,
        "joules",
        MICRO,
    ),
    gauge(
        "inferwatt_device_update_period_seconds",
        "Time between two moves of the device's counter, as seen.",
        ("device",),
        "seconds",
    ),
    gauge("inferwatt_device_utilization_ratio", "Part of the device's capacity that was in use.", ("device",), "ratio"),
    gauge("inferwatt_device_clock_hertz", "Clock of the device's cores.", ("device",), "hertz"),
    gauge("inferwatt_device_temperature_celsius", "Temperature of the device.", ("device",), "celsius"),
    gauge("inferwatt_device_power_limit_watts", "Power limit in force on the device.", ("device",), "watts"),
    counter(
        "inferwatt_device_throttled_seconds_total",
        "Time in which the device was throttled, by reason.",
        ("device", "reason"),
        "seconds",
        NANO,
    ),
)

_WORK = (
    counter(
        "inferwatt_energy_joules_total",
        "Energy by where it went. Phases and components are disjoint, their sum is what the devices used. "
        "Phases idle_empty, other and unattributed belong to no model (model_name is empty).",
        (*_MODEL, "phase", "component", "provenance"),
        "joules",
        MICRO,
    ),
    counter(
        "inferwatt_loaded_energy_joules_total",
        "Energy of a model's requests and of its idle time together: what it costs to have it loaded. Spread over "
        "requests or tenants in proportion to their energy, this is their figure with idle in it.",
        (*_MODEL, "provenance"),
        "joules",
        MICRO,
    ),
    counter(
        "inferwatt_corrections_joules_total",
        "Energy that records which came too late moved in the ledger, from an account to requests; the counters of "
        "both stay as they were, so that they never fall.",
        ("from", "to", "provenance"),
        "joules",
        MICRO,
    ),
    counter(
        "inferwatt_request_part_energy_joules_total",
        "Parts of the energy of ended requests, by the cost model; they overlap. shared: the equal part of what all "
        "in a step need; context: for the KV cache; recomputed: tokens that were lost and computed again; wasted: "
        "tokens that nobody got.",
        (*_MODEL, "part", "provenance"),
        "joules",
        MICRO,
    ),
    counter(
        "inferwatt_energy_split_variance_square_joules_total",
        "Sum over requests of the squared 90% half-width of their share. The square root of its increase is the "
        "half-width of the requests' energy in that time; the devices' systematic uncertainty comes on top.",
        (*_MODEL, "provenance"),
        "square_joules",
        2 * MICRO,
    ),
    counter(
        "inferwatt_tier_energy_joules_total",
        "Energy of ended requests by the tier of evidence on which it was split.",
        (*_MODEL, "tier", "provenance"),
        "joules",
        MICRO,
    ),
    counter(
        "inferwatt_prompt_tokens_total",
        "Prompt tokens: computed (cache none) and reused from a prefix cache (cache read), which sum to the prompts.",
        (*_MODEL, "cache"),
        "tokens",
    ),
    counter("inferwatt_output_tokens_total", "Output tokens.", _MODEL, "tokens"),
    counter(
        "inferwatt_wasted_tokens_total",
        "Tokens that were computed and that nobody got, by reason: beyond the request's end (eos, length, stop_string, "
        "disconnect, error, other, unknown), or a rejected_draft of speculative decoding. They are no output tokens.",
        (*_MODEL, "reason"),
        "tokens",
    ),
    counter(
        "inferwatt_wasted_energy_joules_total",
        "Energy of those tokens, by the same reasons: part wasted of inferwatt_request_part_energy_joules_total.",
        (*_MODEL, "reason", "provenance"),
        "joules",
        MICRO,
    ),
    counter("inferwatt_requests_total", "Ended requests by outcome.", (*_MODEL, "outcome")),
    gauge("inferwatt_open_requests", "Requests that have begun and not ended.", _MODEL),
    counter(
        "inferwatt_tenant_energy_joules_total",
        "Energy of requests by tenant. A tenant without a name is __unknown__, those beyond the limit are __other__.",
        ("tenant", "model_name", "provenance"),
        "joules",
        MICRO,
    ),
    counter("inferwatt_tenants_folded_total", "Tenants counted as __other__ because the limit was reached."),
    gauge("inferwatt_tenants_limit", "How many tenants are named before others are folded."),
    counter("inferwatt_models_folded_total", "Models counted as __other__ because the limit was reached."),
    gauge("inferwatt_models_limit", "How many models are named before others are folded."),
    histogram(
        "inferwatt_request_energy_joules",
        "Energy of one request, idle not included.",
        (*_MODEL, "provenance"),
        "joules",
        REQUEST_JOULES,
    ),
    histogram(
        "inferwatt_request_marginal_energy_joules",
        "What would have been used less without a request, by the cost model: the figure for routing and scaling. "
        "Their sum is less than what was used.",
        (*_MODEL, "provenance"),
        "joules",
        REQUEST_JOULES,
    ),
    histogram(
        "inferwatt_request_energy_per_output_token_joules",
        "Energy of one request divided by its output tokens. Its average is not the model's energy per token: "
        "for that divide the rates of the counters.",
        (*_MODEL, "provenance"),
        "joules",
        TOKEN_JOULES,
    ),
    histogram(
        "inferwatt_time_to_first_token_seconds",
        "Time from a request's arrival to its first output token.",
        _MODEL,
        "seconds",
        WAIT_SECONDS,
    ),
    histogram(
        "inferwatt_inter_token_latency_seconds",
        "Time between output tokens of one request.",
        _MODEL,
        "seconds",
        GAP_SECONDS,
    ),
    histogram(
        "inferwatt_queue_seconds",
        "Time that a request waited before work on it began.",
        _MODEL,
        "seconds",
        WAIT_SECONDS,
    ),
    info(
        "inferwatt_server_info",
        "What the inference server is and where it runs; join on server.",
        ("server", "kind", "version", "namespace", "pod", "container"),
    ),
)


CATALOG = catalogue((*_HARDWARE, *_WORK, *ESTIMATED, *OWN))
