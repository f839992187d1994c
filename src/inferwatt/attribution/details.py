"""What a request's energy is made of, beside prefill and decode. Pure.

These figures rest on the fitted coefficients, where the energy itself rests on the counter. FLOPs and bytes are
collinear: take the parts as the model's account of a sum that is right.
"""

from typing import TypedDict

from inferwatt.attribution.accounts import CONTEXT, MARGINAL, RECOMPUTED, SHARED
from inferwatt.attribution.arrays import Floats
from inferwatt.attribution.lives import Life
from inferwatt.records import Request, Tier


class Details(TypedDict, total=False):
    """The optional fields of an `EnergyPart`; one that is not known is not there."""

    shared_uj: int
    context_uj: int
    recomputed_uj: int
    wasted_uj: int
    marginal_uj: int


def details(life: Life, decode_uj: int, notes: Floats) -> Details:
    """Return what is known of one part of a request's energy.

    Args:
        life: the request.
        decode_uj: its energy in decode, of this part.
        notes: shape (NOTES,), summed over its ticks.
    """
    found = Details()
    if life.tier is not Tier.TOKEN_SHARE:
        found["shared_uj"], found["context_uj"] = round(float(notes[SHARED])), round(float(notes[CONTEXT]))
        found["marginal_uj"] = round(float(notes[MARGINAL]))
    if life.stepped:
        found["recomputed_uj"] = round(float(notes[RECOMPUTED]))
    ratio = wasted_ratio(life.record)
    if ratio is not None:
        found["wasted_uj"] = round(decode_uj * ratio)
    return found


def wasted_ratio(request: Request) -> float | None:
    """Return which part of a request's decoded tokens was thrown away: rejected drafts, and what nobody got.

    None where its server does not say.
    """
    if request.wasted_tokens is None and request.rejected_tokens is None:
        return None
    lost = (request.wasted_tokens or 0) + (request.rejected_tokens or 0)
    decoded = max((request.output_tokens or 0) - 1, 0) + lost
    return lost / decoded if decoded else 0.0
