"""What a managed API's electricity emits, as the user says it: nobody can tell from outside where it computes. Pure.

There is no default: without a figure of the user's own, with where it is from, no gram is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MOST_GRAMS_PER_KWH = 2500.0
"""No grid comes near; what is above it is in another unit."""
_JOULES_PER_KWH = 3.6e6
_GRAMS, _SOURCE = "INFERWATT_ESTIMATES__CARBON_GRAMS_PER_KWH", "INFERWATT_ESTIMATES__CARBON_SOURCE"


@dataclass(frozen=True, slots=True)
class Intensity:
    """Grams of CO2 equivalent for each kWh, and where that figure is from."""

    grams_per_kwh: float
    source: str

    def __post_init__(self) -> None:
        """Refuse what no grid's figure is.

        Raises:
            ValueError: it is out of range, or has no source.
        """
        if not 0 < self.grams_per_kwh <= MOST_GRAMS_PER_KWH:
            raise ValueError(
                f"carbon_grams_per_kwh is {self.grams_per_kwh}, must be above 0, at most {MOST_GRAMS_PER_KWH:g}"
            )
        if not self.source.strip():
            raise ValueError("carbon_source says nothing, must be where carbon_grams_per_kwh is from")

    @property
    def grams_per_joule(self) -> float:
        """The same, for each joule."""
        return self.grams_per_kwh / _JOULES_PER_KWH

    @property
    def text(self) -> str:
        """The figure and its source, as they stand beside what they make."""
        return f"{self.grams_per_kwh:g} g/kWh, {self.source}"

    def of(self, joules: float, low_joules: float, high_joules: float) -> dict[str, float | str]:
        """Return what an estimate emits, by name; its interval is the energy's, the figure itself taken as true."""
        return {
            "emissions_co2e_grams": joules * self.grams_per_joule,
            "emissions_low_co2e_grams": low_joules * self.grams_per_joule,
            "emissions_high_co2e_grams": high_joules * self.grams_per_joule,
            "emissions_source": self.text,
        }


def intensity(grams_per_kwh: float | None, source: str) -> Intensity | None:
    """Return what was said; None where nothing was.

    Raises:
        ValueError: it is out of range, or one is said without the other.
    """
    if grams_per_kwh is None and not source:
        return None
    if grams_per_kwh is None:
        raise ValueError("carbon_source is given without carbon_grams_per_kwh")
    return Intensity(grams_per_kwh, source)


def of_environment(environ: Mapping[str, str]) -> Intensity | None:
    """Return what the environment says, by the names of the agent's configuration.

    Raises:
        ValueError: it is no figure, or one is said without the other.
    """
    said = environ.get(_GRAMS, "")
    return intensity(float(said) if said else None, environ.get(_SOURCE, ""))
