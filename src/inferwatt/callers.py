"""What clients, gateways and a server's middleware tell of requests that a plugin tells already. No I/O.

They meet by the names of a request: the answer's id, and the one that the client gave. A client's record stands for
all sequences of its call (n > 1 has several), and each sequence for one record of a producer at most: where a name is
used twice at once, for that which came last before it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from inferwatt.engines.session import Incoming
from inferwatt.receipts import Receipts
from inferwatt.records import TIER_RANK, Outcome, Request, RequestEnergy
from inferwatt.units import NS_PER_SECOND
from inferwatt.witnesses import Known

WITNESS_NS = 5 * NS_PER_SECOND
"""How long a client's record waits for the request that it speaks of: on a loaded machine its engine may be late."""
FAILED_NS = NS_PER_SECOND
"""The same of one that failed: its server may never have begun it."""


@dataclass(slots=True)
class _Call:
    """A client's newest record, the sequences that it stands for, and the joules of those that are settled."""

    said: Incoming
    names: set[str] = field(default_factory=set)
    settled: dict[str, RequestEnergy] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether the call goes on."""
        return self.said.request.end_ns is None

    @property
    def is_complete(self) -> bool:
        """Whether it has ended, and all its sequences are settled."""
        return not self.is_open and bool(self.names) and self.settled.keys() >= self.names

    def energy(self, energies: Iterable[RequestEnergy], *, final: bool) -> RequestEnergy:
        """Return the joules of its sequences together, under its own name."""
        return together(self.said.request.request, list(energies), final=final)


class Clients:
    """Joins clients' records with the requests of plugins.

    Args:
        receipts: what is owed to producers.
        dropped: called with each record of which no plugin knows the request.
        restart_ns: until when plugins may not have found this agent yet.
    """

    def __init__(self, receipts: Receipts, dropped: Callable[[Request], None], restart_ns: int = 0) -> None:
        self._restart_ns = restart_ns
        self._receipts = receipts
        self._dropped = dropped
        self._by_alias: dict[str, set[str]] = {}
        self._waiting: list[Incoming] = []
        self._again: list[str] = []
        self._calls: dict[str, _Call] = {}
        self._open_by_alias: dict[str, set[str]] = {}
        self._claims: dict[str, dict[str, str]] = {}
        """By sequence: the record that stands for it, by producer."""

    # What plugins know.

    def know(self, request: Request) -> None:
        """Note by which names a plugin's request may be spoken of; who speaks of it already is heard again."""
        for alias in _aliases(request):
            names = self._by_alias.setdefault(alias, set())
            if request.request not in names:
                names.add(request.request)
                self._again += self._open_by_alias.get(alias, ())

    def forget(self, request: Request) -> None:
        """Forget the names of a request that is handed over."""
        for alias in _aliases(request):
            _discard(self._by_alias, alias, request.request)

    # What clients say.

    def add(self, incoming: Incoming) -> None:
        """Take a client's record."""
        self._waiting.append(incoming)
        name, aliases = incoming.request.request, _aliases(incoming.request)
        if name in self._calls:
            self._calls[name].said = incoming
        elif aliases and incoming.request.end_ns is None:
            self._calls[name] = _Call(incoming)
        for alias in aliases if incoming.request.end_ns is None else ():
            self._open_by_alias.setdefault(alias, set()).add(name)

    def gone(self, producer: str) -> None:
        """Forget the open calls of a producer that will not come back."""
        for call in [one for one in self._calls.values() if one.said.producer == producer and one.is_open]:
            self._close(call.said)
            del self._calls[call.said.request.request]

    def hear(self, known: Mapping[str, Known], now_ns: int, *, all_of_them: bool) -> list[str]:
        """Let requests have what clients tell of them; return those to which it is news."""
        waiting, self._waiting = self._waiting, []
        again, self._again = dict.fromkeys(self._again), []
        changed = [name for one in again if one in self._calls for name in self._join(self._calls[one].said, known)]
        for incoming in waiting:
            changed += self._join(incoming, known)
            call = self._calls.get(incoming.request.request)
            if incoming.request.end_ns is None:
                self._receipts.done(incoming.producer, incoming.seq)
            elif call is not None and call.names:
                self._end(incoming, call)
            elif all_of_them or now_ns >= self._until_ns(incoming):
                self._calls.pop(incoming.request.request, None)
                self._close(incoming)
                self._receipts.done(incoming.producer, incoming.seq)
                if incoming.request.outcome != Outcome.FAILED:  # its server may never have begun it
                    self._dropped(incoming.request)
            else:
                self._waiting.append(incoming)
        return changed

    def _until_ns(self, incoming: Incoming) -> int:
        """Return how long an ended call waits for its sequences; one without a name will never find any."""
        most_ns = FAILED_NS if incoming.request.outcome is Outcome.FAILED else WITNESS_NS
        return max(incoming.received_ns + most_ns, self._restart_ns) if _aliases(incoming.request) else 0

    def _join(self, incoming: Incoming, known: Mapping[str, Known]) -> list[str]:
        """Give a record to the sequences that it stands for; return those to which it is news."""
        own = incoming.request.request
        names = set[str]().union(*(self._by_alias.get(alias, ()) for alias in _aliases(incoming.request)))
        mine = {name for name in names if self._claim(incoming, known[name].incoming.request) == own}
        if mine:
            self._calls.setdefault(own, _Call(incoming)).names |= mine
        return [name for name in sorted(mine) if known[name].hear(incoming.request)]

    def _claim(self, incoming: Incoming, request: Request) -> str:
        """Return which record of a producer stands for a sequence: it stays that one."""
        claims = self._claims.setdefault(request.request, {})
        if incoming.producer not in claims:
            rivals = {one for alias in _aliases(request) for one in self._open_by_alias.get(alias, ())}
            said = [self._calls[one].said for one in rivals - {incoming.request.request}]
            same = (incoming, *(one for one in said if one.producer == incoming.producer))
            best = max(same, key=lambda one: _nearness(one.request, request))
            claims[incoming.producer] = best.request.request
        return claims[incoming.producer]

    def _end(self, incoming: Incoming, call: _Call) -> None:
        """Take a call's end: its record is kept when the last of its sequences is."""
        self._close(incoming)
        unsettled = call.names - call.settled.keys()
        if unsettled:
            self._receipts.upon(incoming.producer, incoming.seq, max(unsettled))
        else:
            self._receipts.done(incoming.producer, incoming.seq)

    def _close(self, incoming: Incoming) -> None:
        for alias in _aliases(incoming.request):
            _discard(self._open_by_alias, alias, incoming.request.request)

    # What clients are told.

    def settled(self, energy: RequestEnergy) -> None:
        """Take a sequence's final joules, or that it has none."""
        for name in self._claims.pop(energy.request, {}).values():
            if name in self._calls:
                self._calls[name].settled[energy.request] = energy

    def finals(self) -> list[tuple[str, RequestEnergy]]:
        """Return the final joules of the calls that are complete now, by producer."""
        done = [call for call in self._calls.values() if call.is_complete]
        for call in done:
            del self._calls[call.said.request.request]
        return [(call.said.producer, call.energy(call.settled.values(), final=True)) for call in done]

    def watched(self, energy: Callable[[str], RequestEnergy | None]) -> list[tuple[str, RequestEnergy]]:
        """Return what is settled so far of the calls that are open, by producer; `energy` says it of a sequence."""
        told = []
        for call in self._calls.values():
            if call.is_open and call.names:
                known = [each for name in call.names if (each := call.settled.get(name) or energy(name)) is not None]
                if any(each.parts for each in known):
                    told.append((call.said.producer, call.energy(known, final=False)))
        return told


def together(name: str, energies: Sequence[RequestEnergy], *, final: bool) -> RequestEnergy:
    """Return the joules of several sequences, of which there is one at least, under the name of their call."""
    parts = tuple(part for each in energies for part in each.parts)
    tier = max((each.tier for each in energies), key=TIER_RANK.__getitem__)
    return RequestEnergy(name, parts, tier, final)


def _nearness(call: Request, request: Request) -> tuple[bool, int]:
    """Return how well a call fits a sequence's arrival: best the last one before it, else the first one after."""
    early_ns = request.arrival_ns - call.arrival_ns
    return early_ns >= 0, -abs(early_ns)


def _aliases(request: Request) -> set[str]:
    return {request.response_id, request.trace_id} - {""}


def _discard(index: dict[str, set[str]], key: str, name: str) -> None:
    names = index.get(key, set())
    names.discard(name)
    if not names:
        index.pop(key, None)
