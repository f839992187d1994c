"""Loads: how many requests come, when, and how large they are; a table as data, and the drawing of it. Pure."""

from dataclasses import dataclass, replace

import numpy as np

from inferwatt.simulate.costs import Floats
from inferwatt.simulate.sequence import SECOND_NS, Wish
from inferwatt.simulate.shapley import Ints

_PART = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
"""Where quantiles are given."""
_CACHE_BLOCK_TOKENS = 16
"""Prefixes are cached in whole blocks of so many tokens (vLLM's default)."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Numbers of tokens: log-normal by median and sigma, within bounds; or, where given, by quantiles (at `_PART`)."""

    median: float = 0.0
    sigma: float = 0.0
    low: int = 1
    high: int = 8192
    quantiles: tuple[float, ...] = ()

    def draw(self, count: int, rng: np.random.Generator) -> Ints:
        """Return `count` lengths."""
        if self.quantiles:
            drawn = np.interp(rng.random(count), _PART, self.quantiles)
        else:
            drawn = self.median * np.exp(self.sigma * rng.normal(size=count))
        lengths: Ints = np.clip(np.rint(drawn), self.low, self.high).astype(np.int64)
        return lengths


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request; `prefixes` is how many different beginnings its prompts have, each `prefix` long.

    Of `impatient_ratio` of them the client leaves, after `patience_seconds` on average.
    """

    prompt: Lengths
    output: Lengths
    weight: float = 1.0
    tenant: str = ""
    prefixes: int = 0
    prefix: Lengths = Lengths(2000, 0.5, 256, 6000)
    impatient_ratio: float = 0.0
    patience_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to come: kinds by weight, at a mean rate.

    With `burst_seconds` they come in bursts of that length at `burst_ratio` times the rate, and not between. `spread`
    is the coefficient of variation of the time between arrivals (1: Poisson).
    """

    kinds: tuple[Kind, ...]
    rate_per_second: float
    requests: int = 300
    burst_seconds: float = 0.0
    burst_ratio: float = 4.0
    spread: float = 1.0
    about: str = ""


_CHAT = Kind(Lengths(200, 0.8, 8, 4096), Lengths(200, 0.6, 8, 1024))
# The Azure LLM inference trace of conversations, 2023 (Azure/AzurePublicDataset, AzureLLMInferenceTrace_conv.csv,
# 19,366 requests): these are its quantiles; arrivals are gamma with its coefficient of variation, 1.1. Prompt and
# output are drawn apart: the correlation of their logarithms is 0.09 there.
_AZURE = Kind(
    Lengths(high=14050, quantiles=(1, 29, 181, 207, 396, 1020, 1189, 2734, 4083, 4142, 14050)),
    Lengths(high=1000, quantiles=(1, 16, 41, 54, 85, 129, 395, 424, 451, 601, 1000)),
)

LOADS = {
    "chat": Load((_CHAT,), 8.0, about="short prompts and answers"),
    "light": Load((_CHAT,), 2.0, 120, about="chat at a quarter of the rate"),
    "mixed": Load((Kind(Lengths(500, 1.2, 8, 8192), Lengths(150, 1.0, 4, 2048)),), 8.0, about="log-normal, wide"),
    "mixed_light": Load(
        (Kind(Lengths(500, 1.2, 8, 8192), Lengths(150, 1.0, 4, 2048)),),
        2.0,
        120,
        about="mixed at a quarter of the rate",
    ),
    "long": Load(
        (
            Kind(Lengths(6000, 0.3, 2000, 12000), Lengths(40, 0.5, 4, 200), 0.5),
            Kind(Lengths(150, 0.6, 8, 1000), Lengths(600, 0.4, 100, 1500), 0.5),
        ),
        6.0,
        about="long prompts with short answers beside short prompts with long answers",
    ),
    "bursty": Load((_CHAT,), 5.0, burst_seconds=2.0, about="chat: 20 a second for 2 s, then nothing for 6 s"),
    "prefixes": Load(
        (Kind(Lengths(150, 0.7, 8, 2000), Lengths(150, 0.6, 8, 800), prefixes=6),),
        8.0,
        about="six long system prompts, read from the cache after their first use",
    ),
    "tenants": Load(
        (
            Kind(Lengths(120, 0.6, 8, 1000), Lengths(250, 0.5, 8, 1000), 3.0, "chatty"),
            Kind(Lengths(4000, 0.4, 500, 12000), Lengths(60, 0.5, 8, 300), 1.0, "reader"),
        ),
        7.0,
        about="two tenants: one chats, one has documents read",
    ),
    "crowd": Load((_CHAT,), 25.0, 600, about="chat at three times the rate"),
    "leavers": Load(
        (Kind(Lengths(500, 1.2, 8, 8192), Lengths(150, 1.0, 4, 2048), impatient_ratio=0.4),),
        8.0,
        about="mixed, and of two in five the client leaves",
    ),
    "azure": Load((_AZURE,), 6.0, spread=1.1, about="sizes and arrivals of a public trace of conversations"),
}
"""The loads by name."""


def draw(load: Load, rng: np.random.Generator, start_ns: int) -> list[Wish]:
    """Return the requests of a load, in order of arrival."""
    arrivals = _arrivals(load, rng)
    weights = np.array([kind.weight for kind in load.kinds])
    chosen = rng.choice(len(load.kinds), size=load.requests, p=weights / weights.sum())
    rows = [_sizes(kind, load.requests, rng) for kind in load.kinds]
    seen: set[tuple[int, int]] = set()
    wishes = []
    for number, (moment, index) in enumerate(zip(arrivals.tolist(), chosen.tolist(), strict=True)):
        prompt, output, prefix, group = (int(column[number]) for column in rows[index])
        cached = prefix if group and (index, group) in seen else 0
        seen.add((index, group))
        kind, arrival_ns = load.kinds[index], start_ns + round(moment * SECOND_NS)
        wishes.append(Wish(arrival_ns, prefix + prompt, output, cached, kind.tenant, _patience_ns(kind, rng)))
    return wishes


def _patience_ns(kind: Kind, rng: np.random.Generator) -> int | None:
    """Return how long a client waits; None: to the end."""
    if not kind.impatient_ratio or rng.random() >= kind.impatient_ratio:
        return None
    return round(rng.exponential(kind.patience_seconds) * SECOND_NS)


def as_traced(load: Load, sizes: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    """Return rows of a trace (seconds, prompt, output) sped up or slowed down to the load's mean rate."""
    span = sizes[-1][0] - sizes[0][0]
    ratio = (len(sizes) - 1) / load.rate_per_second / span if span > 0 else 1.0
    return [((moment - sizes[0][0]) * ratio, prompt, output) for moment, prompt, output in sizes]


def traced(load: Load, sizes: list[tuple[float, int, int]], rng: np.random.Generator, start_ns: int) -> list[Wish]:
    """Return as many requests of a trace as the load has, from a place that is drawn, in order of arrival."""
    first = int(rng.integers(0, max(1, len(sizes) - load.requests)))
    rows = as_traced(load, sizes[first : first + load.requests])
    return [Wish(start_ns + round(t * SECOND_NS), max(1, prompt), max(1, output)) for t, prompt, output in rows]


def shortened(load: Load, requests: int) -> Load:
    """Return the load with at most so many requests."""
    return replace(load, requests=min(load.requests, requests))


def _arrivals(load: Load, rng: np.random.Generator) -> Floats:
    shape = 1.0 / load.spread**2
    between = rng.gamma(shape, 1.0 / (shape * load.rate_per_second), load.requests)
    moments: Floats = np.cumsum(between)
    if load.burst_seconds:
        active = moments / load.burst_ratio
        pause = load.burst_seconds * (load.burst_ratio - 1.0)
        moments = active + np.floor(active / load.burst_seconds) * pause
    return moments


def _sizes(kind: Kind, count: int, rng: np.random.Generator) -> tuple[Ints, Ints, Ints, Ints]:
    """Return prompts, outputs, shared prefixes' lengths and which prefix (0: none) of so many requests."""
    prompt, output = kind.prompt.draw(count, rng), kind.output.draw(count, rng)
    if not kind.prefixes:
        nothing = np.zeros(count, dtype=np.int64)
        return prompt, output, nothing, nothing
    lengths = kind.prefix.draw(kind.prefixes, rng) // _CACHE_BLOCK_TOKENS * _CACHE_BLOCK_TOKENS
    group = rng.integers(0, kind.prefixes, count)
    return prompt, output, lengths[group], group + 1
