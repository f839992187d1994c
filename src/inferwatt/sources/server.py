"""The whole server as one device: what its BMC (the controller on its board) says that all of it draws. Pure.

The figure contains what every other device uses; that is subtracted elsewhere, and what is left is called overhead.
"""

import math

from inferwatt.records import Component, Device, Provenance

SYSTEMATIC_RATIO = 0.05
"""What ENERGY STAR asks of certified servers: ±5% of the input power, from idle to full power, or ±10 W for each power
supply where that is more (Program Requirements for Computer Servers, Eligibility Criteria 3.0, "Standard Performance
Data Measurement and Output Requirements", Measurement Accuracy). Vendors of BMCs publish no bound of their own."""
MOST_WATTS = 100_000.0
"""No server that we know draws more: a larger figure is in another unit, or broken."""


class NoFigure(ValueError):
    """What was said is no figure of power: missing, zero, or none that can be."""


def server_device(source: str) -> Device:
    """Return the whole server as `source` reads it: a power, asked for now and then, so `sampled`."""
    return Device(
        "server",
        kind="whole server, by its BMC",
        domain="server",
        component=Component.OVERHEAD,
        provenance=Provenance.SAMPLED,
        systematic_ratio=SYSTEMATIC_RATIO,
        source=source,
    )


def power_mw(watts: object, *, least_watts: float = 0.001) -> int:
    """Return a power that was said in watts as milliwatts.

    Raises:
        NoFigure: it is not a number, or none that a running server can draw. A BMC says 0 when it cannot tell.
    """
    if watts is None:
        raise NoFigure("is null")
    if isinstance(watts, bool) or not isinstance(watts, int | float):
        raise NoFigure("is not a number")
    if not math.isfinite(watts) or not least_watts <= watts <= MOST_WATTS:
        raise NoFigure(f"is {watts:g} W, which cannot be")
    return round(watts * 1000)
