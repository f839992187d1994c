"""How unsure a request's share is: the half-width of its 90% interval, from what was unsure in each tick. Pure.

Three things are unsure. The coefficients of the cost model: their changes by one standard deviation add up over a
request's life with their sign, since the same model is wrong all the time. What of a tick no work explains: whose it
was is anew unsure in each. And, where steps are not known, what the work was: a part of the energy. How much each
counts is set by tier, by maximum likelihood on the tuning loads of benchmarks/accuracy.py (120 requests of each, every
load alike), then all together so that nine of ten intervals hold the truth; it is checked on the reporting loads.
"""

import math
from dataclasses import dataclass

from inferwatt.attribution.accounts import DIRECTIONS, UNEXPLAINED
from inferwatt.attribution.arrays import Floats
from inferwatt.records import Tier


@dataclass(frozen=True, slots=True)
class _Width:
    """What counts how much: factors on each cause, which are then added as squares."""

    coefficients: float
    unexplained: float
    energy: float


_WIDTHS = {
    Tier.STEP_EXACT: _Width(1.84, 1.29, 0.0043),
    Tier.STEP_RECONSTRUCTED: _Width(4.17, 4.5, 0.0147),
    Tier.REQUEST_SPAN: _Width(12.8, 2.77, 0.042),
    Tier.TOKEN_SHARE: _Width(0.0, 0.0, 0.407),
}


def half_width_uj(tier: Tier, energy_uj: int, notes: Floats) -> float:
    """Return the half-width of the 90% interval of a request's share, µJ.

    Args:
        tier: how its work is known.
        energy_uj: its share.
        notes: shape (NOTES,), summed over its ticks (accounts.py).
    """
    width = _WIDTHS[tier]
    variance_uj2 = (
        width.coefficients**2 * float((notes[:DIRECTIONS] ** 2).sum())
        + width.unexplained**2 * float(notes[UNEXPLAINED])
        + (width.energy * energy_uj) ** 2
    )
    return math.sqrt(variance_uj2)
