"""The server's overhead goes where the energy of its devices went, in the same time. Pure.

Nobody can see whom a fan cools. Since the overhead grows with what the devices draw, each request, model and account
gets of it what it got of them.
"""

from inferwatt.attribution.accounts import Shares, TickEnergy
from inferwatt.attribution.slots import SlotTable


class Overhead:
    """Adds up where the energy of the other devices went since the overhead was last shared."""

    def __init__(self, slot_class: int) -> None:
        self._slot_class = slot_class
        self._since = Shares()

    def note(self, tick: TickEnergy) -> None:
        """Take a closed tick of another device."""
        since = self._since
        since.idle_empty += tick.idle_empty_uj
        since.other += tick.other_uj
        since.unattributed += tick.unattributed_uj
        for engine, uj in tick.idle_resident.items():
            since.add_idle(uj, [engine])
        for engine, (prefill_uj, decode_uj) in tick.unlisted.items():
            whole_uj = prefill_uj + decode_uj
            since.add_unlisted(engine, whole_uj, prefill_uj / whole_uj if whole_uj else 0.0)
        for engine, uj in tick.pooled.items():
            since.pooled[engine] = since.pooled.get(engine, 0.0) + uj

    def shares(self, slots: SlotTable) -> Shares:
        """Return how the overhead since the last call is shared, in the devices' µJ, and begin anew."""
        shares, self._since = self._since, Shares()
        rows = slots.gained_beside(self._slot_class)
        if rows is not None:
            shares.add_rows(*rows)
        return shares
