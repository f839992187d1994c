"""What tokens cost lately: an empirical average of the last requests, for who has to answer before the final. Pure.

No model of the machine stands behind it. Its interval is that of order statistics: of n requests that are alike, the
next one lies between the k-th least and the k-th largest with a chance of (n + 1 - 2k) / (n + 1), whatever their
distribution (Wilks 1941, "Determination of sample sizes for setting tolerance limits", Ann. Math. Stat. 12:91). So it
takes 19 requests to say anything at 90%, and nothing is said before.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from inferwatt.records import Outcome, Provenance, Request, RequestEnergy, Tier

LEAST_REQUESTS = 19
MOST_REQUESTS = 256
RECENT_NS = 600_000_000_000
"""How long a request stands for what is to come."""
MAX_MODELS = 256


class Band(NamedTuple):
    """Microjoules per token: their average, and where 90% of the requests lie."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What tokens of one engine's model cost in its last `requests` requests.

    `computed` is per prompt token that was not cached, `prompt` per prompt token, cached ones included; `output` is per
    output token after a sequence's first, which comes with its prompt.
    """

    engine: str
    model: str
    requests: int
    tier: Tier
    provenance: Provenance
    systematic_ratio: float
    computed: Band | None = None
    prompt: Band | None = None
    output: Band | None = None


class Estimate(NamedTuple):
    """What a request will turn out to have used, µJ: prefill and decode, and the 90% interval of both together."""

    prefill_uj: int
    decode_uj: int
    low_uj: int
    high_uj: int


def estimate(rates: Rates, *, prompt: int, output: int, cached: int | None = None, answers: int = 1) -> Estimate | None:
    """Return what these tokens cost at these rates; None where a rate that it takes is not known.

    Args:
        rates: what tokens cost.
        prompt: tokens of the prompts of all sequences; that of several answers counts for each.
        output: tokens of all answers together.
        cached: tokens of the prompts that were not computed; None where that is not known.
        answers: how many sequences there are.
    """
    first = (rates.prompt, prompt) if cached is None else (rates.computed, prompt - cached)
    terms = (first, (rates.output, max(output - answers, 0)))
    bands = []
    for band, tokens in terms:
        if tokens and band is None:
            return None
        bands.append(Band(*(each * tokens for each in band)) if band is not None else Band(0.0, 0.0, 0.0))
    prefill, decode = bands
    low, high = int(prefill.low + decode.low), -int(-(prefill.high + decode.high) // 1)
    return Estimate(round(prefill.mean), round(decode.mean), low, high)


class _Cost(NamedTuple):
    """What one request used, µJ, and of how many tokens."""

    end_ns: int
    prefill_uj: int
    decode_uj: int
    computed: int
    prompt: int
    later_output: int


@dataclass(slots=True)
class _Model:
    """The last requests of one model; those of another tier or provenance begin it anew."""

    tier: Tier
    provenance: Provenance
    systematic_ratio: float = 0.0
    costs: deque[_Cost] = field(default_factory=lambda: deque(maxlen=MOST_REQUESTS))


class Recent:
    """The last requests of each model; `changed` gives the rates of those that had new ones."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], _Model] = {}
        self._changed: set[tuple[str, str]] = set()

    def add(self, request: Request, energy: RequestEnergy) -> None:
        """Take a final request that was answered; one without tokens, joules or an end says nothing."""
        provenance, output = energy.provenance, request.output_tokens
        if request.outcome is not Outcome.FINISHED or provenance is None or request.end_ns is None:
            return
        if not (request.prompt_tokens and output):
            return
        key = (request.engine, request.model)
        known = self._models.pop(key, None)
        if known is None or (known.tier, known.provenance) != (energy.tier, provenance):
            known = _Model(energy.tier, provenance)
        self._models[key] = known  # the newest is last
        if len(self._models) > MAX_MODELS:
            self._forget(next(iter(self._models)))
        prompt = request.prompt_tokens
        computed = prompt - (request.cached_tokens or 0) + (request.recomputed_tokens or 0)
        known.systematic_ratio = energy.systematic_ratio
        known.costs.append(
            _Cost(request.end_ns, energy.prefill_uj, energy.decode_uj, computed, prompt, max(output - 1, 0))
        )
        self._changed.add(key)

    def _forget(self, key: tuple[str, str]) -> None:
        del self._models[key]
        self._changed.discard(key)

    def changed(self) -> list[Rates]:
        """Return the rates of the models that had a request since the last call."""
        changed, self._changed = self._changed, set()
        return [rates for key in sorted(changed) for rates in self._rates(key)]

    def all(self) -> list[Rates]:
        """Return the rates of every model."""
        return [rates for key in self._models for rates in self._rates(key)]

    def _rates(self, key: tuple[str, str]) -> Iterator[Rates]:
        known = self._models[key]
        while known.costs[-1].end_ns - known.costs[0].end_ns > RECENT_NS:
            known.costs.popleft()
        costs = known.costs
        computed = _band((cost.prefill_uj, cost.computed) for cost in costs)
        prompt = _band((cost.prefill_uj, cost.prompt) for cost in costs)
        output = _band((cost.decode_uj, cost.later_output) for cost in costs)
        if prompt or output:
            ratio = known.systematic_ratio
            yield Rates(*key, len(costs), known.tier, known.provenance, ratio, computed, prompt, output)


def _band(costs: Iterable[tuple[int, int]]) -> Band | None:
    """Return the average of energies per token and the interval of 90%; None of too few requests."""
    known = [(uj, tokens) for uj, tokens in costs if tokens > 0]
    count = len(known)
    if count < LEAST_REQUESTS:
        return None
    each = sorted(uj / tokens for uj, tokens in known)
    rank = (count + 1) // 20  # the k of (n + 1 - 2k) / (n + 1) >= 0.9
    mean = sum(uj for uj, _ in known) / sum(tokens for _, tokens in known)
    return Band(min(each[rank - 1], mean), mean, max(each[-rank], mean))
