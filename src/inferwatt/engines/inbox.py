"""The socket where SDK, plugin and gateway hand in records: one thread, a selector, bounded in every direction.

What is said on a connection is `session.py`; here are the socket, who may connect to it, and the thread.
"""

import contextlib
import errno
import os
import selectors
import socket
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable

from inferwatt import endpoint
from inferwatt.clock import Clock
from inferwatt.endpoint import Peer
from inferwatt.engines.intake import InboxHealth
from inferwatt.engines.plugged import Plugged
from inferwatt.engines.session import Incoming, Reception, Session
from inferwatt.errors import Unavailable
from inferwatt.rates import Rates
from inferwatt.records import RequestEnergy
from inferwatt.wire_rates import rates_message

MAX_CONNECTIONS = 256
READ_BYTES = 64 << 10
PAUSE_SECONDS = 0.2
"""How long no connection is taken when the process has no file descriptor left: the listener stays readable."""
CLOSE_SECONDS = 1.0


class Inbox:
    """Listens at `path` from `start` to `close`; each record goes to `emit` in the inbox's own thread.

    Args:
        path: where the socket is made (`endpoint.socket_path(listen=True)`); its folder is made if it is missing.
        emit: takes one record quickly; if it raises, the producer is disconnected and will send the record again.
        clock: tells when bytes arrived.
        agent: a name of this run of the agent; drawn at random if empty.
        boot_id: refuse producers of another boot; empty: not checked.
        gone: called with a producer's id when its connection ends.
        allow: who may connect; by default this user, root, and members of the group `inferwatt`.
    """

    def __init__(
        self,
        path: str,
        emit: Callable[[Incoming | Plugged], None],
        *,
        clock: Clock,
        agent: str = "",
        boot_id: str = "",
        gone: Callable[[str], None] = lambda _producer: None,
        allow: Callable[[Peer], bool] | None = None,
    ) -> None:
        self.path = str(path)
        self._clock = clock
        self._reception = Reception(emit, agent=agent or uuid.uuid4().hex, boot_id=boot_id, gone=gone)
        self._allow = allow or endpoint.is_allowed
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[Session, socket.socket] = {}
        self._jobs: deque[Callable[[], None]] = deque()
        self._wake_in, self._wake_out = socket.socketpair()
        self._listener: socket.socket | None = None
        self._inode = 0
        self._paused = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="inferwatt-inbox", daemon=True)

    def start(self) -> None:
        """Make the socket and begin to listen.

        Raises:
            Unavailable: another agent listens there, or the socket cannot be made.
        """
        try:
            self._listener = endpoint.listen(self.path)
        except Unavailable:
            self._end()
            raise
        self._inode = os.lstat(self.path).st_ino
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()

    def ack(self, producer: str, seq: int) -> None:
        """Tell `producer` that its messages up to `seq` are kept for good; from any thread."""
        self._do(lambda: self._reception.ack(producer, seq))

    def push(self, producer: str, energies: Iterable[RequestEnergy]) -> None:
        """Send `producer` the joules of its open and ended requests; from any thread."""
        told = tuple(energies)
        self._do(lambda: self._reception.push(producer, told))

    def rates(self, producer: str, rates: Iterable[Rates]) -> None:
        """Send `producer` what tokens cost lately; from any thread."""
        message = rates_message(rates)
        self._do(lambda: self._reception.tell(producer, message))

    def health(self) -> InboxHealth:
        """Return what was taken in and turned away so far; from any thread."""
        return self._reception.health()

    def close(self) -> None:
        """Send what is waiting if it can be sent at once, end all connections and remove the socket, within 1 s."""
        self._stopping = True
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_SECONDS)
        with contextlib.suppress(OSError):
            if self._inode and os.lstat(self.path).st_ino == self._inode:
                os.unlink(self.path)

    def _do(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake anyway; closed: it has ended
            self._wake_out.send(b"\0")

    def _run(self) -> None:
        try:
            while not self._stopping:
                for key, mask in self._selector.select(PAUSE_SECONDS if self._paused else None):
                    self._serve(key, mask)
                self._take_up_listening()
                self._work()
            self._work()
        finally:
            self._end()

    def _serve(self, key: selectors.SelectorKey, mask: int) -> None:
        if isinstance(key.data, Session):
            try:
                self._talk(key.data, mask)
            except Exception:  # noqa: BLE001 - one client must not end the others
                self._reception.refused["internal"] += 1
                key.data.closing = True
        elif key.fileobj is self._wake_in:
            with contextlib.suppress(BlockingIOError):
                while len(self._wake_in.recv(4096)) == 4096:
                    pass
        else:
            self._accept()

    def _work(self) -> None:
        """Do what other threads asked for, then send what waits."""
        while self._jobs:
            try:
                self._jobs.popleft()()
            except Exception:  # noqa: BLE001 - a figure that cannot be written must not end the inbox
                self._reception.refused["internal"] += 1
        for session in tuple(self._sockets):
            if session.out or session.closing:
                self._send(session)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError as exc:
            if exc.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                self._reception.refused["no_descriptors"] += 1
                self._selector.unregister(self._listener)
                self._paused = True
            return
        connection.setblocking(False)
        peer = endpoint.peer_of(connection)
        reason = "connections" if len(self._sockets) >= MAX_CONNECTIONS else "" if self._allow(peer) else "peer"
        if reason:
            self._reception.refused[reason] += 1
            connection.close()
            return
        session = self._reception.open(peer)
        self._sockets[session] = connection
        self._selector.register(connection, selectors.EVENT_READ, session)

    def _take_up_listening(self) -> None:
        if self._paused and self._listener is not None:
            self._paused = False
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _talk(self, session: Session, mask: int) -> None:
        if session not in self._sockets:  # ended while its event waited
            return
        if mask & selectors.EVENT_READ and not session.closing:
            try:
                data = self._sockets[session].recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._hang_up(session)
                return
            session.feed(data, self._clock.monotonic_ns())
        self._send(session)

    def _send(self, session: Session) -> None:
        connection = self._sockets.get(session)
        if connection is None:
            return
        try:
            while session.out:
                del session.out[: connection.send(session.out)]
        except BlockingIOError:
            pass
        except OSError:
            session.closing = True
            session.out.clear()
        if session.closing:  # the last words are sent if there is room for them; nobody is waited for
            self._hang_up(session)
            return
        write = selectors.EVENT_WRITE if session.out else 0
        self._selector.modify(connection, selectors.EVENT_READ | write, session)

    def _hang_up(self, session: Session) -> None:
        connection = self._sockets.pop(session)
        self._selector.unregister(connection)
        connection.close()
        self._reception.close(session)

    def _end(self) -> None:
        for session in tuple(self._sockets):
            self._hang_up(session)
        for one in (self._listener, self._wake_in, self._wake_out):
            if one is not None:
                one.close()
        self._selector.close()
