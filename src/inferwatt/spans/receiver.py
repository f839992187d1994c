"""The OTLP/HTTP receiver: POST /v1/traces, protobuf and JSON, by the OTLP specification 1.x.

Who may hand in spans may see requests: the agent's own user on this machine, or who has its token.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from inferwatt.errors import RecordRejected
from inferwatt.records import Request
from inferwatt.spans.decoding import JSON, PROTOBUF, TooLarge, spans_of, unzipped
from inferwatt.spans.genai import Reader, Said
from inferwatt.spans.settings import SpansConfig

PATH: Final = "/v1/traces"
RETRY_SECONDS: Final = "5"


class Receiver:
    """The application. `counts` says what became of the spans; it is read from other threads.

    Args:
        config: what is taken.
        take: hands a record in; OverflowError where too much waits.
        offset_ns: UTC less the monotonic clock, now.
        may_tell: says whether a request's sender may hand in spans.
        now_unix_ns: UTC.
    """

    def __init__(
        self,
        config: SpansConfig,
        take: Callable[[Request], None],
        offset_ns: Callable[[], int],
        may_tell: Callable[[Scope], bool],
        now_unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._config, self._take, self._may_tell = config, take, may_tell
        self._offset_ns, self._now_unix_ns = offset_ns, now_unix_ns
        self._reader = Reader(config.managed, config.tenant_attribute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        refused = self._refused(scope, headers, media_type)
        if refused is not None:
            await _say(send, *refused, JSON)
            return
        body = await self._body(receive)
        if body is None:
            await _say(send, 413, f"at most {self._config.body_bytes} bytes; send fewer spans", JSON)
            return
        status, what = self._read(body, media_type, is_zipped=_coding(headers) == "gzip")
        await _say(send, status, what, media_type)

    def _refused(self, scope: Scope, headers: Headers, media_type: str) -> tuple[int, str] | None:
        if scope["path"] != PATH:
            return 404, f"only {PATH} is taken here: metrics and logs are not read"
        if scope["method"] != "POST":
            return 405, "POST is served"
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return 403, "web pages may not hand in spans"
        if not self._may_tell(scope):
            return 401, "Authorization: Bearer TOKEN (web.token_file), or from this machine as the agent's own user"
        if media_type not in {PROTOBUF, JSON}:
            return 415, f"send {PROTOBUF} or {JSON}"
        if _coding(headers) not in {"identity", "gzip"}:
            return 415, "send gzip, or nothing compressed"
        return None

    async def _body(self, receive: Receive) -> bytes | None:
        """Return the body; None where it is too large: nothing beyond that is read."""
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._config.body_bytes:
                return None
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return bytes(body)

    def _read(self, body: bytes, media_type: str, *, is_zipped: bool) -> tuple[int, str]:
        offset_ns, now_unix_ns = self._offset_ns(), self._now_unix_ns()
        try:
            data = unzipped(body, self._config.body_bytes) if is_zipped else body
            spans = sorted(spans_of(data, media_type), key=lambda span: (span.end_unix_ns, -span.start_unix_ns))
        except RecordRejected as exc:
            self.counts[Said.MALFORMED] += 1
            return 413 if isinstance(exc, TooLarge) else 400, f"{exc.what}: {exc.fix}"
        for span in spans:
            said, request = self._reader.read(span, offset_ns, now_unix_ns)
            if request is not None:
                try:
                    self._take(request)
                except OverflowError:
                    return 503, "too many records wait; send it again"  # what was taken is known by its ids
            self.counts[said] += 1
        return 200, ""


def _coding(headers: Headers) -> str:
    return headers.get("content-encoding", "identity").strip().lower()


async def _say(send: Send, status: int, what: str, media_type: str) -> None:
    """Answer: an empty ExportTraceServiceResponse, or a google.rpc.Status (field 2 of it is its message)."""
    if media_type == PROTOBUF:
        text = what.encode()[:120]
        body = b"\x12" + bytes([len(text)]) + text if text else b""
    else:
        body = b'{"message":"%s"}' % what.replace('"', "'").encode() if what else b"{}"
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", RETRY_SECONDS.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
