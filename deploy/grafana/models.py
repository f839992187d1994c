"""The dashboard *Model efficiency*: joules per token and request, of prefill and decode, against load. Data."""

from deploy.grafana.panels import (
    MODEL_LINE,
    NO_RULES,
    NO_WORK,
    OF_MODEL,
    STEP,
    Board,
    Kind,
    Panel,
    Query,
    equal,
    gained,
    now,
    per,
    quantiles,
    rate,
)

from inferwatt.export.catalog import CACHE_NONE, CACHE_READ, DECODE, IDLE_RESIDENT, PREFILL
from inferwatt.export.rules import ENERGY, WORK

BY = "model_name, provenance"
PHASE_LINE = "{{model_name}} {{phase}} ({{provenance}})"
NO_STREAM = "No request told when its tokens came: the server's page, its plugin or the SDK's chunk() does."


def work(*conditions: str) -> str:
    """Return the watts of the chosen models, by provenance."""
    return rate(BY, ENERGY, OF_MODEL, *conditions)


def count(family: str, *conditions: str) -> str:
    """Return how many a second, by model."""
    return rate("model_name", family, OF_MODEL, *conditions)


OUTPUT = count("inferwatt_output_tokens_total")
PROMPT = count("inferwatt_prompt_tokens_total")
COMPUTED = count("inferwatt_prompt_tokens_total", equal("cache", CACHE_NONE))
CACHED = count("inferwatt_prompt_tokens_total", equal("cache", CACHE_READ))
REQUESTS = count("inferwatt_requests_total")
ENDED = gained(BY, "inferwatt_tier_energy_joules_total", OF_MODEL, over=STEP)
SPLIT = gained(BY, "inferwatt_energy_split_variance_square_joules_total", OF_MODEL, over=STEP)

PER_TOKEN = (
    Panel(
        "Joules per output token",
        "A model's work divided by its output tokens; idle left out.",
        "joule",
        NO_WORK,
        (Query(per(work(WORK), OUTPUT), MODEL_LINE),),
    ),
    Panel(
        "Joules per output token against load",
        "The same (left), and the output tokens a second (right): the fuller the batch, the less a token takes.",
        "joule",
        NO_WORK,
        (
            Query(per(work(WORK), OUTPUT), MODEL_LINE),
            Query(OUTPUT, "{{model_name}}: tokens/s", right_unit="si:tokens/s"),
        ),
    ),
    Panel(
        "Joules per token, prompt and output",
        "A model's work divided by all its tokens, those from a cache too.",
        "joule",
        NO_WORK,
        (Query(per(work(WORK), f"({OUTPUT} + {PROMPT})"), MODEL_LINE),),
    ),
    Panel(
        "Against the same hour yesterday",
        "Joules per output token of the last hour, divided by those of 24 hours ago: above 1 they have become more.",
        "none",
        f"{NO_RULES} And a day of load.",
        (
            Query(
                'model:inferwatt_energy_per_output_token:ratio_to_1d_ago{model_name=~"$model"}',
                MODEL_LINE,
                sometimes=True,
            ),
        ),
    ),
)

PHASES = (
    Panel(
        "Power of prefill and decode",
        "unlisted is work that the server counted and no record explains.",
        "watt",
        NO_WORK,
        (Query(rate("model_name, phase, provenance", ENERGY, OF_MODEL, WORK), PHASE_LINE),),
        Kind.STACKED,
    ),
    Panel(
        "Joules per token of each phase",
        "Prefill by prompt tokens that were computed, decode by output tokens.",
        "joule",
        NO_WORK,
        (
            Query(per(work(equal("phase", PREFILL)), COMPUTED), "{{model_name}} prefill ({{provenance}})"),
            Query(per(work(equal("phase", DECODE)), OUTPUT), "{{model_name}} decode ({{provenance}})"),
        ),
    ),
    Panel(
        "Cached part of the prompts",
        "Tokens of prompts that were not computed again.",
        "percentunit",
        NO_WORK,
        (Query(f"{CACHED} / ({PROMPT} > 0)", "{{model_name}}"),),
    ),
    Panel(
        "What the joules were for",
        "By the cost model; the parts overlap. shared: what all in a step need; context: the KV cache; recomputed: "
        "tokens that were lost and computed again; wasted: tokens that nobody got.",
        "watt",
        NO_WORK,
        (
            Query(
                rate("model_name, part, provenance", "inferwatt_request_part_energy_joules_total", OF_MODEL),
                "{{model_name}} {{part}} ({{provenance}})",
            ),
        ),
    ),
)

PER_REQUEST = (
    Panel(
        "Joules per request",
        "Median and 95th percentile of ended requests; a point is one of them, with its id.",
        "joule",
        NO_WORK,
        quantiles("inferwatt_request_energy_joules", OF_MODEL, by="model_name, provenance"),
    ),
    Panel(
        "How requests are spread",
        "Requests by their joules, all provenances.",
        "joule",
        NO_WORK,
        (
            Query(
                gained("le", "inferwatt_request_energy_joules_bucket", OF_MODEL, over=STEP),
                "{{le}}",
            ),
        ),
        Kind.HEAT,
    ),
    Panel(
        "Mean joules per request",
        "A model's work divided by its ended requests; idle left out.",
        "joule",
        NO_WORK,
        (Query(per(work(WORK), REQUESTS), MODEL_LINE),),
    ),
    Panel(
        "How unsure the split is",
        "The 90% half-width of the requests' energy together; what the devices are off by comes on top (Hardware).",
        "percentunit",
        NO_WORK,
        (Query(f"sqrt({SPLIT}) / ({ENDED} > 0)", MODEL_LINE),),
    ),
)

LOAD = (
    Panel(
        "Time to first token",
        "Median and 95th percentile.",
        "s",
        NO_STREAM,
        quantiles("inferwatt_time_to_first_token_seconds", OF_MODEL),
    ),
    Panel(
        "Time between tokens",
        "Median and 95th percentile.",
        "s",
        NO_STREAM,
        quantiles("inferwatt_inter_token_latency_seconds", OF_MODEL),
    ),
    Panel(
        "Open requests",
        "That have begun and not ended.",
        "short",
        NO_WORK,
        (Query(f"sum by (model_name) ({now('inferwatt_open_requests', OF_MODEL)})", "{{model_name}}"),),
    ),
    Panel(
        "Idle part of the model's energy",
        "Of all energy of a model, what was used while it was loaded and had no work.",
        "percentunit",
        NO_WORK,
        (Query(f"{work(equal('phase', IDLE_RESIDENT))} / ({work()} > 0)", MODEL_LINE),),
    ),
)

MODELS = Board(
    "models",
    "inferwatt: model efficiency",
    "What a token and a request take, in prefill and decode, and how that follows the load.",
    (("Tokens", PER_TOKEN), ("Phases", PHASES), ("Requests", PER_REQUEST), ("Load", LOAD)),
    by_model=True,
)
