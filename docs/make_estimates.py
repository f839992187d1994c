"""Writes the tables of docs/estimates.md from the code: `python docs/make_estimates.py`; a test compares."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp
from pathlib import Path

from inferwatt.clients import ecologits, ours
from inferwatt.clients.estimates import Estimate, Work
from inferwatt.clients.registry import coefficients, load

PAGE = Path(__file__).with_name("estimates.md")
WH = 3600.0
PUE_GOOGLE = 1.09
H800_WATTS = 543.0
"""Not published for H800: the H100 constant of coefficients.toml, an assumption of ours."""


@dataclass(frozen=True, slots=True)
class Published:
    """A figure that somebody published: watt-hours of the serving machines, and the request that it is for."""

    who: str
    what: str
    watt_hours: float
    model: str
    prompt_tokens: int | None
    output_tokens: int
    tokens_are: str
    accelerators_only: bool = False


CHECKED = (
    Published(
        "Google, Elsworth et al. 2025, arXiv 2508.15734",
        "median Gemini Apps text prompt: 0.24 Wh with PUE 1.09",
        0.24 / PUE_GOOGLE,
        "gemini-2.5-flash",
        100,
        250,
        "model and tokens not published: ours",
    ),
    Published(
        "Google, the same",
        "active accelerators alone: 0.10 Wh",
        0.10,
        "gemini-2.5-flash",
        100,
        250,
        "model and tokens not published: ours",
        accelerators_only=True,
    ),
    Published(
        "Altman, blog.samaltman.com, The Gentle Singularity, June 2025",
        "average ChatGPT query: 0.34 Wh, no method, no scope",
        0.34,
        "gpt-4o",
        100,
        250,
        "model and tokens not published: ours",
    ),
    Published(
        "Epoch AI, How much energy does ChatGPT use?, February 2025",
        "GPT-4o, typical query: 0.3 Wh, bottom-up",
        0.3,
        "gpt-4o",
        100,
        500,
        "500 output as published, prompt ours",
    ),
    Published(
        "Epoch AI, the same", "10,000 tokens of prompt: 2.5 Wh", 2.5, "gpt-4o", 10_000, 500, "prompt as published"
    ),
    Published(
        "Epoch AI, the same", "100,000 tokens of prompt: 40 Wh", 40.0, "gpt-4o", 100_000, 500, "prompt as published"
    ),
    Published(
        "How Hungry is AI, arXiv 2505.09598 v6",
        "GPT-4o, short prompt: 0.42 Wh, API speed on assumed hardware, with PUE",
        0.42,
        "gpt-4o",
        100,
        300,
        "as published",
    ),
    Published(
        "How Hungry is AI, arXiv 2505.09598 v2",
        "DeepSeek-R1, long prompt: over 33 Wh, API speed on assumed hardware, with PUE",
        33.0,
        "deepseek-r1",
        10_000,
        1_500,
        "as published",
    ),
    Published(
        "Mistral AI, November 2025",
        "Mistral Large 2, answer of 400 tokens: 0.23 Wh",
        0.23,
        "mistral-large-2407",
        100,
        400,
        "400 output as published, prompt ours",
    ),
    Published(
        "DeepSeek, open-infra-index 56d8685, 202502OpenSourceWeek day 6",
        "R1 and V3, decoding: 14,800 tokens/s on 8 H800; energy derived with 543 W a GPU",
        8 * H800_WATTS / 14_800 * 1000 / WH,
        "deepseek-r1",
        None,
        1000,
        "per 1,000 output tokens",
        accelerators_only=True,
    ),
)
"""Read as published, or as their publications are quoted; what is not published stands in the last field."""


def estimates(figure: Published) -> tuple[Estimate, Estimate]:
    """Return both methods' estimates for a published figure."""
    shape = load().find(figure.model)
    work = Work(prompt_tokens=figure.prompt_tokens, output_tokens=figure.output_tokens)
    return ours.estimate(shape, work, coefficients()), ecologits.estimate(shape, work)


def ends(figure: Published, made: Estimate) -> tuple[float, float, float]:
    """Return figure and ends in watt-hours, of the accelerators alone where the published figure is."""
    if figure.accelerators_only:
        ratio = made.accelerator_joules / made.energy_joules
        return made.accelerator_joules / WH, made.low_joules * ratio / WH, made.high_joules * ratio / WH
    return made.energy_joules / WH, made.low_joules / WH, made.high_joules / WH


def checked() -> Iterator[str]:
    """Yield the table of published figures."""
    yield "| who | what | compared with | published, Wh | ours, Wh (90%) | | EcoLogits' method, Wh |"
    yield "|---|---|---|---|---|---|---|"
    for figure in CHECKED:
        made, theirs = estimates(figure)
        value, low, high = ends(figure, made)
        _, their_low, their_high = ends(figure, theirs)
        verdict = "inside" if low <= figure.watt_hours <= high else "**outside**"
        prompt = "" if figure.prompt_tokens is None else f"{figure.prompt_tokens:,} prompt, "
        request = f"`{figure.model}`, {prompt}{figure.output_tokens:,} output ({figure.tokens_are})"
        their = f"{their_low:.2g}" if their_low == their_high else f"{their_low:.2g} to {their_high:.2g}"
        yield (
            f"| {figure.who} | {figure.what} | {request} | {figure.watt_hours:.2g} "
            f"| {value:.2g} ({low:.2g} to {high:.2g}) | {verdict} | {their} |"
        )


def fits() -> Iterator[str]:
    """Yield the table of the fits."""
    held = coefficients()
    names = {
        "active_billions": "active, 1e9",
        "weight_gigabytes": "weights, GB",
        "batch": "batch",
        "gpus": "GPUs",
        "kind": "B200",
        "inter_token_ms": "time between tokens, ms",
    }
    yield f"| fit | constant | {' | '.join(names.values())} | 90% of held-out families |"
    yield f"|---|---|{'---|' * len(names)}---|"
    for fit in held.fits.values():
        exponents = " | ".join(f"{fit.exponents[name]:.3f}" if name in fit.exponents else "" for name in names)
        interval = f"{exp(fit.low_log):.2f} to {exp(fit.high_log):.2f} times"
        yield f"| `{fit.name}` | {fit.constant:.3f} | {exponents} | {interval} |"


TABLES = {"checked": checked, "fits": fits}


def page(text: str) -> str:
    """Return the page with its tables written anew."""
    for name, table in TABLES.items():
        head, begin, rest = text.partition(f"<!-- {name}: begin -->\n")
        _, end, tail = rest.partition(f"<!-- {name}: end -->")
        if not begin or not end:
            raise SystemExit(f"{PAGE.name} has no place for the table {name}")
        made = "\n".join(table())
        text = f"{head}{begin}{made}\n{end}{tail}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
