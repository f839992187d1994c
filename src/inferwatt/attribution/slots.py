"""The accounts of the requests that are not final: arrays by slot, one set for each kind of joule. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from inferwatt.attribution.accounts import NOTES, UNEXPLAINED, Label, Pool, Shares, TickEnergy
from inferwatt.attribution.arrays import Bools, Floats, Ints
from inferwatt.attribution.baselines import weights
from inferwatt.attribution.details import details
from inferwatt.attribution.intervals import half_width_uj
from inferwatt.attribution.lives import Life
from inferwatt.attribution.split import apportion
from inferwatt.attribution.timeline import Tick
from inferwatt.records import Component, EnergyPart, Provenance, Request, RequestEnergy, Rule, Tier

_REST_NS = 10_000_000_000
"""How long a slot rests after its request is settled: late steps may still speak of it."""


Pending = Mapping[tuple[int, int], Floats]
"""By accounts and slot, what a request will have of what is not settled yet: prefill and decode, µJ, and notes."""


class SlotTable:
    """The accounts of the requests that are not final: arrays by slot, one set for each (component, provenance)."""

    def __init__(self) -> None:
        self._lives: dict[str, Life] = {}
        self._alive = np.zeros(0, dtype=np.bool_)
        self._step_end_ns = np.zeros(0, dtype=np.int64)
        self._free: list[int] = []
        self._resting: deque[tuple[int, Life]] = deque()
        self._rested: dict[str, Life] = {}
        self._classes: list[tuple[Component, Provenance, float]] = []
        self._prefill = np.zeros((0, 0), dtype=np.int64)
        self._decode = np.zeros((0, 0), dtype=np.int64)
        self._notes = np.zeros((NOTES, 0, 0))
        self._touched = np.zeros((0, 0), dtype=np.bool_)
        self._beside = np.zeros((2 + NOTES, 0))
        self._reached = np.zeros(0)
        self._is_ruled = False
        self._corrected: set[int] = set()
        self._label_of = np.zeros(0, dtype=np.int64)
        self._labels: list[Label] = []
        self._codes: dict[Label, int] = {}

    def slot_class(self, component: Component, provenance: Provenance, systematic_ratio: float) -> int:
        """Return the number of the accounts for joules of this kind."""
        key = (component, provenance, systematic_ratio)
        if key not in self._classes:
            self._classes.append(key)
            self._resize(len(self._label_of))
        return self._classes.index(key)

    def lives(self) -> Iterable[Life]:
        """Return every request that has an account."""
        return self._lives.values()

    def life(self, request: str) -> Life | None:
        """Return the request's life, None where it has no account."""
        return self._lives.get(request)

    def rested(self, request: str) -> Life | None:
        """Return the life of a request that is settled, whose slot still rests."""
        return self._rested.get(request)

    def open(self, record: Request, tier: Tier) -> Life:
        """Open an account for a new request."""
        if not self._free:
            self._grow()
        life = Life(record, self._free.pop(), tier)
        self._lives[record.request] = life
        self._alive[life.slot] = True
        self.label(life)
        return life

    def label(self, life: Life) -> None:
        """Write down whose request it is."""
        label = (life.record.engine, life.record.model, life.record.tenant)
        code = self._codes.get(label)
        if code is None:
            code = self._codes[label] = len(self._labels)
            self._labels.append(label)
        self._label_of[life.slot] = code

    def _grow(self) -> None:
        before = len(self._label_of)
        size = max(2 * before, 64)
        self._resize(size)
        self._free.extend(range(size - 1, before - 1, -1))

    def _resize(self, size: int) -> None:
        shape = (len(self._classes), size)

        def grown(old: npt.NDArray[np.generic], shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
            new = np.zeros(shape, dtype=old.dtype)
            new[tuple(slice(0, n) for n in old.shape)] = old
            return new

        self._prefill = grown(self._prefill, shape)  # type: ignore[assignment]
        self._decode = grown(self._decode, shape)  # type: ignore[assignment]
        self._notes = grown(self._notes, (NOTES, *shape))  # type: ignore[assignment]
        self._touched = grown(self._touched, shape)  # type: ignore[assignment]
        self._beside = grown(self._beside, (len(self._beside), size))  # type: ignore[assignment]
        self._label_of = grown(self._label_of, (size,))  # type: ignore[assignment]
        self._alive = grown(self._alive, (size,))  # type: ignore[assignment]
        self._step_end_ns = grown(self._step_end_ns, (size,))  # type: ignore[assignment]
        self._reached = grown(self._reached, (size,))  # type: ignore[assignment]

    def book(
        self, slot_class: int, tick: Tick, shares: Shares, keys: Ints, notes: Floats, whole_uj: Ints
    ) -> TickEnergy:
        """Write a rounded tick to the requests' accounts, and return it.

        Args:
            slot_class: which accounts.
            tick: the tick.
            shares: what was rounded.
            keys: shape (n,), the requests' keys as `Shares.members` gave them.
            notes: shape (NOTES, n), what is noted beside each, µJ.
            whole_uj: shape (n + accounts,), the rounded shares: requests first, then `Shares.scalars`.
        """
        count = len(keys)
        by_label: dict[Label, tuple[int, int]] = {}
        if count:
            by_label = self._book_requests(slot_class, keys, notes, whole_uj[:count])
        return self.booked(tick, shares, by_label, whole_uj[count:].tolist())

    def booked(
        self, tick: Tick, shares: Shares, by_label: Mapping[Label, tuple[int, int]], scalars_uj: Sequence[int]
    ) -> TickEnergy:
        """Return a rounded tick: what requests got of it, and the accounts in the order of `Shares.scalars`."""
        rest = iter(scalars_uj)
        idle_resident = {name: next(rest) for name in shares.idle_resident}
        unlisted = {name: (next(rest), next(rest)) for name in shares.unlisted}
        pooled = {name: next(rest) for name in shares.pooled}
        return TickEnergy(
            device=tick.device,
            t0_ns=tick.t0_ns,
            t1_ns=tick.t1_ns,
            energy_uj=tick.energy_uj,
            requests=by_label,
            unlisted=unlisted,
            idle_resident=idle_resident,
            idle_empty_uj=next(rest),
            other_uj=next(rest),
            unattributed_uj=next(rest),
            pooled=pooled,
        )

    def correct(self, slot_class: int, keys: Ints, notes: Floats, whole_uj: Ints) -> dict[Label, tuple[int, int]]:
        """Write to the accounts of open requests, and of those that rest, what they used of ticks that are closed.

        Return what requests got, by whose they are: prefill and decode, µJ. Arguments are as those of `book`.
        """
        self._corrected.update((keys[~self.alive(keys)] >> 1).tolist())
        return self._book_requests(slot_class, keys, notes, whole_uj)

    def take_corrected(self) -> list[tuple[Request, RequestEnergy]]:
        """Return the settled requests that were corrected since the last call, and what they hold now."""
        slots, self._corrected = self._corrected, set()
        lives = [life for _, life in self._resting if life.slot in slots] if slots else []
        return [(life.record, self._energy(life, {}, final=True)) for life in lives]

    def _book_requests(self, slot_class: int, keys: Ints, notes: Floats, uj: Ints) -> dict[Label, tuple[int, int]]:
        slots, decode = keys >> 1, keys & 1
        table_uj = np.where(decode, 0, uj), np.where(decode, uj, 0)
        for table, each_uj in zip((self._prefill, self._decode), table_uj, strict=True):
            np.add.at(table[slot_class], slots, each_uj)
        self._touched[slot_class, slots] = True
        for number, each in enumerate(notes):
            np.add.at(self._notes[number, slot_class], slots, each**2 if number == UNEXPLAINED else each)
        codes = self._label_of[slots] * 2 + decode
        by_code = np.bincount(codes, minlength=2 * len(self._labels)).nonzero()[0] >> 1
        sums_uj = np.zeros(2 * len(self._labels), dtype=np.int64)
        np.add.at(sums_uj, codes, uj)
        return {
            self._labels[code]: (int(sums_uj[2 * code]), int(sums_uj[2 * code + 1]))
            for code in dict.fromkeys(by_code.tolist())
        }

    def gained_beside(self, slot_class: int) -> tuple[Ints, Floats, Floats] | None:
        """Return what each request got of the other kinds of joule since the last call, as `Shares.add_rows` takes it.

        None where no request got any.
        """
        others = np.arange(len(self._classes)) != slot_class
        tables = (self._prefill, self._decode, *self._notes)
        now = np.stack([table[others].sum(axis=0) for table in tables])
        gained, self._beside = now - self._beside, now
        slots = np.flatnonzero(gained[0] + gained[1])
        if len(slots) == 0:
            return None
        phases, notes = gained[:2, slots], gained[2:, slots]
        notes[UNEXPLAINED] = np.sqrt(np.maximum(notes[UNEXPLAINED], 0.0))
        each = phases / phases.sum(axis=0) * notes[:, None]
        return np.concatenate([slots * 2, slots * 2 + 1]), phases.ravel(), each.reshape(NOTES, -1)

    def divide(self, pool: Pool, engine: str, rule: Rule) -> None:
        """Divide what was pooled for an engine among its requests by a simple rule."""
        lives = [life for life in self._lives.values() if life.record.engine == engine]
        if not lives:
            return
        self._is_ruled = True
        by_rule = weights(rule, [life.record for life in lives])
        slots = np.array([life.slot for life in lives])
        for number in range(len(self._classes)):
            energy_uj = pool.energy_uj.pop((number, engine), 0)
            if energy_uj:
                shares_uj = apportion(energy_uj, by_rule.ravel()).reshape(-1, 2)
                self._prefill[number, slots] += shares_uj[:, 0]
                self._decode[number, slots] += shares_uj[:, 1]
                self._notes[UNEXPLAINED, number, slots] += shares_uj.sum(axis=1).astype(np.float64) ** 2
                self._touched[number, slots] = True

    def energy(self, request: str, pending: Pending) -> RequestEnergy | None:
        """Return what stands in an open request's accounts and what is pending; None where it has no account."""
        life = self._lives.get(request)
        return None if life is None else self._energy(life, pending, final=False)

    def _energy(self, life: Life, pending: Pending, *, final: bool) -> RequestEnergy:
        parts = []
        slot = life.slot
        for number, (component, provenance, systematic_ratio) in enumerate(self._classes):
            coming = pending.get((number, slot))
            if coming is None and not self._touched[number, slot]:
                continue
            prefill_uj, decode_uj = int(self._prefill[number, slot]), int(self._decode[number, slot])
            notes = self._notes[:, number, slot]
            if coming is not None:
                prefill_uj, decode_uj = prefill_uj + round(coming[0]), decode_uj + round(coming[1])
                notes = notes + coming[2:]
            total_uj = prefill_uj + decode_uj
            spread_uj = round(half_width_uj(life.tier, total_uj, notes))
            low_uj, high_uj = max(total_uj - spread_uj, 0), total_uj + spread_uj
            kind = component, provenance, prefill_uj, decode_uj, low_uj, high_uj, systematic_ratio
            parts.append(EnergyPart(*kind, **({} if self._is_ruled else details(life, decode_uj, notes))))
        return RequestEnergy(life.record.request, tuple(parts), life.tier, final)

    def note_step(self, slots: Ints, t1_ns: int, reached: Floats) -> Floats:
        """Note that these were members of a step that ended at `t1_ns`, and how many tokens each had in its cache then.

        Return how many it had had at most before: what is computed below that, is computed again.
        """
        self._step_end_ns[slots] = np.maximum(self._step_end_ns[slots], t1_ns)
        before: Floats = self._reached[slots]
        self._reached[slots] = np.maximum(before, reached)
        return before

    def last_step_end_ns(self, slot: int) -> int:
        """Return when the last step with this member ended; 0 without one."""
        return int(self._step_end_ns[slot])

    def alive(self, keys: Ints) -> Bools:
        """Return which of the keys still have an account: late work of a settled request has none."""
        result: Bools = self._alive[keys >> 1]
        return result

    def rest(self, now_ns: int) -> None:
        """Let slots be used again once nothing can speak of their last owner any more."""
        while self._resting and self._resting[0][0] + _REST_NS <= now_ns:
            life = self._resting.popleft()[1]
            if self._rested.get(life.record.request) is life:
                del self._rested[life.record.request]
            self._free.append(life.slot)
            for table in (self._prefill, self._decode, self._notes, self._touched, self._beside, self._reached):
                table[..., life.slot] = 0
            self._step_end_ns[life.slot] = 0

    def settle(self, life: Life, now_ns: int) -> RequestEnergy:
        """Close a request's accounts for good and return what they held."""
        energy = self._energy(life, {}, final=True)
        del self._lives[life.record.request]
        self._alive[life.slot] = False
        self._resting.append((now_ns, life))
        self._rested[life.record.request] = life
        return energy
