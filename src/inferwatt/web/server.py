"""Serve the application from a thread of its own: uvicorn on a socket that is ours before it starts."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from inferwatt.errors import Unavailable
from inferwatt.loopback import is_loopback
from inferwatt.web.access import split_listen
from inferwatt.web.guard import PEER
from inferwatt.web.peers import Address, holder, peer_uid

MOST_CONNECTIONS: Final = 256
SILENT_SECONDS: Final = 10.0
"""How long a connection may be open without a whole request."""
KEEP_ALIVE_SECONDS: Final = 30
TICK_SECONDS: Final = 1.0
LAST_WORDS_SECONDS: Final = 0.3
"""How long answers in progress may still take at the end; a live stream has none."""


@dataclass
class Connection:
    """One connection: who is at the other end is looked up once, when it is first asked."""

    transport: asyncio.Transport
    client: Address | None
    server: Address | None

    @cached_property
    def uid(self) -> int | None:
        """Return the user at the other end, None where that is not known."""
        if self.client is None or self.server is None or not is_loopback(self.client[0]):
            return None
        return peer_uid(self.client, self.server)

    def abort(self) -> None:
        """Drop the connection at once."""
        self.transport.abort()


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a limit of connections, of silence, and of time at the end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who connects; refuse when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        client = transport.get_extra_info("peername")
        server = transport.get_extra_info("sockname")
        connection = Connection(transport, client[:2] if client else None, server[:2] if server else None)
        app = self.app

        async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
            scope[PEER] = connection
            await app(scope, receive, send)

        self.app = with_peer
        self.loop.call_later(SILENT_SECONDS, self._end_silence)

    def _end_silence(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.abort()

    def shutdown(self) -> None:
        """End after the answer in progress, or without it when that takes too long."""
        super().shutdown()
        if not self.transport.is_closing():
            self.loop.call_later(LAST_WORDS_SECONDS, self.transport.abort)


class QuietServer(uvicorn.Server):
    """uvicorn with one wake-up a second instead of ten: an idle page costs next to nothing."""

    async def main_loop(self) -> None:
        """Tick until `should_exit` is set; `wake` ends the wait for the next tick."""
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        tenths = 0
        while not await self.on_tick(tenths):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), TICK_SECONDS)
            tenths = (tenths + 10) % 864_000

    def wake(self) -> None:
        """Let the loop look at once; from any thread."""
        with contextlib.suppress(AttributeError, RuntimeError):  # it has not begun, or it has ended
            self._loop.call_soon_threadsafe(self._woken.set)


@dataclass
class Serving:
    """A running server; `stop` ends it."""

    host: str
    port: int
    server: QuietServer
    thread: threading.Thread

    @property
    def url(self) -> str:
        """Return where the page is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    def stop(self, timeout_seconds: float = 1.0) -> bool:
        """End within `timeout_seconds`, also when streams are open; say whether it did."""
        self.server.should_exit = True
        self.server.wake()
        self.thread.join(timeout_seconds)
        if self.thread.is_alive():
            self.server.force_exit = True
            self.server.wake()
            self.thread.join(timeout_seconds)
        return not self.thread.is_alive()


def bind(listen: str) -> socket.socket:
    """Return a socket that listens on `listen` (`127.0.0.1:9595`; port 0 takes a free one).

    Raises:
        ConfigError: `listen` is not host:port.
        Unavailable: the port is taken, or the address is not this machine's; with who holds it where that is known.
    """
    host, port = split_listen(listen)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _unavailable(error, listen, port) from error
    try:
        if os.name == "posix":  # elsewhere it would let two agents share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise _unavailable(error, listen, port) from error
    return listener


def _unavailable(error: OSError, listen: str, port: int) -> Unavailable:
    if error.errno == errno.EADDRINUSE:
        who = holder(port)
        by = f" by {who}" if who else ""
        fix = f"stop it, or take another port: --listen 127.0.0.1:{port + 1 if port < 65535 else port - 1}"
        return Unavailable(f"port {port} is taken{by}", where=f"web.listen {listen}", fix=fix)
    fix = "listen on an address of this machine, e.g. --listen 127.0.0.1:9595"
    return Unavailable(f"cannot listen: {error.strerror or error}", where=f"web.listen {listen}", fix=fix)


def serve(app: ASGIApp, listen: str) -> Serving:
    """Serve `app` on `listen` from a daemon thread; it answers when this returns.

    Raises:
        ConfigError: `listen` is not host:port.
        Unavailable: the port is taken, or the address is not this machine's.
    """
    listener = bind(listen)
    host, port = listener.getsockname()[:2]
    # uvicorn tells of each odd client in its log: ours is for what the user must know
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "ws": "none"}
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        loop="asyncio",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
        **options,
    )
    server = QuietServer(config)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listener])), name="inferwatt-web", daemon=True
    )
    thread.start()
    return Serving(host, port, server, thread)
