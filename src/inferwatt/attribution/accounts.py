"""Where shares are written: a tick's, a request's and a device's accounts, in whole microjoules. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from inferwatt.attribution.arrays import Floats, Ints
from inferwatt.attribution.timeline import Tick

K = TypeVar("K")
S = TypeVar("S", bound=np.generic)
_WORTH_MERGING = 2
DIRECTIONS = 4
"""Independent directions in which the cost model's coefficients may be wrong."""
UNEXPLAINED, SHARED, CONTEXT, RECOMPUTED, MARGINAL = range(DIRECTIONS, DIRECTIONS + 5)
NOTES = MARGINAL + 1
"""Rows of what is noted beside each share, µJ: what it changes in each of those directions (signed: over time they add
up as the share does), what of it no work explains (independent from tick to tick: a standard deviation in a tick,
summed as squares), the parts of it that all members share, that its context costs and that was computed before, and
what the tick would have been less without it."""

Label = tuple[str, str, str]
"""Engine, model and tenant of a request."""


@dataclass(frozen=True, slots=True)
class TickEnergy:
    """One closed tick: who used how many microjoules of it. The parts sum to `energy_uj` exactly."""

    device: str
    t0_ns: int
    t1_ns: int
    energy_uj: int
    requests: Mapping[Label, tuple[int, int]]
    """Prefill and decode, µJ, of the requests with this label."""
    unlisted: Mapping[str, tuple[int, int]]
    """Prefill and decode, µJ, of work that a server counted and no record explains, by engine."""
    idle_resident: Mapping[str, int]
    idle_empty_uj: int
    other_uj: int
    unattributed_uj: int
    pooled: Mapping[str, int] = field(default_factory=dict)
    """Energy of requests, by engine, that a simple rule will divide at the end of the window, µJ."""


@dataclass(slots=True)
class Pool:
    """What a simple rule has to divide: µJ by kind of joule and engine."""

    energy_uj: dict[tuple[int, str], int] = field(default_factory=dict)

    def add(self, slot_class: int, engine: str, energy_uj: int) -> None:
        """Add energy to what will be divided among the engine's requests."""
        key = (slot_class, engine)
        self.energy_uj[key] = self.energy_uj.get(key, 0) + energy_uj


@dataclass(slots=True)
class DeviceTotals:
    """What a device used since the beginning, µJ, by account."""

    measured_uj: int = 0
    requests_uj: int = 0
    unlisted_uj: int = 0
    idle_resident_uj: int = 0
    idle_empty_uj: int = 0
    other_uj: int = 0
    unattributed_uj: int = 0

    def add(self, tick: TickEnergy) -> None:
        """Add one closed tick."""
        self.measured_uj += tick.energy_uj
        if tick.requests or tick.pooled:
            self.requests_uj += sum(prefill + decode for prefill, decode in tick.requests.values())
            self.requests_uj += sum(tick.pooled.values())
        if tick.unlisted:
            self.unlisted_uj += sum(prefill + decode for prefill, decode in tick.unlisted.values())
        self.idle_resident_uj += sum(tick.idle_resident.values())
        self.idle_empty_uj += tick.idle_empty_uj
        self.other_uj += tick.other_uj
        self.unattributed_uj += tick.unattributed_uj

    def accounts(self) -> dict[str, int]:
        """Return each account in µJ; `measured` is the sum of the others."""
        return {
            "measured": self.measured_uj,
            "requests": self.requests_uj,
            "unlisted": self.unlisted_uj,
            "idle_resident": self.idle_resident_uj,
            "idle_empty": self.idle_empty_uj,
            "other": self.other_uj,
            "unattributed": self.unattributed_uj,
        }


@dataclass(slots=True)
class Shares:
    """Who used a tick, in µJ as floats, before rounding."""

    idle_resident: dict[str, float] = field(default_factory=dict)
    idle_empty: float = 0.0
    other: float = 0.0
    unattributed: float = 0.0
    unlisted: dict[str, list[float]] = field(default_factory=dict)
    pooled: dict[str, float] = field(default_factory=dict)
    _keys: list[Ints] = field(default_factory=list)
    _fair: list[Floats] = field(default_factory=list)
    _notes: list[Floats] = field(default_factory=list)

    def add_idle(self, energy_uj: float, resident: Sequence[str]) -> None:
        """Give idle energy to the models that are loaded, in equal parts, or to nobody."""
        if energy_uj <= 0:
            return
        if not resident:
            self.idle_empty += energy_uj
        for name in resident:
            self.idle_resident[name] = self.idle_resident.get(name, 0.0) + energy_uj / len(resident)

    def add_unlisted(self, engine: str, energy_uj: float, prefill_ratio: float) -> None:
        """Give energy to work that a server counted and no record explains."""
        if energy_uj <= 0:
            return
        parts = self.unlisted.setdefault(engine, [0.0, 0.0])
        parts[0] += energy_uj * prefill_ratio
        parts[1] += energy_uj * (1 - prefill_ratio)

    def add_rows(self, keys: Ints, fair: Floats, notes: Floats) -> None:
        """Give energy to requests, and note how unsure it is and what it is made of.

        Args:
            keys: shape (n,), each once: `slot * 2`, and one more for decode.
            fair: shape (n,), µJ.
            notes: shape (NOTES, n), µJ.
        """
        self._keys.append(keys)
        self._fair.append(fair)
        self._notes.append(notes)

    @property
    def has_rows(self) -> bool:
        """Whether any request has a part."""
        return bool(self._keys)

    @property
    def only_account(self) -> str | None:
        """The one account that holds everything, where there is just one and no request."""
        if self._keys or self.unlisted or self.pooled:
            return None
        if len(self.idle_resident) == 1 and not (self.idle_empty or self.other or self.unattributed):
            return "idle_resident"
        single = [name for name in ("idle_empty", "other", "unattributed") if getattr(self, name) > 0]
        return single[0] if len(single) == 1 and not self.idle_resident else None

    def members(self) -> tuple[Ints, Floats, Floats]:
        """Return the requests' rows together: keys, energy and notes, as `add_rows` takes them."""
        if not self._keys:
            return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((NOTES, 0))
        return _joined(self._keys), _joined(self._fair), _joined(self._notes)

    def scalars(self) -> list[float]:
        """Return every account that is not a request, in the order in which `SlotTable.book` reads them."""
        return [
            *self.idle_resident.values(),
            *(value for parts in self.unlisted.values() for value in parts),
            *self.pooled.values(),
            self.idle_empty,
            self.other,
            self.unattributed,
        ]


def _joined(parts: list[npt.NDArray[S]]) -> npt.NDArray[S]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def whole_tick(tick: Tick, shares: Shares, account: str) -> TickEnergy:
    """Return a tick that belongs to one account alone: the common case while nothing runs."""
    uj = tick.energy_uj
    return TickEnergy(
        device=tick.device,
        t0_ns=tick.t0_ns,
        t1_ns=tick.t1_ns,
        energy_uj=uj,
        requests={},
        unlisted={},
        idle_resident=dict.fromkeys(shares.idle_resident, uj),
        idle_empty_uj=uj if account == "idle_empty" else 0,
        other_uj=uj if account == "other" else 0,
        unattributed_uj=uj if account == "unattributed" else 0,
    )


def merged(ticks: Sequence[TickEnergy]) -> list[TickEnergy]:
    """Return one tick for each device in place of its ticks: what is added up next costs less for it."""
    if len(ticks) < _WORTH_MERGING:
        return list(ticks)
    by_device: dict[str, list[TickEnergy]] = {}
    for tick in ticks:
        by_device.setdefault(tick.device, []).append(tick)
    return [joined(same) for same in by_device.values()]


def joined(ticks: Sequence[TickEnergy]) -> TickEnergy:
    """Return ticks of one device, in the order of time, as one."""
    return TickEnergy(
        device=ticks[0].device,
        t0_ns=ticks[0].t0_ns,
        t1_ns=ticks[-1].t1_ns,
        energy_uj=sum(tick.energy_uj for tick in ticks),
        requests=_added(tick.requests for tick in ticks),
        unlisted=_added(tick.unlisted for tick in ticks),
        idle_resident=_sums(tick.idle_resident for tick in ticks),
        idle_empty_uj=sum(tick.idle_empty_uj for tick in ticks),
        other_uj=sum(tick.other_uj for tick in ticks),
        unattributed_uj=sum(tick.unattributed_uj for tick in ticks),
        pooled=_sums(tick.pooled for tick in ticks),
    )


def _sums(maps: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in maps:
        for key, uj in each.items():
            total[key] = total.get(key, 0) + uj
    return total


def _added(maps: Iterable[Mapping[K, tuple[int, int]]]) -> dict[K, tuple[int, int]]:
    total: dict[K, tuple[int, int]] = {}
    for each in maps:
        for key, (prefill_uj, decode_uj) in each.items():
            before = total.get(key, (0, 0))
            total[key] = (before[0] + prefill_uj, before[1] + decode_uj)
    return total
