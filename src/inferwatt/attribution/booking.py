"""A shared tick in whole microjoules: rounded so that its parts sum to it, and written to the accounts. Pure."""

import numpy as np

from inferwatt.attribution.accounts import Pool, Shares, TickEnergy, whole_tick
from inferwatt.attribution.slots import SlotTable
from inferwatt.attribution.split import apportion, apportion_few
from inferwatt.attribution.timeline import Tick


def book(slots: SlotTable, pool: Pool, slot_class: int, tick: Tick, shares: Shares) -> TickEnergy:
    """Round the shares to whole microjoules that sum to the tick, and write them to the requests' accounts."""
    if (only := shares.only_account) is not None:
        return whole_tick(tick, shares, only)
    result = _rounded(slots, slot_class, tick, shares)
    for name, pooled_uj in result.pooled.items():
        pool.add(slot_class, name, pooled_uj)
    return result


def _rounded(slots: SlotTable, slot_class: int, tick: Tick, shares: Shares) -> TickEnergy:
    scalars = shares.scalars()
    if not shares.has_rows:
        if sum(scalars) <= 0:
            scalars[-1] = 1.0
        return slots.booked(tick, shares, {}, apportion_few(tick.energy_uj, scalars))
    keys, fair, notes = shares.members()
    alive = slots.alive(keys)
    if not alive.all():
        shares.unattributed += float(fair[~alive].sum())
        keys, fair, notes = keys[alive], fair[alive], notes[:, alive]
        scalars = shares.scalars()
    total = float(fair.sum()) + sum(scalars)
    if total <= 0:
        total = scalars[-1] = 1.0
    whole_uj = apportion(tick.energy_uj, np.concatenate([fair, scalars]))
    notes *= tick.energy_uj / total
    return slots.book(slot_class, tick, shares, keys, notes, whole_uj)
