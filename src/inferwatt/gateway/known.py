"""What the last calls have used, by the id that their clients got; each tenant reads its own."""

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from inferwatt.answering.figures import figure, head
from inferwatt.answering.provisional import provisional
from inferwatt.answering.usage import NOTHING
from inferwatt.delivery import FINAL_WITHIN_NS
from inferwatt.handle import RequestHandle

MOST_KNOWN = 4096


class Recent:
    """The newest calls, at most so many."""

    def __init__(self, most: int = MOST_KNOWN) -> None:
        self._most = most
        self._calls: OrderedDict[tuple[str, str], RequestHandle | Mapping[str, Any]] = OrderedDict()

    def add(self, name: str, tenant: str, known: RequestHandle | Mapping[str, Any]) -> None:
        """Note a call, or what it was estimated to have taken; of two with one id the newer one is meant."""
        self._calls[tenant, name] = known
        self._calls.move_to_end((tenant, name))
        if len(self._calls) > self._most:
            self._calls.popitem(last=False)

    def find(self, name: str, tenant: str, url: str) -> Mapping[str, Any] | None:
        """Return what is known now of a tenant's call; None where it has none of that id."""
        known = self._calls.get((tenant, name))
        if not isinstance(known, RequestHandle):
            return known
        if _stays_unknown(known):
            return {**head(name, url=url), "final": True, "state": "unknown"}
        return figure(name, provisional(known.energy(), (), NOTHING), url=url)


def _stays_unknown(handle: RequestHandle) -> bool:
    """Whether nobody will ever say its joules: none were read, or its agent has not spoken of it for too long."""
    said = handle.last_energy
    if said is not None:
        return said.final and not said.parts
    return handle.end_ns is not None and handle.end_ns < time.monotonic_ns() - FINAL_WITHIN_NS
