"""A bounded HTTP client for sources: one kept-alive connection, a time-out for the whole answer, a cap on its size.

What answers may be broken or hostile: the time-out is that of the whole answer, so one that drips a byte a second ends
as one that says nothing does; a body is read up to a cap; a redirect is followed once and only to the same host and
port, so that no password and no reader of ours is sent elsewhere; and no error names a header or a body.
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from inferwatt.errors import SourceRetry
from inferwatt.timed import TimedReader, left_seconds

MAX_BODY_BYTES = 1 << 20
_CHUNK_BYTES = 65536
_PORTS = {"http": 80, "https": 443}


class _TooLong(http.client.HTTPException):
    """The body is longer than the cap."""


_TROUBLES: tuple[tuple[type[Exception], str, str], ...] = (
    (ssl.SSLCertVerificationError, "its certificate is not trusted", "name the authority that signed it: ca_file"),
    (ssl.SSLError, "no secure connection", "look at its TLS versions and certificate"),
    (TimeoutError, "no whole answer in time", "none needed if it is busy; else raise timeout_seconds"),
    (socket.gaierror, "its name is not known", "correct the host name in url"),
    (ConnectionRefusedError, "nobody listens", "start it, or correct the port in url"),
    (ConnectionError, "it hung up", "look at its log"),
    (OSError, "it cannot be reached", "look at the network, or correct url"),
    (_TooLong, "its answer is too long", "correct url: this is no such service"),
    (http.client.HTTPException, "it does not speak HTTP as it should", "correct url, or look at its log"),
    (ValueError, "it does not speak HTTP as it should", "correct url, or look at its log"),
)
"""What an exception of the connection means, the special before the general, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, and when (the middle of the exchange, CLOCK_MONOTONIC). Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    t_ns: int


class _TimedSocket:
    """What `http.client` asks of a connected socket, with one deadline for all of it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.deadline = 0.0

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        self._sock.settimeout(left_seconds(self.deadline))
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a reader of one answer."""
        return io.BufferedReader(TimedReader(self._sock, self.deadline))

    def close(self) -> None:
        """Close it, once its readers are closed too."""
        self._sock.close()


class Client:
    """Asks one server over one connection.

    Args:
        url: http or https, a host, and a path that goes before every other.
        timeout_seconds: for one answer, connecting and redirect included.
        tls: how a server proves who it is; not needed for http.
        max_body_bytes: longer bodies are refused.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float,
        *,
        tls: ssl.SSLContext | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        parts = urlsplit(url)
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._parts = parts
        self._prefix = parts.path.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._tls = tls
        self._max_body_bytes = max_body_bytes
        self._http: http.client.HTTPConnection | None = None
        self._timed: _TimedSocket

    def ask(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Return the answer to one question, of whatever status.

        Raises:
            SourceRetry: no answer, none in time, too long a one, or one that leads elsewhere.
        """
        deadline = time.monotonic() + self._timeout_seconds
        target = self._prefix + path
        try:
            answer = self._exchange(method, target, headers or {}, body, deadline)
            elsewhere = answer.headers.get("location", "") if 300 <= answer.status < 400 else ""
            if elsewhere:
                answer = self._exchange(method, self._same_host(target, elsewhere), headers or {}, body, deadline)
            if 300 <= answer.status < 400:
                raise self._trouble(path, "it leads from place to place", "correct url")
        except SourceRetry:
            self.close()
            raise
        except (OSError, http.client.HTTPException, ValueError) as exc:
            self.close()
            what, fix = meaning(exc)
            raise self._trouble(path, what, fix) from exc
        return answer

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._http is not None:
            self._http.close()
        self._http = None

    def _trouble(self, path: str, what: str, fix: str) -> SourceRetry:
        return SourceRetry(f"{self._parts.hostname}: {what}", where=self.url + self._prefix + path, fix=fix)

    def _same_host(self, target: str, elsewhere: str) -> str:
        """Return the path that a redirect leads to."""
        here, there = self._parts, urlsplit(urljoin(self.url + target, elsewhere))
        if (there.scheme, there.hostname, _port(there)) != (here.scheme, here.hostname, _port(here)):
            raise self._trouble(target, "it leads to another address, where nobody follows", "name that one in url")
        return (there.path or "/") + (f"?{there.query}" if there.query else "")

    def _exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, deadline: float
    ) -> Answer:
        was_open = self._http is not None
        try:
            return self._once(method, target, headers, body, deadline)
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # a kept-alive connection that the server had closed meanwhile: once more on a new one
            self.close()
            if not was_open or method != "GET":
                raise
        return self._once(method, target, headers, body, deadline)

    def _once(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, deadline: float
    ) -> Answer:
        connection = self._connected(deadline)
        began_ns = time.monotonic_ns()
        connection.request(method, target, body, {"Accept-Encoding": "identity", **headers})
        with connection.getresponse() as response:  # closed, or the connection waits for more of it
            raw = self._read(response)
        middle_ns = (began_ns + time.monotonic_ns()) // 2
        if response.will_close:
            self.close()
        return Answer(response.status, {name.lower(): text for name, text in response.getheaders()}, raw, middle_ns)

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        if response.getheader("Content-Encoding", "identity").lower() != "identity":
            raise http.client.HTTPException("it compresses what it was asked to send plainly")
        chunks, size = [], 0
        while size <= self._max_body_bytes and (chunk := response.read1(_CHUNK_BYTES)):
            chunks.append(chunk)
            size += len(chunk)
        if size > self._max_body_bytes:
            raise _TooLong
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(chunks)

    def _connected(self, deadline: float) -> http.client.HTTPConnection:
        if self._http is None:
            scheme, host, port = self._parts.scheme, self._parts.hostname or "", _port(self._parts)
            sock = socket.create_connection((host, port), left_seconds(deadline))
            if scheme == "https":
                sock = _secured(sock, self._tls or ssl.create_default_context(), host, deadline)
            self._timed = _TimedSocket(sock)
            self._http = http.client.HTTPConnection(host, port)
            self._http.default_port = _PORTS[scheme]
            self._http.auto_open = 0  # it would connect without a time-out
            self._http.sock = self._timed
        self._timed.deadline = deadline
        return self._http


def meaning(exc: Exception) -> tuple[str, str]:
    """Return what an exception of a connection means and what to do; never its text, which may quote a header."""
    return next((what, fix) for kind, what, fix in _TROUBLES if isinstance(exc, kind))


def is_address(url: str) -> bool:
    """Whether `url` is http or https with a host, with a port that can be if any, and without an account in it."""
    try:
        parts = urlsplit(url)
        port_can_be = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username is not None)
    return parts.scheme in _PORTS and bool(parts.hostname) and port_can_be and plain


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS.get(parts.scheme, 0)


def _secured(sock: socket.socket, tls: ssl.SSLContext, host: str, deadline: float) -> ssl.SSLSocket:
    secured = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        secured.settimeout(left_seconds(deadline))
        secured.do_handshake()
    except OSError:
        secured.close()
        raise
    return secured
