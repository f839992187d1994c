"""A call is asked of a server, and once more of the next one, as long as no byte was answered."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from inferwatt.gateway import headers
from inferwatt.gateway.call import Call
from inferwatt.gateway.settings import LimitsConfig
from inferwatt.gateway.upstreams import Upstream

WHOLE_BYTES = 1 << 20
_UNAVAILABLE = 503
_UNREACHED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ConnectionTimeoutError)
"""No byte of an answer has come: a connection was refused or not taken, or one that was kept open had been closed."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every server in the same way: path, query, and the client's headers."""

    path: str
    query: str
    raw_headers: Sequence[headers.Raw]
    hides_key: bool
    tenant_header: str

    def headers_for(self, upstream: Upstream, name: str) -> list[tuple[str, str]]:
        """Return the headers for a server; `name` is the call's id."""
        return headers.asking(self.raw_headers, upstream.key, name, self.hides_key, self.tenant_header)

    def url_for(self, upstream: Upstream) -> URL:
        """Return the address at a server."""
        return URL(upstream.address(self.path, self.query), encoded=True)


async def ask(
    client: aiohttp.ClientSession, serving: Sequence[Upstream], call: Call, question: Question, limits: LimitsConfig
) -> aiohttp.ClientResponse:
    """Return the first answer: a connection that fails, and a short 503, are tried again.

    Raises:
        aiohttp.ClientError: nobody can be reached.
        TimeoutError: nobody answers in time.
    """
    for attempt in range(limits.retries + 1):
        upstream = serving[attempt % len(serving)]
        is_last = attempt == limits.retries
        sent, url = question.headers_for(upstream, call.name), question.url_for(upstream)
        try:
            response = await client.post(url, data=_payload(call.of(upstream)), headers=sent, allow_redirects=False)
        except _UNREACHED:
            if is_last:
                raise
            continue
        wait_seconds = _wait_seconds(response, limits.retry_after_seconds, has_other=len(serving) > 1)
        if is_last or wait_seconds is None:
            return response
        response.release()
        await asyncio.sleep(wait_seconds)
    raise AssertionError("the last attempt returns or raises")


def _payload(body: bytes) -> bytes | io.BytesIO:
    """Return a body as it is sent: a large one in pieces, so that others have their turn."""
    return body if len(body) <= WHOLE_BYTES else io.BytesIO(body)


def _wait_seconds(response: aiohttp.ClientResponse, most_seconds: float, *, has_other: bool) -> float | None:
    """Return how long to wait before a 503 is tried again; None where it is the answer."""
    if response.status != _UNAVAILABLE:
        return None
    given = response.headers.get("retry-after", "")
    if has_other:
        return 0.0
    return float(given) if given.isascii() and given.isdecimal() and float(given) <= most_seconds else None
