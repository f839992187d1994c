"""Our method: decode by a fit to measured energy, prefill and long contexts from first principles. Pure.

Decode. ln(joules per output token) is linear in the logarithms of what is known (coefficients.toml: fitted to
ML.ENERGY's measurements of GPU energy, which contain the prefill of short prompts). Which fit depends on what is
known: with the batch, else with the time between tokens that the client saw, else with the model alone.

Prefill cannot be fitted, since those files tell no prompt lengths. It is modelled, and its basis says so:
2 FLOPs for each active parameter and computed token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), attention
on top, at `JOULES_PER_FLOP`. A cached token costs the reading of its keys and values, and so does each prompt token
again for each output token.

From accelerators to machines: hosts, memory and idle machines by Google's count of its own fleet (`HOST_RATIO`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, hypot, log

from inferwatt.clients.estimates import Estimate, Figure, Part, Shape, Work, within
from inferwatt.records import Phase

JOULES_PER_FLOP = within(1.5e-12, 2.0)
"""NVIDIA H100 SXM datasheet: 989e12 dense BF16 FLOP/s at up to 700 W. At 0.3 to 0.5 of that peak and 500 to 700 W:
1.0e-12 to 2.4e-12 J. DeepSeek's published production (deepseek-ai/open-infra-index, commit 56d8685, day 6 of
202502OpenSourceWeek, statistics: 73,700 prompt tokens a second on 8 H800, 56.3% of them cache hits, 37e9 active) is
2 * 37e9 * 73,700 * 0.437 / 8 = 298e12 FLOP/s, 0.30 of it."""

JOULES_PER_BYTE = within(2e-10, 2.0)
"""The same datasheet: 3.35e12 B/s of HBM3. At 0.6 to 0.9 of that and 400 to 600 W: 1.3e-10 to 3.0e-10 J."""

KV_BYTES_RATIO = within(1.0e-2, 3.5)
"""Bytes of keys and values per token, over (active * total parameters)^(1/3). From published config.json files, 16-bit:
Llama-3.1-8B 131,072 (0.033), 70B 327,680 (0.019), 405B 516,096 (0.0094); Qwen3-235B-A22B 192,512 (0.011);
gpt-oss-120b 73,728, half of them in windows (0.0044 to 0.0088); DeepSeek-V3 70,272 (0.0024)."""

PAIR_FLOPS_RATIO = within(0.16, 2.0)
"""FLOPs for each pair of tokens in attention, 4 * layers * heads * head size, over the same cube root. From the same
files: Llama-3.1-8B 0.13, 70B 0.15, 405B 0.15; Qwen3-235B-A22B 0.18; DeepSeek-V3 0.21; gpt-oss-120b 0.035 to 0.07."""

HOST_RATIO = Figure(1 / 0.63, 1 / 0.96, 1 / 0.41)
"""Machines over accelerators, without the building. Elsworth et al. 2025, arXiv 2508.15734, energy of the median
Gemini Apps text prompt by component: 58% active accelerators, 25% active CPU and DRAM, 10% idle machines, 8% overhead
(PUE): 0.58 / 0.92 = 0.63. One fleet, one publication: 90% interval of 0.41 to 0.96, from 1 sigma of 0.15 on the 0.58.
"""

ASSUMED_RATIO = 2.0
"""A number of total parameters that is somebody's assumption is taken for within this factor (90%): ours alone, since
no publication says how good such assumptions are. Of an unknown model the interval is all."""

METHOD = "inferwatt-1"


@dataclass(frozen=True, slots=True)
class Fit:
    """One fit of coefficients.toml."""

    name: str
    constant: float
    exponents: Mapping[str, float]
    low_log: float
    high_log: float


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The file of the fits: `ranges` is what was measured, `watts` the constants of servers that can be seen."""

    publication: str
    fitted: str
    fits: Mapping[str, Fit]
    ranges: Mapping[str, tuple[float, float]]
    watts: Mapping[str, float]
    visible_low_log: float
    visible_high_log: float


def estimate(shape: Shape, work: Work, coefficients: Coefficients) -> Estimate:
    """Return what the request of a model of this shape used, by our method."""
    prefill, decode = prefill_joules(shape, work), decode_joules(shape, work, coefficients)
    known = [part for part in (prefill, decode) if part is not None]
    accelerators = known[0] if len(known) == 1 else known[0] + known[1]
    whole = accelerators.times(HOST_RATIO)
    reasoning = None
    if decode is not None and work.reasoning_tokens and work.output_tokens:
        share = min(work.reasoning_tokens / work.output_tokens, 1.0)
        reasoning = decode.value * share * HOST_RATIO.value
    return Estimate(
        energy_joules=whole.value,
        low_joules=whole.low,
        high_joules=whole.high,
        accelerator_joules=accelerators.value,
        method=METHOD,
        basis=_basis(shape, work),
        model=shape.model,
        known_model=shape.known,
        prefill=_part(Phase.PREFILL, prefill, "modelled from first principles"),
        decode=_part(Phase.DECODE, decode, f"fit '{choose(work)}' to {coefficients.publication}"),
        reasoning_joules=reasoning,
    )


def _part(phase: Phase, joules: Figure | None, basis: str) -> Part | None:
    if joules is None:
        return None
    whole = joules.times(HOST_RATIO)
    return Part(phase, whole.value, whole.low, whole.high, basis)


def _basis(shape: Shape, work: Work) -> str:
    size = f"{_spell(shape.active_billions)}e9 active of {_spell(shape.total_billions)}e9 parameters"
    words = [f"{size} at {_spell(shape.weight_bits)} bits ({shape.source})", _told(work)]
    if work.prompt_tokens is None:
        words.append("prompt not known and left out")
    if work.output_tokens is None:
        words.append("output not known and left out")
    return "; ".join(words)


def _spell(figure: Figure) -> str:
    return f"{figure.value:g}" if figure.low == figure.high else f"{figure.low:g} to {figure.high:g}"


def _told(work: Work) -> str:
    return {
        "hosted": "batch, GPUs and time between tokens known",
        "served": "batch and GPUs known",
        "batch": "batch known",
        "client": "batch not known, time between tokens as the client saw it",
        "blind": "batch not known",
    }[choose(work)]


def choose(work: Work) -> str:
    """Return the name of the fit that uses all that is known."""
    if work.batch is None:
        return "blind" if work.inter_token_ms is None else "client"
    if work.gpus is None or work.gpu_kind not in _KINDS:
        return "batch"
    return "served" if work.inter_token_ms is None else "hosted"


_KINDS = {"H100": 0.0, "B200": 1.0}
"""The kinds of GPU that were measured, and `kind` of each."""


def decode_joules(shape: Shape, work: Work, coefficients: Coefficients) -> Figure | None:
    """Return the accelerators' joules of all output tokens; None where they are not known or none."""
    if not work.output_tokens:
        return None
    per_token = joules_per_token(shape, work, coefficients.fits[choose(work)], coefficients.ranges)
    if not work.prompt_tokens:
        return per_token.scaled(work.output_tokens)
    reads = kv_bytes(shape).times(JOULES_PER_BYTE).scaled(work.prompt_tokens)
    return (per_token + reads).scaled(work.output_tokens)


def joules_per_token(shape: Shape, work: Work, fit: Fit, ranges: Mapping[str, tuple[float, float]]) -> Figure:
    """Return the accelerators' joules of one output token by a fit, its residuals and the doubt about the model."""
    active, weight = shape.active_billions, shape.weight_gigabytes
    on_active, on_weight = fit.exponents["active_billions"], fit.exponents["weight_gigabytes"]
    logarithm = (
        fit.constant + on_active * log(active.value) + on_weight * log(weight.value) + _served(work, fit, ranges)
    )
    down = on_active * log(active.value / active.low) + on_weight * log(weight.value / weight.low)
    up = on_active * log(active.high / active.value) + on_weight * log(weight.high / weight.value)
    doubt = on_weight * log(ASSUMED_RATIO) if shape.assumed and shape.known else 0.0
    value = exp(logarithm)
    return Figure(value, value * exp(-hypot(down, fit.low_log, doubt)), value * exp(hypot(up, fit.high_log, doubt)))


def _served(work: Work, fit: Fit, ranges: Mapping[str, tuple[float, float]]) -> float:
    """Return the logarithm of what a fit makes of the server; a time beyond what was measured counts as its end."""
    total = fit.exponents.get("kind", 0.0) * _KINDS.get(work.gpu_kind, 0.0)
    if "batch" in fit.exponents and work.batch is not None:
        total += fit.exponents["batch"] * log(work.batch)
    if "gpus" in fit.exponents and work.gpus is not None:
        total += fit.exponents["gpus"] * log(work.gpus)
    if "inter_token_ms" in fit.exponents and work.inter_token_ms is not None:
        shortest, longest = ranges["inter_token_ms"]
        total += fit.exponents["inter_token_ms"] * log(min(max(work.inter_token_ms, shortest), longest))
    return total


def _cube_root(shape: Shape) -> Figure:
    """Return (active * total parameters)^(1/3), which grows as a model's layers times its width."""
    active, total = shape.active_billions, shape.total_billions
    return Figure(
        1e6 * (active.value * total.value) ** (1 / 3),
        1e6 * (active.low * total.low) ** (1 / 3),
        1e6 * (active.high * total.high) ** (1 / 3),
    )


def kv_bytes(shape: Shape) -> Figure:
    """Return the bytes of keys and values of one token."""
    return _cube_root(shape).times(KV_BYTES_RATIO)


def prefill_joules(shape: Shape, work: Work) -> Figure | None:
    """Return the accelerators' joules of the prompt; None where it is not known."""
    if work.prompt_tokens is None:
        return None
    linear = shape.active_billions.scaled(2e9 * work.computed)
    pairs = work.computed * work.cached + work.computed**2 / 2
    flops = linear + _cube_root(shape).times(PAIR_FLOPS_RATIO).scaled(pairs)
    computed = flops.times(JOULES_PER_FLOP)
    if not work.cached:
        return computed
    return computed + kv_bytes(shape).times(JOULES_PER_BYTE).scaled(work.cached)


def visible_joules(work: Work, coefficients: Coefficients) -> Figure:
    """Return the accelerators' joules of the output of a server that can be seen but not metered.

    No model is needed: GPUs * watts of their kind * time between tokens / batch, for each output token.

    Raises:
        ValueError: GPUs, their kind, the batch, the time or the output is not known.
    """
    between_ms = work.inter_token_ms
    if work.gpus is None or work.batch is None or between_ms is None or not work.output_tokens:
        raise ValueError("a server that is seen needs gpus, batch, seconds and output_tokens")
    watts = coefficients.watts.get(work.gpu_kind)
    if watts is None:
        raise ValueError(
            f"watts of {work.gpu_kind or 'no kind of GPU'} were not measured: {', '.join(coefficients.watts)}"
        )
    value = work.gpus * watts * between_ms / 1000 / work.batch * work.output_tokens
    return Figure(value, value * exp(coefficients.visible_low_log), value * exp(coefficients.visible_high_log))
