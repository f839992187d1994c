"""Work that is told too late: the ticks that it belongs to are closed. Pure.

A closed tick never changes. What is still known of it by then is moved by a correction, an entry of its own without
energy: what it takes from accounts it gives to requests. It takes only what no request got: what the device used
beyond its idle power while nobody was known to work, what the server counted and no record explained, what a gap left
unattributed. What known work got stays its: where some was known, the late work has what the fitted model expects.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from inferwatt.attribution.accounts import Label, TickEnergy, joined
from inferwatt.attribution.engine import EngineState
from inferwatt.attribution.power import Power
from inferwatt.attribution.sharing import Sharing
from inferwatt.attribution.slots import SlotTable
from inferwatt.attribution.split import apportion, apportion_few
from inferwatt.attribution.timeline import Tick, TickKind

_KEPT_NS = 10_000_000_000
"""How long a closed tick may still be claimed from: as long as a slot rests."""


class History:
    """The newest closed ticks of one device of which something is left that late work may claim."""

    def __init__(self) -> None:
        self._ticks: deque[_Closed] = deque()

    def keep(self, tick: Tick, closed: TickEnergy, idle_watts: float | None) -> None:
        """Keep a tick, as its counter told it, where its energy went, and what idle power was supposed before it."""
        if closed.idle_resident or closed.unlisted or closed.idle_empty_uj or closed.unattributed_uj:
            self._ticks.append(_Closed(tick, closed, idle_watts, tick.elapsed_ns))
        while self._ticks and self._ticks[0].tick.t1_ns < tick.t1_ns - _KEPT_NS:
            self._ticks.popleft()

    def correct(
        self, slot_class: int, power: Power, engine: EngineState, sharing: Sharing, slots: SlotTable
    ) -> Iterator[TickEnergy]:
        """Move to an engine's late work what it used of each closed tick, and return what was moved."""
        name = engine.engine.engine
        for each in self._ticks:
            used = power.lag.used(each.tick)
            work = engine.late_work(used.t0_ns, used.t1_ns, used.window_ns)
            if work is None:
                continue
            power.idle.forget(each.idle_watts)
            priced = sharing.price(power, engine, work)
            idle_uj, unlisted_uj = each.claim(name, work.busy_ns, priced.known_uj)
            fair, notes = priced.shares(idle_uj + unlisted_uj)
            if fair.any():
                by_label = slots.correct(slot_class, priced.keys, notes, apportion(idle_uj + unlisted_uj, fair))
                yield each.move(name, idle_uj, unlisted_uj, by_label)


@dataclass(slots=True)
class _Closed:
    """A closed tick, and what is left of it."""

    tick: Tick
    energy: TickEnergy
    idle_watts: float | None
    gap_ns: int
    """How long no late work was in it."""

    def _idle_uj(self) -> list[int]:
        """Return what nobody's work used, by account: of a gap without readings, what is unattributed too."""
        in_gap_uj = self.energy.unattributed_uj if self.tick.kind is TickKind.BRIDGED else 0
        return [*self.energy.idle_resident.values(), self.energy.idle_empty_uj, in_gap_uj]

    def claim(self, engine: str, busy_ns: int, expected_uj: float) -> tuple[int, int]:
        """Return what late work used: of idle energy, and of what its server counted without a record, µJ."""
        most_uj = expected_uj if self.energy.requests else inf
        idle_uj = sum(self._idle_uj())
        rest_ns = max(self.gap_ns - busy_ns, 0)
        rest_uj = idle_uj * rest_ns / self.gap_ns if self.gap_ns else 0.0
        if self.idle_watts is not None:
            rest_uj = min(rest_uj, self.idle_watts * rest_ns / 1000)
        self.gap_ns = rest_ns
        unlisted_uj = int(min(sum(self.energy.unlisted.get(engine, (0, 0))), most_uj))
        return int(min(idle_uj - rest_uj, most_uj - unlisted_uj)), unlisted_uj

    def move(self, engine: str, idle_uj: int, unlisted_uj: int, by_label: dict[Label, tuple[int, int]]) -> TickEnergy:
        """Return the correction: what each account gives, and what requests get."""
        accounts = self._idle_uj()
        given = apportion_few(idle_uj, accounts) if idle_uj else [0] * len(accounts)
        moved = _correction(self.energy, engine, given, unlisted_uj, by_label)
        self.energy = joined((self.energy, moved))
        return moved


def _correction(
    closed: TickEnergy, engine: str, given: list[int], unlisted_uj: int, by_label: dict[Label, tuple[int, int]]
) -> TickEnergy:
    prefill_uj, decode_uj = apportion_few(unlisted_uj, closed.unlisted[engine]) if unlisted_uj else (0, 0)
    return TickEnergy(
        device=closed.device,
        t0_ns=closed.t0_ns,
        t1_ns=closed.t1_ns,
        energy_uj=0,
        requests=by_label,
        unlisted={engine: (-prefill_uj, -decode_uj)} if unlisted_uj else {},
        idle_resident={name: -uj for name, uj in zip(closed.idle_resident, given, strict=False) if uj},
        idle_empty_uj=-given[-2],
        other_uj=0,
        unattributed_uj=-given[-1],
    )
