"""What open requests will have of energy that is not settled yet, by the fitted cost model. Pure.

A tick is closed late, when all that ran in it is known. Until then its steps are priced by the last fit, so that a
figure is there while a request runs. Nothing that is settled depends on it.
"""

from collections.abc import Iterable

import numpy as np

from inferwatt.attribution.accounts import NOTES, UNEXPLAINED
from inferwatt.attribution.arrays import Floats
from inferwatt.attribution.sharing import Sharing
from inferwatt.attribution.slots import Pending
from inferwatt.attribution.states import DeviceState


class Outlook:
    """The pending energy of all requests, computed once for each state of the records."""

    def __init__(self) -> None:
        self._seen: tuple[int, ...] = ()
        self._pending: Pending = {}

    def of(self, states: Iterable[DeviceState], sharing: Sharing) -> Pending:
        """Return what is pending."""
        states = [state for state in states if state.overhead is None]
        seen = tuple(each for state in states for each in (state.closed_ns, state.timeline.newest_ns))
        if seen != self._seen:
            self._seen, self._pending = seen, _pending(states, sharing)
        return self._pending


def _pending(states: Iterable[DeviceState], sharing: Sharing) -> Pending:
    found: dict[tuple[int, int], Floats] = {}
    for state in states:
        lag_ns = (state.power.lag.ns + state.power.lag.reach_ns) // 2
        span = state.closed_ns - lag_ns, state.timeline.newest_ns
        for keys, fair, notes in sharing.expect(state.device, *span):
            notes[UNEXPLAINED] **= 2
            for key, uj, each in zip(keys.tolist(), fair.tolist(), notes.T, strict=True):
                row = found.setdefault((state.slot_class, key >> 1), np.zeros(2 + NOTES))
                row[key & 1] += uj
                row[2:] += each
    return found
