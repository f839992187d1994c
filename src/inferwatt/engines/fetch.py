"""One bounded HTTP client per scraped server: keep-alive, time-outs, no redirects, a cap on what it will read.

A server that is busy with a long batch may answer late. The question is then left standing and its answer picked
up at a later call, so that one busy server holds up no other and never sees more than one question of ours.
"""

import http.client
import io
import json
import select
import socket
import ssl
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from inferwatt.engines.pages import MAX_BODY_BYTES
from inferwatt.errors import ConfigError, SourceGone, SourceRetry
from inferwatt.timed import TimedReader

GIVE_UP_SECONDS = 60.0
_CHUNK_BYTES = 65536
_MOST_KEY_CHARACTERS = 4096
_HEADERS = {"Accept": "text/plain;version=0.0.4, application/json;q=0.9, */*;q=0.1", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; `whole` is False where it ended before it said so. Header names are lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    whole: bool = True


class Fetch(Protocol):
    """How the scraper asks one server; the simulation hands in its own."""

    def get(self, path: str) -> Answer | None:
        """Return the answer, or None while the server has the question but did not answer yet.

        Raises:
            SourceGone: nobody listens there.
            SourceRetry: no answer, or none that can be used.
        """
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class _Timed(http.client.HTTPResponse):
    """An answer that has `seconds` to be read, its head included."""

    seconds = 0.5

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp.close()
        self.fp = io.BufferedReader(TimedReader(sock, time.monotonic() + self.seconds))


class HttpFetch:
    """Ask one server over one kept-alive connection; with the key in a file, where it asks for one."""

    def __init__(self, url: str, timeout_seconds: float, key_file: str = "", tls: ssl.SSLContext | None = None) -> None:
        if not is_address(url):
            raise ConfigError(f"{url!r} is not the address of a server", where="engines", fix="http://HOST:PORT")
        parts = urlsplit(url)
        secured = partial(http.client.HTTPSConnection, context=tls)
        connection = secured if parts.scheme == "https" else http.client.HTTPConnection
        self._url = url
        self._prefix = parts.path.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._key_file = key_file
        self._http = connection(parts.hostname or "", parts.port, timeout=timeout_seconds)
        self._http.response_class = type("_TimedAnswer", (_Timed,), {"seconds": timeout_seconds})
        self._asked: tuple[str, float] | None = None

    def get(self, path: str) -> Answer | None:
        """Ask for `path`, or pick up the answer that is still due; see `Fetch.get`."""
        try:
            return self._get(path)
        except ConnectionRefusedError as exc:
            self.close()
            raise SourceGone("nobody listens", where=self._url + path, fix="start the server") from exc
        except (OSError, http.client.HTTPException, zlib.error, ValueError) as exc:
            self.close()
            what = f"no usable answer: {type(exc).__name__} {exc}".strip()
            raise SourceRetry(what, where=self._url + path, fix="look at the server's log") from exc

    def close(self) -> None:
        """Close the connection; an answer that is still due is lost."""
        self._asked = None
        self._http.close()

    def _get(self, path: str) -> Answer | None:
        if self._asked is not None and self._asked[0] != path:
            self.close()
        for is_last_try in (False, True):
            was_open = self._http.sock is not None
            try:
                self._ask(path)
                return self._answer()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # a kept-alive connection that the server had closed meanwhile: once more on a new one
                self.close()
                if is_last_try or not was_open:
                    raise
        return None

    def _ask(self, path: str) -> None:
        if self._asked is None:
            if self._http.sock is not None:
                self._http.sock.settimeout(self._timeout_seconds)  # the answer before may have left it little
            self._http.request("GET", self._prefix + path, headers=_HEADERS | self._key())
            self._asked = (path, time.monotonic())

    def _key(self) -> dict[str, str]:
        """Return the header with the key: read anew each time, so that it can be changed."""
        if not self._key_file:
            return {}
        try:
            with open(self._key_file, encoding="ascii") as file:
                return {"Authorization": f"Bearer {file.readline(_MOST_KEY_CHARACTERS).strip()}"}
        except (OSError, UnicodeDecodeError) as exc:
            what = f"its key cannot be read: {getattr(exc, 'strerror', None) or 'no plain text'}"
            raise SourceRetry(what, where=self._key_file, fix="put it there, or correct the path") from exc

    def _answer(self) -> Answer | None:
        asked = self._asked
        if asked is not None and not self._readable(asked[1] + self._timeout_seconds - time.monotonic()):
            if time.monotonic() - asked[1] > GIVE_UP_SECONDS:
                raise TimeoutError(f"not answered within {GIVE_UP_SECONDS:.0f} s")
            return None
        self._asked = None
        response = self._http.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        if 300 <= response.status < 400:
            raise http.client.HTTPException(f"a redirect to {headers.get('location', 'nowhere')} is not followed")
        raw, whole = self._read(response)
        if headers.get("content-encoding", "").lower() == "gzip":
            raw, is_end = inflated(raw)
            whole = whole and is_end
        return Answer(response.status, raw, headers, whole)

    def _readable(self, seconds: float) -> bool:
        """Whether an answer has begun; a question that was asked long ago is only looked after."""
        sock = self._http.sock
        return sock is None or bool(select.select([sock], [], [], max(seconds, 0.0))[0])

    def _read(self, response: http.client.HTTPResponse) -> tuple[bytes, bool]:
        """Read at most one byte more than the cap, within the time-out; (bytes, whether that was all)."""
        chunks, size = [], 0
        try:
            while size <= MAX_BODY_BYTES and (chunk := response.read1(_CHUNK_BYTES)):
                chunks.append(chunk)
                size += len(chunk)
        except http.client.IncompleteRead:
            self.close()
            return b"".join(chunks), False
        if size > MAX_BODY_BYTES:
            self.close()  # the rest is not wanted, so the connection cannot be used again
        whole = size > MAX_BODY_BYTES or response.length in {None, 0}
        response.close()  # it does not notice by itself that it is complete, and the connection waits for that
        if not whole:
            self.close()
        return b"".join(chunks), whole


def decoded(answer: Answer | None) -> object:
    """Return what a whole answer says as JSON, None where it says nothing that can be used."""
    if answer is None or answer.status != 200 or not answer.whole or len(answer.body) >= MAX_BODY_BYTES:
        return None
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def is_address(url: str) -> bool:
    """Whether `url` is http or https with a host and, if any, a port that can be."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def inflated(raw: bytes) -> tuple[bytes, bool]:
    """Inflate gzip, all members, to at most one byte more than the cap; (bytes, whether the end was there)."""
    body, is_end = b"", False
    while raw and len(body) <= MAX_BODY_BYTES:
        member = zlib.decompressobj(wbits=31)
        body += member.decompress(raw, MAX_BODY_BYTES + 1 - len(body))
        is_end = member.eof
        if not is_end:
            break
        raw = member.unused_data
    return body, is_end
