"""What a producer has said and not yet heard back about: numbered frames in a bounded ring. No socket, no thread.

A frame leaves the ring when the agent acknowledges it. After a lost connection everything in it is said again, under
the same numbers, so that an agent that had it already takes it in once.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from inferwatt import wire
from inferwatt.errors import RecordRejected
from inferwatt.records import Request

MAX_BYTES = 16 << 20
RECORDS_PER_FRAME = 256


class _Frame(NamedTuple):
    seq: int
    records: int
    data: bytes


class Outbox:
    """Frames to be sent and frames to be acknowledged; over `max_bytes` the oldest are dropped and counted."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.dropped_records = 0
        self.held_bytes = 0
        self._max_bytes = max_bytes
        self._last_seq = 0
        self._unsent: deque[_Frame] = deque()
        self._sent: deque[_Frame] = deque()

    @property
    def has_unsent(self) -> bool:
        """Whether something has not been given to the connection yet."""
        return bool(self._unsent)

    @property
    def is_empty(self) -> bool:
        """Whether everything was acknowledged (or dropped)."""
        return not self._unsent and not self._sent

    def add(self, requests: Sequence[Request]) -> None:
        """Put states of requests into numbered frames; what cannot be written is dropped and counted."""
        for start in range(0, len(requests), RECORDS_PER_FRAME):
            self._add([wire.request_to_wire(one) for one in requests[start : start + RECORDS_PER_FRAME]])

    def put(self, records: int, encode: Callable[[int], bytes]) -> None:
        """Put one message of `records` records into a numbered frame: `encode` makes it of its number.

        What cannot be written (RecordRejected) is dropped and counted.
        """
        try:
            self._hold(records, encode(self._last_seq + 1))
        except RecordRejected:
            self.dropped_records += records

    def next_frame(self) -> bytes | None:
        """Return the next frame to send, and hold it until it is acknowledged."""
        if not self._unsent:
            return None
        frame = self._unsent.popleft()
        self._sent.append(frame)
        return frame.data

    def again(self) -> None:
        """The connection was lost: say everything that was not acknowledged again, in the same order."""
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()

    def acked(self, seq: int) -> None:
        """Everything up to `seq` is kept by the agent for good."""
        for held in (self._sent, self._unsent):
            while held and held[0].seq <= seq:
                self.held_bytes -= len(held.popleft().data)

    def _add(self, rows: list[wire.Message]) -> None:
        try:
            data = wire.encode(wire.records_message(self._last_seq + 1, rows))
        except RecordRejected:
            if len(rows) == 1:
                self.dropped_records += 1
                return
            half = len(rows) // 2
            self._add(rows[:half])
            self._add(rows[half:])
            return
        self._hold(len(rows), data)

    def _hold(self, records: int, data: bytes) -> None:
        self._last_seq += 1
        self._unsent.append(_Frame(self._last_seq, records, data))
        self.held_bytes += len(data)
        while self.held_bytes > self._max_bytes and not self.is_empty:
            oldest = (self._sent or self._unsent).popleft()
            self.held_bytes -= len(oldest.data)
            self.dropped_records += oldest.records
