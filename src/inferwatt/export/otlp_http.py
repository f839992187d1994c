"""OTLP/HTTP: protobuf by POST, gzip, as the OTLP specification 1.x has it.

The exporters of opentelemetry-python (1.45) tell only whether it went well: not what a receiver refused of it, nor when
it wants to be asked again; and they try again by themselves for as long as they may. So their encoders are used, and
the body is sent here.
"""

import gzip
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Final

from google.protobuf.message import DecodeError, Message

from inferwatt import __version__
from inferwatt.export.exporter import ExportRefused, ExportRetry
from inferwatt.export.otlp_signals import Signal
from inferwatt.export.posting import opener
from inferwatt.export.settings import OtlpConfig

PROTOBUF: Final = "application/x-protobuf"
LARGEST_ANSWER_BYTES: Final = 65_536
AGAIN: Final = frozenset({408, 429, 502, 503, 504})
"""Answers after which a batch comes again: those of the specification, and one of proxies."""
FIXES: Final = {
    401: ("asks for a token", "the right header into export.otlp.headers_file"),
    403: ("refuses the token", "the right header into export.otlp.headers_file"),
    404: ("takes none of these there", "look at export.otlp.endpoint; spans = false where it takes no spans"),
    407: ("is behind a proxy that asks who we are", "the proxy's address in HTTPS_PROXY, with user and password"),
    413: ("takes no body as large as that", "raise its limit to 1 MiB"),
    429: ("asks us to wait", "none: it is sent again"),
}
OURS_TO_MEND: Final = frozenset({401, 403, 407})
"""What somebody can put right while the batch waits."""


class Wire:
    """Sends to one receiver; a connection is opened for each body."""

    def __init__(self, config: OtlpConfig, headers: Callable[[], Mapping[str, str]]) -> None:
        self._endpoint = config.endpoint.rstrip("/")
        self._headers = headers
        self._timeout_seconds = config.timeout_seconds
        self._is_packed = config.compression == "gzip"
        self._opener = opener(config.ca_file)

    def send(self, signal: Signal, body: Message) -> Message:
        """Send it; return the receiver's answer.

        Raises:
            ExportRetry: it was not taken; it comes again.
            ExportRefused: it never will be.
        """
        where = self._endpoint + signal.path
        headers = {**self._headers(), "Content-Type": PROTOBUF, "User-Agent": f"inferwatt/{__version__}"}
        data = body.SerializeToString()
        if self._is_packed:
            headers["Content-Encoding"] = "gzip"
            data = gzip.compress(data, 1)
        request = urllib.request.Request(where, data, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as answer:
                kind = answer.headers.get_content_type()
                return _read(signal, kind, answer.read(LARGEST_ANSWER_BYTES), where)
        except urllib.error.HTTPError as answer:
            with answer:
                raise _failure(answer.code, answer.headers.get("Retry-After") or "", where) from None
        except (OSError, HTTPException) as exc:
            reason = getattr(exc, "reason", exc)
            kind = "timeout" if isinstance(reason, TimeoutError) else "connection"
            what = f"the OTLP receiver cannot be reached: {reason}"
            raise ExportRetry(what, where=where, fix="start it, or look at export.otlp.endpoint", reason=kind) from None

    def close(self) -> None:
        """Nothing is held between two bodies."""


def _read(signal: Signal, kind: str, body: bytes, where: str) -> Message:
    """Return what a receiver says to a body that it took; some say nothing, or JSON."""
    if kind == "text/html":
        what = "what answers there is a page, no OTLP receiver"
        raise ExportRetry(what, where=where, fix="the receiver's own export.otlp.endpoint", reason="page")
    try:
        return signal.answer.FromString(body if kind == PROTOBUF else b"")
    except DecodeError:
        return signal.answer()


def _failure(status: int, retry_after: str, where: str) -> ExportRetry | ExportRefused:
    what, fix = FIXES.get(status, (f"answers {status}", "see the receiver's own log"))
    what = f"the OTLP receiver {what}"
    if status not in AGAIN | OURS_TO_MEND:
        return ExportRefused(what, where=where, fix=fix, reason=str(status))
    wait_seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
    return ExportRetry(what, where=where, fix=fix, reason=str(status), retry_after_seconds=wait_seconds)
