"""SGLang's forward-pass metrics, as they arrive: what its passes did, summed over short times. Pure.

A message is three frames: an empty topic, a number of 8 bytes (big-endian), and a msgpack map (SGLang,
srt/observability/forward_pass_metrics.py, at 48ccb9a4 and e861116e: version 1). It has sums over the members of one
pass and how long the pass took on the device, no request and no time of day. So a pass is taken to end when its message
arrives: it is published when its result is worked on, up to one pass late where passes overlap.

Without work there is a message each second, of zeros. A number that is missing is a lost message, counted as a lost
pass: what it did is unknown, never nothing. What SGLang drops before it gives a number (more than 10,000 wait) cannot
be seen. A number that falls is another process.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from inferwatt.errors import RecordRejected
from inferwatt.records import Sums
from inferwatt.units import NS_PER_SECOND

WINDOW_NS = NS_PER_SECOND // 10
"""How long passes are summed: as long as a tick of a device at 10 readings a second."""
VERSION = 1
MAX_MESSAGE_BYTES = 1 << 16
LONGEST_PASS_SECONDS = 600.0
_NUMBER_BYTES = 8

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class Scheduled(msgspec.Struct, frozen=True):
    """Whose tokens a pass computed."""

    num_prefill_requests: Count = 0
    sum_prefill_tokens: Count = 0
    num_decode_requests: Count = 0
    sum_decode_kv_tokens: Count = 0


class Pass(msgspec.Struct, frozen=True):
    """One message; what else is in it is passed over."""

    scheduled_requests: Scheduled
    version: int = VERSION
    wall_time: Annotated[float, msgspec.Meta(ge=0.0, le=LONGEST_PASS_SECONDS)] = 0.0

    @property
    def is_heartbeat(self) -> bool:
        """Whether nothing ran."""
        return not self.wall_time and self.scheduled_requests == Scheduled()


_decoder = msgspec.msgpack.Decoder(Pass)


def read(frames: Sequence[bytes]) -> tuple[int, Pass]:
    """Return a message's number and what it says.

    Raises:
        RecordRejected: it is no such message; `where` says what is wrong, in one word.
    """
    fix = "none: it is left out"
    if len(frames) != 3 or len(frames[1]) != _NUMBER_BYTES or len(frames[2]) > MAX_MESSAGE_BYTES:
        raise RecordRejected("not a message of a forward pass", where="frames", fix=fix)
    try:
        said = _decoder.decode(frames[2])
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RecordRejected(f"not a forward pass: {exc}", where="payload", fix=fix) from exc
    if said.version != VERSION:
        raise RecordRejected(f"forward passes of version {said.version}", where="version", fix="update inferwatt")
    return int.from_bytes(frames[1], "big"), said


@dataclass(slots=True)
class _Window:
    """What is summed at the moment; a sum of which a part is not known is not known."""

    t0_ns: int
    t1_ns: int
    steps: int = 0
    prefill_tokens: int | None = 0
    decode_requests: int = 0
    context_tokens: int = 0
    passes_ns: int = 0
    lost: int = 0


class Passes:
    """The passes of one engine, of all its data-parallel ranks: feed it messages, take what is summed."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.messages = self.lost = 0
        self.bad: Counter[str] = Counter()
        self.heard_ns: int | None = None
        """When a good message came last."""
        self.numbers: dict[str, int] = {}
        """The newest message of each publisher."""
        self._window: _Window | None = None
        self._until_ns = 0

    def take(self, publisher: str, frames: Sequence[bytes], now_ns: int) -> Sums | None:
        """Take one message; return what was summed until then, where that is due.

        Args:
            publisher: whose numbers these are: each rank has its own.
            frames: the message.
            now_ns: when it arrived.
        """
        try:
            number, said = read(frames)
        except RecordRejected as exc:
            self.bad[exc.where] += 1
            return None
        self.messages += 1
        before_ns, self.heard_ns = self.heard_ns, now_ns
        lost = self._missing(publisher, number)
        closed = self.due(now_ns)
        if said.is_heartbeat and not lost:
            return closed or self._close()
        since_ns = now_ns - round(said.wall_time * NS_PER_SECOND)
        if lost and before_ns is not None:
            since_ns = min(since_ns, before_ns)  # they were at some time in between
        self._add(said, lost, since_ns, now_ns)
        return closed

    def due(self, now_ns: int) -> Sums | None:
        """Return what was summed, if that was long enough."""
        is_due = self._window is not None and now_ns - self._window.t0_ns >= WINDOW_NS
        return self._close() if is_due else None

    def _missing(self, publisher: str, number: int) -> int:
        last = self.numbers.get(publisher)
        self.numbers[publisher] = number
        lost = number - last - 1 if last is not None and number > last else 0
        self.lost += lost
        return lost

    def _add(self, said: Pass, lost: int, since_ns: int, now_ns: int) -> None:
        if self._window is None:
            self._window = _Window(max(self._until_ns, since_ns), now_ns)
        window = self._window
        window.t1_ns = now_ns
        window.lost += lost
        if said.is_heartbeat:
            return
        does = said.scheduled_requests
        is_known = window.prefill_tokens is not None and not (does.num_prefill_requests and not does.sum_prefill_tokens)
        window.prefill_tokens = (window.prefill_tokens or 0) + does.sum_prefill_tokens if is_known else None
        window.steps += 1
        window.decode_requests += does.num_decode_requests
        window.context_tokens += does.sum_decode_kv_tokens
        window.passes_ns += round(said.wall_time * NS_PER_SECOND)

    def _close(self) -> Sums | None:
        window, self._window = self._window, None
        if window is None:
            return None
        self._until_ns = window.t1_ns
        return Sums(
            window.t0_ns,
            window.t1_ns,
            self.engine,
            steps=window.steps,
            prefill_tokens=window.prefill_tokens,
            decode_requests=window.decode_requests,
            context_tokens=window.context_tokens,
            passes_ns=window.passes_ns,
            lost_passes=window.lost,
        )
