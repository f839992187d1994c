"""What is owed to each producer: a message is acknowledged once all of its records are kept for good. Pure."""

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Producer:
    waiting: OrderedDict[int, int] = field(default_factory=OrderedDict)
    settled_seq: int = 0
    told_seq: int = 0


class Receipts:
    """Counts, for each producer, the records of each message that are not kept yet."""

    def __init__(self) -> None:
        self._producers: dict[str, _Producer] = {}
        self._owed: dict[str, list[tuple[str, int]]] = {}

    def came(self, producer: str, seq: int, request: str | None) -> None:
        """Note a record of message `seq`: kept once `request` is settled, or at once if None."""
        known = self._producers.setdefault(producer, _Producer())
        known.waiting.setdefault(seq, 0)
        if request is not None:
            known.waiting[seq] += 1
            self._owed.setdefault(request, []).append((producer, seq))

    def settled(self, request: str) -> None:
        """Note that a request is kept for good, or never will be."""
        for producer, seq in self._owed.pop(request, ()):
            waiting = self._producers[producer].waiting
            if seq in waiting:
                waiting[seq] -= 1

    def due(self) -> list[tuple[str, int]]:
        """Return, for each producer with news, the message up to which everything is kept."""
        due = []
        for producer, known in self._producers.items():
            while known.waiting:
                seq, count = next(iter(known.waiting.items()))
                if count > 0:
                    break
                known.waiting.popitem(last=False)
                known.settled_seq = max(known.settled_seq, seq)
            if known.settled_seq > known.told_seq:
                known.told_seq = known.settled_seq
                due.append((producer, known.settled_seq))
        return due

    def forget(self, producer: str) -> None:
        """Forget a producer that is gone for good."""
        self._producers.pop(producer, None)
        for request in [r for r, owed in self._owed.items() if owed and owed[0][0] == producer]:
            del self._owed[request]
