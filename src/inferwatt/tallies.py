"""What a view adds up: joules with their two bounds, joules by account, and counts of work. Pure."""

from dataclasses import dataclass
from math import sqrt

from inferwatt.attribution.accounts import TickEnergy
from inferwatt.attribution.split import apportion_few
from inferwatt.export.catalog import CATALOG, IDLE_EMPTY, IDLE_RESIDENT, OTHER, UNATTRIBUTED, UNLISTED, Kind
from inferwatt.records import EnergyPart, Request
from inferwatt.snapshot import AccountView, Labels
from inferwatt.units import joules


@dataclass(slots=True)
class EnergySum:
    """Energy of one kind, with its two bounds: squares of the split's half-widths, and the sensor's, linear."""

    energy_uj: int = 0
    prefill_uj: int = 0
    decode_uj: int = 0
    idle_uj: int = 0
    unlisted_uj: int = 0
    settled_uj: int = 0
    """Of ended requests: their tokens are known, those of open ones are not."""
    systematic_uj: float = 0.0
    split_uj2: float = 0.0

    @property
    def active_uj(self) -> int:
        """What work used, listed or not, µJ."""
        return self.prefill_uj + self.decode_uj + self.unlisted_uj

    def systematic_ratio(self) -> float:
        """Return the sensors' 90% bound as a ratio of the energy: it adds up linearly."""
        return self.systematic_uj / self.energy_uj if self.energy_uj else 0.0

    def bounds(self, uj: float) -> tuple[float, float]:
        """Return the joules between which `uj` of this kind lies (90%), both uncertainties together."""
        split_uj = sqrt(self.split_uj2)
        systematic = self.systematic_ratio()
        return joules(max(uj - split_uj, 0) * (1 - systematic)), joules((uj + split_uj) * (1 + systematic))


@dataclass(slots=True)
class AccountSum:
    """Where the joules of one provenance went, µJ."""

    prefill_uj: int = 0
    decode_uj: int = 0
    unlisted_uj: int = 0
    idle_uj: int = 0
    other_uj: int = 0
    unattributed_uj: int = 0

    def add(self, tick: TickEnergy) -> None:
        """Add one closed tick."""
        for prefill, decode in tick.requests.values():
            self.prefill_uj += prefill
            self.decode_uj += decode
        if tick.unlisted:
            self.unlisted_uj += sum(prefill + decode for prefill, decode in tick.unlisted.values())
        self.idle_uj += tick.idle_empty_uj + sum(tick.idle_resident.values())
        self.other_uj += tick.other_uj
        self.unattributed_uj += tick.unattributed_uj

    def view(self, provenance: str) -> AccountView:
        """Return the accounts as they are shown."""
        return AccountView(
            provenance,
            joules(self.prefill_uj),
            joules(self.decode_uj),
            joules(self.unlisted_uj),
            joules(self.idle_uj),
            joules(self.other_uj),
            joules(self.unattributed_uj),
        )


@dataclass(slots=True)
class WorkCount:
    """Tokens and requests."""

    prompt: int = 0
    cached: int = 0
    output: int = 0
    requests: int = 0


def at_zero() -> dict[str, dict[Labels, float]]:
    """Return the counters of ours that have no labels: Prometheus sees no increase in one that appears at 1."""
    ours = (
        metric for metric in CATALOG.values() if metric.kind is Kind.COUNTER and metric.name.startswith("inferwatt")
    )
    return {metric.name: {(): 0} for metric in ours if not metric.labels}


def accounts_of(tick: TickEnergy) -> list[tuple[str, str, int]]:
    """Return a tick's accounts that are not requests: phase, engine (or none), µJ."""
    return [
        *((UNLISTED, engine, prefill + decode) for engine, (prefill, decode) in tick.unlisted.items()),
        *((IDLE_RESIDENT, engine, uj) for engine, uj in tick.idle_resident.items()),
        (IDLE_EMPTY, "", tick.idle_empty_uj),
        (OTHER, "", tick.other_uj),
        (UNATTRIBUTED, "", tick.unattributed_uj),
    ]


def wasted_by_reason(request: Request, part: EnergyPart) -> dict[str, int]:
    """Return a part's energy of tokens that nobody got, µJ by reason: what each token cost is not told apart."""
    tokens = request.thrown_away
    if not (part.wasted_uj and tokens):
        return {}
    return dict(zip(tokens, apportion_few(part.wasted_uj, list(tokens.values())), strict=True))
