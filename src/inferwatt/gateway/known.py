"""What the last calls have used, by the id that their clients got; each tenant reads its own."""

from collections import OrderedDict
from typing import Any

from inferwatt.answering.figures import figure
from inferwatt.handle import RequestHandle

MOST_KNOWN = 4096


class Recent:
    """The newest calls, at most so many."""

    def __init__(self, most: int = MOST_KNOWN) -> None:
        self._most = most
        self._calls: OrderedDict[tuple[str, str], RequestHandle] = OrderedDict()

    def add(self, name: str, tenant: str, handle: RequestHandle) -> None:
        """Note a call; of two with one id the newer one is meant."""
        self._calls[tenant, name] = handle
        self._calls.move_to_end((tenant, name))
        if len(self._calls) > self._most:
            self._calls.popitem(last=False)

    def find(self, name: str, tenant: str, url: str) -> dict[str, Any] | None:
        """Return what is known now of a tenant's call; None where it has none of that id."""
        handle = self._calls.get((tenant, name))
        return None if handle is None else figure(name, handle.energy(), url=url)
