"""The gateway as a process: uvicorn with httptools on uvloop, and what is refused before anything is routed."""

import asyncio
import logging
import os
import re
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inferwatt.answering.tenant import Tenants, keys_of, tenants
from inferwatt.clients.estimator import own_registry
from inferwatt.errors import ConfigError, Unavailable
from inferwatt.gateway.app import LOOPBACK, Gateway
from inferwatt.gateway.ending import CONNECTION
from inferwatt.gateway.lately import Desk
from inferwatt.gateway.settings import GatewayConfig
from inferwatt.gateway.upstreams import open_upstreams, read_secret

if TYPE_CHECKING:
    from inferwatt.clients.carbon import Intensity

KEEP_ALIVE_SECONDS = 30
GOODBYE_SECONDS = 10
SPARE_FILES = 256
SILENT_SECONDS = 30.0
"""How long a connection may be open without a whole head of a call."""
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,18}")


class Strict(HttpToolsProtocol):
    """uvicorn's protocol; what is ambiguous or endless is refused by 400, before the application is asked."""

    header_bytes = 64 << 10
    on_lost: Callable[[], None] | None = None
    _seen = 0
    _silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give it a time to say what it wants."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the call that runs; those that wait behind it never begin."""
        self.pipeline.clear()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Take data; a head that has begun has to end."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait_for_head()

    def _wait_for_head(self) -> None:
        if self._silence is None:
            self._silence = self.loop.call_later(SILENT_SECONDS, self._end_silence)

    def _end_silence(self) -> None:
        self._silence = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Count anew."""
        super().on_message_begin()
        self.scope.update({CONNECTION: self})  # type: ignore[misc]
        self._seen = 0

    def on_url(self, url: bytes) -> None:
        """Keep within the limit."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep within the limit."""
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._seen += size
        if self._seen > self.header_bytes:
            raise ValueError("the head is too large")

    def on_headers_complete(self) -> None:
        """Refuse what two servers could read in two ways."""
        if not self.url.startswith(b"/") or not is_sound(self.headers):
            raise ValueError("ambiguous")
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        super().on_headers_complete()


def protocol(header_bytes: int) -> type[HttpToolsProtocol]:
    """Return the protocol with a limit of the head."""
    return type("Limited", (Strict,), {"header_bytes": header_bytes})


def is_sound(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a head has one meaning: one host, one length, and not a length beside an encoding."""
    found: dict[bytes, list[bytes]] = {b"host": [], b"content-length": [], b"transfer-encoding": []}
    for name, value in headers:
        if name in found:
            found[name].append(value)
    hosts, lengths, encodings = found.values()
    is_framed = len(lengths) + len(encodings) <= 1 and all(_LENGTH.fullmatch(one) for one in lengths)
    is_known = all(one.strip().lower() == b"chunked" for one in encodings)
    return is_framed and is_known and len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None


def tenants_of(config: GatewayConfig) -> Tenants:
    """Return how tenants are told.

    Raises:
        ConfigError: a file or a name is wrong.
    """
    told = config.tenants
    secret = read_secret(told.secret_file, "gateway.tenants.secret_file").encode()
    where = f"gateway.tenants.keys_file {told.keys_file}"
    try:
        keys = keys_of(Path(told.keys_file).read_text(encoding="utf-8")) if told.keys_file else {}
        return tenants(keys, secret=secret, peers=told.peers, header=told.header)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"tenants cannot be told: {exc}", where=where, fix='a file of lines tenant = "key"') from None


def check(config: GatewayConfig) -> None:
    """Refuse to listen beyond this machine without keys, or without TLS.

    Raises:
        ConfigError: it would.
    """
    host = config.listen.rpartition(":")[0].strip("[]")
    if host in LOOPBACK:
        return
    if not (config.tenants.keys_file and config.tenants.keys_only):
        what = f"gateway.listen is {config.listen}, which others can reach, and nobody needs a key"
        raise ConfigError(what, where="gateway.listen", fix='set gateway.tenants.keys_file, lines of tenant = "key"')
    if not (config.tls_certificate_file and config.tls_key_file) and not config.plaintext:
        what = f"gateway.listen is {config.listen}, which others can reach, and keys would be sent in the clear"
        fix = "set gateway.tls_certificate_file and tls_key_file, or gateway.plaintext = true behind a proxy with TLS"
        raise ConfigError(what, where="gateway.listen", fix=fix)


def bind(listen: str) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        ConfigError: `listen` is not host:port.
        Unavailable: it is taken, or not this machine's.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal():
        raise ConfigError(f"gateway.listen is {listen!r}", where="gateway.listen", fix='listen = "127.0.0.1:9596"')
    host = host.strip("[]")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(1024)
    except (OSError, OverflowError) as exc:
        listener.close()
        why = getattr(exc, "strerror", None) or exc
        fix = "take another: inferwatt gateway --listen 127.0.0.1:0"
        raise Unavailable(f"cannot listen: {why}", where=f"gateway.listen {listen}", fix=fix) from exc
    return listener


class _Server(uvicorn.Server):
    """uvicorn's server; a signal ends it, and not the process: what is still to be told is told."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the serving."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Serving:
    """A gateway that is ready to serve on its socket."""

    def __init__(
        self, config: GatewayConfig, socket_path: str | None = None, carbon: "Intensity | None" = None
    ) -> None:
        """Open all that it needs.

        Raises:
            ConfigError: the configuration is wrong.
            Unavailable: it cannot listen.
        """
        check(config)
        if any(one.provider for one in config.upstream):
            own_registry()  # read now: a wrong one is an error here, not in the middle of an answer
        self.config = config
        self.desk = Desk(socket_path or None)
        self.app = Gateway(config, open_upstreams(config.upstream), tenants_of(config), self.desk, carbon)
        self._options = _tls(config)
        self.listener = bind(config.listen)
        host, port = self.listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if self._options else 'http'}://{shown}:{port}"

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # its lines quote what clients send
        server = _Server(self._settings())
        _allow_open_files(self.config.limits.connections)
        self.desk.start()
        try:
            _run(self._serve(server))
        finally:
            self.desk.close(1.0)

    async def _serve(self, server: uvicorn.Server) -> None:
        try:
            await server.serve(sockets=[self.listener])
        finally:
            await self.app.close()

    def _settings(self) -> uvicorn.Config:
        limits = self.config.limits
        options: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "ws": "none"}
        return uvicorn.Config(
            self.app,
            http=protocol(limits.header_bytes),
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GOODBYE_SECONDS,
            **self._options,
            **options,
        )


def _allow_open_files(connections: int) -> None:
    """Raise the limit of open files, as far as this process may: each client has a connection to a server."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + SPARE_FILES
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def _tls(config: GatewayConfig) -> dict[str, Any]:
    if not config.tls_certificate_file:
        return {}
    files = {"ssl_certfile": config.tls_certificate_file, "ssl_keyfile": config.tls_key_file}
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            config.tls_certificate_file, config.tls_key_file or None
        )
    except (OSError, ValueError) as exc:
        where = f"gateway.tls_certificate_file {config.tls_certificate_file}"
        raise ConfigError(
            f"cannot use the certificate: {exc}", where=where, fix="name a PEM file, and its key"
        ) from None
    return files


def _run(main: Any) -> None:  # noqa: ANN401 - a coroutine
    """Run on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:  # it has none for Windows
        asyncio.run(main)
        return
    uvloop.run(main)
