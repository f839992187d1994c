"""Brings the SDK's records to the agent, in a thread of its own. The host appends to a deque and goes on.

The thread sleeps while nothing is open. It connects when there is something to say, backs off (0.1 s to 10 s, with
jitter) when nobody is there, says everything again that was not acknowledged, and tells a new agent which requests
are open. What was never heard by any agent is not kept: without a meter there is nothing to attribute.
Standard library only; what costs time to import is imported in the thread.
"""

import os
import sys
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inferwatt.handle import RequestHandle
    from inferwatt.link import Link
    from inferwatt.records import RequestEnergy
    from inferwatt.wire import Message

POLL_SECONDS = 0.05
"""How long a state may wait before it is sent, and how often joules are looked for while a request is open."""
LONE_POLL_SECONDS = 0.25
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 10.0
FINAL_WITHIN_NS = 30_000_000_000
"""An ended request whose final joules have not come by then is given up."""
MAX_WAITING = 16_384
MAX_AWAITING = 4096

importing = threading.Lock()
"""Held while the thread imports: a fork in the middle of an import would leave the child a lock that nobody frees."""


class Delivery:
    """One producer: a thread, a connection, and what is not acknowledged yet."""

    kind, about, last_retry_seconds = "sdk", dict[str, Any](), LAST_RETRY_SECONDS

    def __init__(self, path: str | None = None) -> None:
        """Prepare a producer; `path` is the agent's socket, else found by `endpoint.socket_path` at each attempt."""
        self.producer = os.urandom(16).hex()
        self.counts: Counter[str] = Counter()
        self.retired = False
        self._path = path
        self._updates: deque[RequestHandle] = deque(maxlen=MAX_WAITING)
        self._ended: deque[RequestHandle] = deque(maxlen=MAX_WAITING)
        self._to_log: deque[str] = deque(maxlen=64)
        self._logged: set[str] = set()
        self._open: dict[str, RequestHandle] = {}
        self._awaiting: dict[str, RequestHandle] = {}
        self._event = threading.Event()
        self._news = threading.Condition()
        self._idle = False
        self._closing = False
        self._absent = False
        self._ever_greeted = False
        self._link: Link | None = None
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._run, name="inferwatt-delivery", daemon=True)

    def start(self) -> None:
        """Start the thread; RuntimeError where the process may start none."""
        self._thread.start()

    # the host's side: never waits, never raises

    def changed(self, handle: "RequestHandle") -> None:
        """`handle` was opened or got its first token."""
        if len(self._updates) == MAX_WAITING:
            self.counts["dropped_updates"] += 1
        self._updates.append(handle)
        if self._idle:
            self._event.set()

    def ended(self, handle: "RequestHandle") -> None:
        """`handle` has ended: this record is the one that counts."""
        if len(self._ended) == MAX_WAITING:
            self.counts["dropped_records"] += 1
        self._ended.append(handle)
        if self._idle:
            self._event.set()

    def note(self, problem: str) -> None:
        """Count a value of the host that cannot be right; it is logged once, by the thread."""
        self.counts[problem] += 1
        if self.counts[problem] == 1:
            self._to_log.append(problem)

    def energy(self, handle: "RequestHandle", wait_seconds: float | None) -> "RequestEnergy | None":
        """Return the last joules heard of `handle`, after at most `wait_seconds` for the final ones."""
        if wait_seconds is not None and self.may_come(handle):
            with self._news:
                self._news.wait_for(lambda: not self.may_come(handle), wait_seconds)
        return handle.last_energy

    def may_come(self, handle: "RequestHandle") -> bool:
        """Whether final joules of `handle` can still come."""
        final = handle.last_energy is not None and handle.last_energy.final
        return not (final or self._absent or self.retired or self._closing)

    def close(self, wait_seconds: float) -> None:
        """Send what is waiting, for at most `wait_seconds`; open requests end as aborted."""
        self._retry_at = 0.0  # one more attempt, if there is something to say
        self._closing = True
        self._event.set()
        if self._thread.ident is not None:
            self._thread.join(wait_seconds)

    def retire(self) -> None:
        """In a forked child: let go of the parent's connection. Its locks may be held by a thread that is not here."""
        self.retired = True
        self._idle = False
        self._event, self._news = threading.Event(), threading.Condition()
        self._updates.clear()
        self._ended.clear()
        if self._link is not None:
            self._link.socket.close()

    # the thread's side

    def _run(self) -> None:
        with importing:
            from inferwatt import endpoint, link, outbox, wire  # noqa: F401 - loaded here, used below
        self._outbox = outbox.Outbox()
        while not (self._closing and self._has_said_all()):
            try:
                self._turn()
            except Exception as exc:  # noqa: BLE001 - nothing of ours may hurt the host
                self.counts["internal"] += 1
                self._log_once(f"delivery stumbled: {exc!r}")
                self._hang_up()
            self._rest()
        self._hang_up()
        with self._news:
            self._news.notify_all()

    def _turn(self) -> None:
        while self._to_log:
            self._log_once(self._to_log.popleft())
        if self._link is None and (self._updates or self._ended or self._open or not self._outbox.is_empty):
            self._connect()
        if self._link is not None:
            self._hear(self._link)
        self._collect()
        if self._link is not None and not self._link.flush(self._outbox):
            self._hang_up()

    def _collect(self) -> None:
        """Move what the host appended into the outbox: each request once, in its newest state."""
        changed: dict[str, RequestHandle] = {}
        for _ in range(len(self._updates)):
            handle = self._updates.popleft()
            if handle.end_ns is None:
                self._open[handle.name] = changed[handle.name] = handle
        for handle in tuple(self._open.values()) if self._closing else ():
            handle.abort()  # which appends it to those that have ended
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        for handle in ended:
            self._open.pop(handle.name, None)
            self._awaiting[handle.name] = changed[handle.name] = handle
        self._forget()
        if self._absent:
            self.counts["unmetered"] += len(ended)
        else:
            told = changed.values() if self._link is not None and self._link.greeted else ended
            self._outbox.add([handle.record() for handle in told])  # open ones are all told at the next greeting
        for handle in ended:
            handle.told()
        if dropped := self._outbox.dropped_records:
            self.counts["dropped_unacknowledged"] = dropped

    def _forget(self) -> None:
        old_ns = time.monotonic_ns() - FINAL_WITHIN_NS
        for name, handle in tuple(self._awaiting.items()):
            if not (self._absent or len(self._awaiting) > MAX_AWAITING or (handle.end_ns or 0) < old_ns):
                break
            del self._awaiting[name]
        while len(self._open) > MAX_WAITING:
            del self._open[next(iter(self._open))]
            self.counts["dropped_updates"] += 1

    def _connect(self) -> None:
        from inferwatt import endpoint, link
        from inferwatt.errors import Unavailable

        if time.monotonic() < self._retry_at:
            return
        path = self._path or "its usual places"
        try:
            path = self._path or endpoint.socket_path()
            self._link = link.Link(endpoint.connect(path), self.producer, kind=self.kind, about=self.about)
        except (OSError, Unavailable) as exc:
            self._back_off()
            self._absent = not self._ever_greeted
            why = getattr(exc, "strerror", None) or exc
            self._log_once(f"no agent at {path} ({why}): requests are not metered. To meter them: inferwatt agent")
            with self._news:
                self._news.notify_all()
        else:
            self._absent = False

    def _hear(self, link: "Link") -> None:
        messages, alive = link.read()
        for message in messages:
            self._heed(link, message)
        if not alive:
            self._hang_up()

    def _heed(self, link: "Link", message: "Message") -> None:
        kind = message.get("t")
        if kind == "hello":
            link.greeted = self._ever_greeted = True
            self._retry_seconds = FIRST_RETRY_SECONDS
            self._outbox.add([handle.record() for handle in self._open.values() if handle.end_ns is None])
        elif kind == "ack" and type(message.get("seq")) is int:
            self._outbox.acked(message["seq"])
        elif kind == "energy":
            self._take_energies(message.get("requests"))
        elif kind == "error":
            self.counts["refused"] += 1
            self._log_once(f"the agent says: {message.get('what')} ({message.get('where')}): {message.get('fix')}")
        self.heed(message)

    def heed(self, message: "Message") -> None:
        """Take what only producers of another kind understand."""

    def _take_energies(self, rows: Any) -> None:  # noqa: ANN401 - a decoded JSON value
        from inferwatt import wire
        from inferwatt.errors import RecordRejected

        for row in rows if isinstance(rows, list) else ():
            try:
                energy = wire.energy_from_wire(row)
            except RecordRejected:
                self.counts["bad_energies"] += 1
                continue
            name = energy.request.removeprefix(f"{self.producer}:")
            handle = self._open.get(name) or self._awaiting.get(name)
            if handle is not None:
                handle.last_energy = energy
                if energy.final:
                    self._awaiting.pop(name, None)
        with self._news:
            self._news.notify_all()

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.socket.close()
            self._link = None
            self._outbox.again()
            self._back_off()

    def _back_off(self) -> None:
        self._retry_at = time.monotonic() + self._retry_seconds * (0.5 + os.urandom(1)[0] / 510)
        self._retry_seconds = min(2 * self._retry_seconds, self.last_retry_seconds)

    def _has_said_all(self) -> bool:
        waiting = self._updates or self._ended or self._open
        if self._link is None:
            return self._retry_at > 0 or (not waiting and self._outbox.is_empty)
        return not waiting and self._link.greeted and not self._outbox.has_unsent and not self._link.out

    def _rest(self) -> None:
        self._event.clear()
        if self._closing:
            time.sleep(0.002)
            return
        busy = self._open or self._awaiting or not self._outbox.is_empty
        if not busy:
            self._idle = True
            if not (self._updates or self._ended or self._closing):
                self._event.wait()
            self._idle = False
        elif self._link is not None:
            self._event.wait(POLL_SECONDS)
        else:
            left_seconds = max(self._retry_at - time.monotonic(), 0.001)
            self._event.wait(left_seconds if self._absent else min(left_seconds, LONE_POLL_SECONDS))

    def _log_once(self, text: str) -> None:
        key = text.partition(" (")[0]
        if key not in self._logged and len(self._logged) < 64:
            self._logged.add(key)
            _log(f"inferwatt: {text}")


def _log(line: str) -> None:
    """Warn in the log `inferwatt`; a host that never loaded logging gets what logging's last resort would print.

    It is not imported here: it registers what must run before a fork, and a fork may be under way.
    """
    if "logging" in sys.modules:
        import logging

        logging.getLogger("inferwatt").warning(line)
    elif sys.stderr is not None:
        sys.stderr.write(line + "\n")
