"""What is known of a call when its answer ends, before the final figure: nobody waits for that. Pure.

There are two sources: the part of the call's joules that is settled by then, and what its tokens cost lately on its
server. The larger of the two stands, since the first is only a part.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from inferwatt.answering.usage import Used
from inferwatt.rates import Estimate, Rates, estimate
from inferwatt.records import TIER_RANK, Provenance, RequestEnergy, Tier

SETTLED, RECENT = "settled_so_far", "recent_average"
_PROVENANCES = tuple(Provenance)
"""Best first."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a call has used as far as anybody knows, µJ; the bounds are those of the whole call, None: not known."""

    basis: str
    prefill_uj: int
    decode_uj: int
    low_uj: int
    high_uj: int | None
    tier: Tier
    provenance: Provenance
    systematic_ratio: float

    @property
    def energy_uj(self) -> int:
        """Prefill and decode together, µJ."""
        return self.prefill_uj + self.decode_uj


def provisional(
    settled: RequestEnergy | None, rates: Iterable[Rates], used: Used, *, answers: int = 1
) -> Known | RequestEnergy | None:
    """Return what is known of a call that ends now; None where that is nothing.

    Args:
        settled: the last that the agent has told of it.
        rates: what tokens cost lately on its server.
        used: its model, and the tokens of all its sequences together.
        answers: how many sequences there are.
    """
    if settled is not None and settled.final:
        return settled
    part = _part(settled)
    whole = _by_rates(rates, used, answers)
    if part is None or whole is None:
        return part or whole
    if part.energy_uj > whole.energy_uj:  # dearer than the average: at least so much
        is_above = whole.high_uj is not None and whole.high_uj > part.energy_uj
        return replace(part, high_uj=whole.high_uj if is_above else None)
    return replace(whole, low_uj=max(whole.low_uj, min(part.low_uj, whole.energy_uj)))


def _part(settled: RequestEnergy | None) -> Known | None:
    if settled is None or settled.provenance is None:
        return None
    quality = (settled.tier, settled.provenance, settled.systematic_ratio)
    return Known(SETTLED, settled.prefill_uj, settled.decode_uj, settled.low_uj, None, *quality)


def _by_rates(rates: Iterable[Rates], used: Used, answers: int) -> Known | None:
    """Return what the tokens cost at the rates of their model; of several engines any may have served them."""
    if used.prompt is None or used.output is None:
        return None
    known: list[tuple[Rates, Estimate]] = []
    for one in rates:
        if one.model == used.model:
            guess = estimate(one, prompt=used.prompt, output=used.output, cached=used.cached, answers=answers)
            known += [(one, guess)] if guess is not None else []
    if not known:
        return None
    guesses = [guess for _, guess in known]
    return Known(
        RECENT,
        sum(guess.prefill_uj for guess in guesses) // len(guesses),
        sum(guess.decode_uj for guess in guesses) // len(guesses),
        min(guess.low_uj for guess in guesses),
        max(guess.high_uj for guess in guesses),
        max((one.tier for one, _ in known), key=TIER_RANK.__getitem__),
        max((one.provenance for one, _ in known), key=_PROVENANCES.index),
        max(one.systematic_ratio for one, _ in known),
    )
