"""What is owed to each producer: a message is acknowledged once all of its records are kept for good. Pure."""

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Producer:
    waiting: OrderedDict[int, int] = field(default_factory=OrderedDict)
    partial_seq: int = 0
    """A message of which more records are to come; 0 where none is."""
    is_gone: bool = False
    settled_seq: int = 0
    told_seq: int = 0


class Receipts:
    """Counts, for each producer, the records of each message that are not kept yet."""

    def __init__(self) -> None:
        self._producers: dict[str, _Producer] = {}
        self._owed: dict[str, list[tuple[str, int]]] = {}

    def came(self, producer: str, seq: int, *, is_last: bool = True) -> None:
        """Note a record of message `seq`: it is owed until `done`, or until what it waits `upon` is settled."""
        known = self._producers.setdefault(producer, _Producer())
        known.waiting[seq] = known.waiting.get(seq, 0) + 1
        known.partial_seq = 0 if is_last else seq
        known.is_gone = False

    def upon(self, producer: str, seq: int, request: str) -> None:
        """Say that a record of message `seq` is kept once `request` is settled."""
        self._owed.setdefault(request, []).append((producer, seq))

    def done(self, producer: str, seq: int) -> None:
        """Say that a record of message `seq` needs nothing more."""
        known = self._producers.get(producer)
        if known is not None and seq in known.waiting:
            known.waiting[seq] -= 1

    def settled(self, request: str) -> None:
        """Note that a request is kept for good, or never will be."""
        for producer, seq in self._owed.pop(request, ()):
            self.done(producer, seq)

    def due(self) -> list[tuple[str, int]]:
        """Return, for each producer with news, the message up to which everything is kept."""
        due = []
        for producer, known in list(self._producers.items()):
            while known.waiting:
                seq, count = next(iter(known.waiting.items()))
                if count > 0 or seq == known.partial_seq:
                    break
                known.waiting.popitem(last=False)
                known.settled_seq = max(known.settled_seq, seq)
            if known.settled_seq > known.told_seq:
                known.told_seq = known.settled_seq
                due.append((producer, known.settled_seq))
            if known.is_gone and not known.waiting:
                del self._producers[producer]
        return due

    def forget(self, producer: str) -> None:
        """Forget a producer that is gone, once nothing is owed to it any more: it may come back until then."""
        known = self._producers.get(producer)
        if known is not None:
            known.is_gone = True
            known.partial_seq = 0
