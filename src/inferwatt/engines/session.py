"""What is said on one connection of the inbox: bytes in, records and replies out. No socket, no thread, no clock.

A producer (one process that hands in records) numbers its messages. The highest number that was taken in and the
highest that the agent committed are all that is remembered of it, so that a message sent again after a lost
connection is acknowledged again but not taken in twice, in a fixed amount of memory.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from inferwatt import wire, wire_steps
from inferwatt.endpoint import Peer
from inferwatt.engines.greeting import Unwelcome, producer_of
from inferwatt.engines.intake import InboxHealth
from inferwatt.engines.plugged import Plugged, check_times, plugin_of, taken
from inferwatt.engines.processes import peer_pid
from inferwatt.errors import RecordRejected
from inferwatt.records import Request, RequestEnergy
from inferwatt.units import NS_PER_SECOND

MAX_OUT_BYTES = 2 << 20
"""Replies that a client has not read; at more it is taken for one that never reads, and dropped."""
PROVISIONAL_OUT_BYTES = 256 << 10
"""Above this much unread, provisional joules are skipped: the next push says it better."""
MAX_PRODUCERS = 4096
REQUESTS_PER_PUSH = 256
FUTURE_NS = NS_PER_SECOND
"""Both ends read one CLOCK_MONOTONIC: a time further ahead of its arrival than this is another clock."""

_COUNTED = ("frames", "records", "repeated_frames", "missing_frames", "skipped_pushes")
_NUMBERED = ("records", wire_steps.STEPS, wire_steps.ENDS)


@dataclass(frozen=True, slots=True)
class Incoming:
    """One record as it arrived: acknowledge (`producer`, `seq`) once everything up to `seq` is kept for good."""

    producer: str
    pid: int
    seq: int
    request: Request
    received_ns: int
    is_last: bool = True
    """Whether this is the last record of its message."""


class _Producer:
    """What is remembered of one producer."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.seen_seq = 0
        self.emitted_seq = 0
        self.committed_seq = 0
        self.session: Session | None = None

    def settle(self, seq: int) -> None:
        """Note that everything up to `seq` is committed; messages without a record in them need no commit."""
        self.committed_seq = max(self.committed_seq, self.seen_seq if seq >= self.emitted_seq else seq)


class Reception:
    """All sessions together: what producers are known, who is connected, and what was counted."""

    def __init__(
        self,
        emit: Callable[[Incoming | Plugged], None],
        *,
        agent: str,
        boot_id: str = "",
        gone: Callable[[str], None] = lambda _producer: None,
        pid_of: Callable[[int, object, object], int] = peer_pid,
    ) -> None:
        """Make a reception that hands records to `emit` and lost producers to `gone`.

        Args:
            emit: takes one record. If it raises, the connection is closed and the producer will send it again.
            agent: a name of this run of the agent, unique.
            boot_id: producers of another boot are refused; empty: not checked.
            gone: called with a producer whose connection ended; it may come back, or its open requests never end.
            pid_of: which process a peer is, by the kernel, by itself, and by the PID namespace that it names.
        """
        self.emit = emit
        self.agent = agent
        self.boot_id = boot_id
        self.gone = gone
        self.pid_of = pid_of
        self.sessions: set[Session] = set()
        self.counts: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._producers: dict[str, _Producer] = {}

    def open(self, peer: Peer) -> "Session":
        """Return the session of a new connection."""
        session = Session(self, peer)
        self.sessions.add(session)
        return session

    def close(self, session: "Session") -> None:
        """Forget a connection that has ended; what its producer sent stays known."""
        self.sessions.discard(session)
        producer = self._producers.get(session.producer)
        if producer is not None and producer.session is session:
            producer.session = None
            self.gone(session.producer)

    def ack(self, producer: str, seq: int) -> None:
        """Tell `producer` that everything up to `seq` is kept for good."""
        known = self._producers.get(producer)
        if known is not None:
            known.settle(seq)
            if known.session is not None:
                known.session.say(wire.ack(known.committed_seq))

    def push(self, producer: str, energies: Iterable[RequestEnergy]) -> None:
        """Send joules of its requests to `producer`, if it is connected; a slow reader gets the final ones only."""
        known = self._producers.get(producer)
        session = known.session if known is not None else None
        if session is None:
            return
        slow = len(session.out) > PROVISIONAL_OUT_BYTES
        told = [energy for energy in energies if energy.final or not slow]
        self.counts["skipped_pushes"] += slow
        for start in range(0, len(told), REQUESTS_PER_PUSH):
            session.say(wire.energy(told[start : start + REQUESTS_PER_PUSH]))

    def tell(self, producer: str, message: wire.Message) -> None:
        """Say what the next word of its kind replaces: not to `producer` if it is away, or slow to read."""
        known = self._producers.get(producer)
        if known is not None and known.session is not None and len(known.session.out) <= PROVISIONAL_OUT_BYTES:
            known.session.say(message)

    def health(self) -> InboxHealth:
        """Return the counts at this moment; may be called from any thread."""
        counts = {name: self.counts[name] for name in _COUNTED}
        return InboxHealth(len(self.sessions), **counts, rejected=dict(self.rejected), refused=dict(self.refused))

    def admit(self, session: "Session", producer: str) -> _Producer | None:
        """Return what is known of `producer`, now speaking through `session`; None where it is another user's."""
        known = self._producers.pop(producer, None) or _Producer(session.peer.uid)
        self._producers[producer] = known  # the newest is last
        if known.uid != session.peer.uid:
            return None
        if known.session is not None and known.session is not session:
            known.session.closing = True
        known.session = session
        self._forget_old()
        return known

    def _forget_old(self) -> None:
        excess = len(self._producers) - MAX_PRODUCERS
        if excess > 0:
            silent = [name for name, known in self._producers.items() if known.session is None]
            for name in silent[:excess]:
                del self._producers[name]


class Session:
    """One connection. Feed it what arrives, send what is in `out`, and end it once `closing` is set and `out` sent."""

    def __init__(self, reception: Reception, peer: Peer) -> None:
        self.peer = peer
        self.producer = ""
        self.pid = peer.pid
        self.out = bytearray()
        self.closing = False
        self._reception = reception
        self._decoder = wire.Decoder()
        self._known: _Producer | None = None

    def feed(self, data: bytes, now_ns: int) -> None:
        """Take in bytes that arrived at `now_ns`: records go to the reception's `emit`, replies into `out`."""
        for message in self._decoder.feed(data):
            if self.closing:
                return
            if isinstance(message, RecordRejected):
                self._reject(message)
                self.closing |= isinstance(message, wire.FrameBroken)
                continue
            self._reception.counts["frames"] += 1
            try:
                self._hear(message, now_ns)
            except RecordRejected as problem:
                self._reject(problem)
                self.closing |= isinstance(problem, Unwelcome)

    def say(self, message: wire.Message) -> None:
        """Append a reply; a client that has left too many unread is dropped."""
        self.out += wire.encode(message)
        if len(self.out) > MAX_OUT_BYTES:
            self._reception.refused["never_reads"] += 1
            self.closing = True
            self.out.clear()

    def _hear(self, message: wire.Message, now_ns: int) -> None:
        kind = message.get("t")
        if kind == "hello":
            self._hello(message, now_ns)
        elif kind in _NUMBERED and self._known is not None:
            self._numbered(message, self._known, now_ns)
        elif kind in _NUMBERED:
            raise RecordRejected("records before hello", where="hello", fix="say hello first")
        else:
            raise RecordRejected("not a kind of message", where="t", fix="send hello, records, steps or ends")

    def _hello(self, message: wire.Message, now_ns: int) -> None:
        if self._known is not None:
            raise RecordRejected("a second hello", where="hello", fix="say hello once per connection")
        producer = producer_of(message, self._reception.boot_id)
        known = self._reception.admit(self, producer)
        if known is None:
            raise Unwelcome("another user's producer", where="producer", fix="draw a random producer id")
        self.pid = self._reception.pid_of(self.peer.pid, message.get("pid"), message.get("pid_namespace"))
        self.producer, self._known = producer, known
        self.say(wire.hello_back(self._reception.agent))
        if known.committed_seq:
            self.say(wire.ack(known.committed_seq))
        if (plugin := plugin_of(message, self.pid, now_ns)) is not None:
            self._emit(plugin)

    def _numbered(self, message: wire.Message, known: _Producer, now_ns: int) -> None:
        seq = message.get("seq")
        if type(seq) is not int or not 1 <= seq <= wire.MAX_INTEGER:
            raise RecordRejected("not a number of a message", where="seq", fix="count messages from 1")
        if seq <= known.seen_seq:
            self._reception.counts["repeated_frames"] += 1
            self._acknowledge(known)
            return
        take_in = self._take_records if message.get("t") == "records" else self._take_plugged
        if take_in(message, seq, now_ns):
            known.emitted_seq = seq
        if self.closing:
            return
        self._reception.counts["missing_frames"] += seq - known.seen_seq - 1 if known.seen_seq else 0
        known.seen_seq = seq
        if known.committed_seq >= known.emitted_seq:  # nothing of it waits for a commit
            known.settle(seq)
            self._acknowledge(known)

    def _take_plugged(self, message: wire.Message, _seq: int, now_ns: int) -> int:
        """Emit what a plugin saw, as one item, all of it or none; return how many."""
        try:
            item = taken(message, self.producer, self.pid, now_ns)
            check_times(item, now_ns + FUTURE_NS)
        except RecordRejected as problem:
            self._reject(problem)
            return 0
        return self._emit(item)

    def _take_records(self, message: wire.Message, seq: int, now_ns: int) -> int:
        """Emit the good records of a message and say what is wrong with the first bad one; return how many."""
        rows = message.get("records")
        if not isinstance(rows, list) or len(rows) > wire.MAX_RECORDS_PER_FRAME:
            self._reject(RecordRejected("not a list of records", where="records", fix="send at most 4096"))
            return 0
        count, first_problem = 0, None
        good: list[Request] = []
        for row in rows:
            try:
                request = wire.request_from_wire(row, self.producer)
                check_times(request, now_ns + FUTURE_NS)
            except RecordRejected as problem:
                self._reception.rejected[problem.where] += 1
                first_problem = first_problem or problem
                continue
            good.append(request)
        for request in good:
            is_last = count + 1 == len(good)
            if not self._emit(Incoming(self.producer, self.pid, seq, request, now_ns, is_last)):
                break
            count += 1
        self._reception.counts["records"] += count
        if first_problem is not None:
            self.say(wire.error(first_problem))
        return count

    def _emit(self, item: Incoming | Plugged) -> bool:
        """Hand something to the agent; return whether it was taken. If not, the producer will send it again."""
        try:
            self._reception.emit(item)
        except Exception:  # noqa: BLE001 - the agent's side; the producer keeps the message and sends it again
            self._reception.refused["not_taken"] += 1
            self.closing = True
            return False
        return True

    def _acknowledge(self, known: _Producer) -> None:
        if known.committed_seq:
            self.say(wire.ack(known.committed_seq))

    def _reject(self, problem: RecordRejected) -> None:
        self._reception.rejected[problem.where] += 1
        self.say(wire.error(problem))
