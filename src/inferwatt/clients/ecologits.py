"""EcoLogits' method, made again from its documentation, to stand beside ours. Pure.

Publications: Rincé and Banse 2025, "EcoLogits: Evaluating the Environmental Impacts of Generative AI", JOSS 10(111),
7471; its methodology page "LLM inference" (ecologits.ai); the constants are those of release 0.11.3, file
``ecologits/impacts/llm.py``. A test compares this with what that release itself computed, figure by figure.

What it does not do, and what its figures must be read with: the prompt and the cache do not exist for it, weights
have 16 bits whatever the model, the batch is 64, and its interval is only the doubt about the model's size.
"""

from dataclasses import dataclass
from math import ceil, exp, inf, log2

from inferwatt.clients.estimates import Estimate, Figure, Part, Shape, Work
from inferwatt.records import Phase

VERSION = "0.11.3"
METHOD = f"ecologits-{VERSION}"

BATCH = 64
WEIGHT_BITS = 16
GPU_GIGABYTES = 80
MEMORY_OVERHEAD = 1.2
GPUS_OF_SERVER = 8
SERVER_WATTS = 1200.0
GPU_WH = (1.1665273170451914e-06, -0.011205921025579175, 4.052928146734005e-05)
"""Wh per output token and GPU = first * exp(second * batch) * active parameters (1e9) + third."""
TOKEN_SECONDS = (0.0006785088094353663, 0.0003119310311688259, 0.019473717579473387)
"""Seconds per output token = first * active parameters (1e9) + second * batch + third."""

PUE = {
    "anthropic": (1.09, 1.14),
    "cohere": (1.09, 1.09),
    "google": (1.09, 1.09),
    "huggingface": (1.09, 1.14),
    "mistral": (1.16, 1.16),
    "openai": (1.20, 1.20),
    "azure": (1.20, 1.20),
}
"""Per provider, ``ecologits/tracers/utils.py`` of the same release (azure is OpenAI's there). No Bedrock."""
NO_PUE = (1.0, 1.0)

WH = 3600.0


@dataclass(frozen=True, slots=True)
class Speed:
    """What their registry says of a deployment: tokens a second and seconds to the first token; None is not said."""

    tokens_per_second: float | None = None
    first_token_seconds: float | None = None


def gpu_joules_per_token(active_billions: float, batch: float = BATCH) -> float:
    """Return the joules of one GPU for one output token."""
    slope, decay, base = GPU_WH
    return WH * (slope * exp(decay * batch) * active_billions + base)


def gpus_needed(total_billions: float, weight_bits: float = WEIGHT_BITS) -> int:
    """Return how many GPUs hold the weights: a power of two."""
    gigabytes = MEMORY_OVERHEAD * total_billions * weight_bits / 8
    return 1 << ceil(log2(ceil(gigabytes / GPU_GIGABYTES)))


def latency_seconds(active_billions: float, output_tokens: float, seconds: float, speed: Speed) -> float:
    """Return how long the tokens took by their model, never more than what was measured."""
    per_token = TOKEN_SECONDS[0] * active_billions + TOKEN_SECONDS[1] * BATCH + TOKEN_SECONDS[2]
    if speed.tokens_per_second is not None:
        per_token = 1 / speed.tokens_per_second
    return min(seconds, output_tokens * per_token + (speed.first_token_seconds or 0.0))


def it_joules(
    active_billions: float,
    total_billions: float,
    output_tokens: float,
    seconds: float = inf,
    speed: Speed | None = None,
) -> tuple[float, float]:
    """Return the joules of the GPUs and of the rest of the server, without the building."""
    gpus = gpus_needed(total_billions)
    took = latency_seconds(active_billions, output_tokens, seconds, speed or Speed())
    server = took * SERVER_WATTS * gpus / GPUS_OF_SERVER / BATCH
    return gpus * gpu_joules_per_token(active_billions) * output_tokens, server


def site_joules(shape: Shape, work: Work, provider: str, speed: Speed | None = None) -> tuple[float, float]:
    """Return the ends of their interval as they publish it, the building included."""
    low, high = PUE.get(provider, NO_PUE)
    ends = _ends(shape, work, speed)
    return low * sum(ends[0]), high * sum(ends[1])


def estimate(shape: Shape, work: Work, speed: Speed | None = None) -> Estimate:
    """Return what the request used by their method, without the building: to be compared with `ours.estimate`.

    Raises:
        ValueError: there is no output; their method knows nothing else.
    """
    if not work.output_tokens:
        raise ValueError(f"{METHOD} counts output tokens only, and there are none")
    (gpu_low, server_low), (gpu_high, server_high) = _ends(shape, work, speed)
    low, high = gpu_low + server_low, gpu_high + server_high
    joules = Figure((low + high) / 2, low, high)
    basis = (
        f"output tokens only; batch {BATCH} and {WEIGHT_BITS}-bit weights assumed; interval of the model's size alone"
    )
    return Estimate(
        energy_joules=joules.value,
        low_joules=joules.low,
        high_joules=joules.high,
        accelerator_joules=(gpu_low + gpu_high) / 2,
        method=METHOD,
        basis=f"{basis} ({shape.source})",
        model=shape.model,
        known_model=shape.known,
        decode=Part(Phase.DECODE, joules.value, joules.low, joules.high, basis),
    )


def _ends(shape: Shape, work: Work, speed: Speed | None) -> tuple[tuple[float, float], tuple[float, float]]:
    seconds = work.seconds if work.seconds is not None else inf
    tokens = work.output_tokens or 0.0
    active, total = shape.active_billions, shape.total_billions
    return (
        it_joules(active.low, total.low, tokens, seconds, speed),
        it_joules(active.high, total.high, tokens, seconds, speed),
    )
