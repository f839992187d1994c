"""A call is asked of a server, and once more of the next one, as long as no byte was answered."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
from yarl import URL

from inferwatt.gateway import headers
from inferwatt.gateway.call import Given
from inferwatt.gateway.settings import LimitsConfig
from inferwatt.gateway.upstreams import Upstream

_UNAVAILABLE = 503


async def ask(
    client: aiohttp.ClientSession,
    serving: list[Upstream],
    scope: Mapping[str, Any],
    body: bytes,
    where: tuple[str, str],
    given: Given,
    limits: LimitsConfig,
    hides_key: bool,
) -> aiohttp.ClientResponse:
    """Return the first answer: a connection that fails, and a short 503, are tried again.

    Raises:
        aiohttp.ClientError: nobody can be reached.
        TimeoutError: nobody answers in time.
    """
    own = scope["headers"]
    for attempt in range(limits.retries + 1):
        upstream = serving[attempt % len(serving)]
        is_last = attempt == limits.retries
        sent = headers.asking(own, hides_key=hides_key, key=upstream.key, name=given.name, own="x-inferwatt-tenant")
        url = URL(upstream.address(*where), encoded=True)
        given.upstream = upstream
        try:
            response = await client.post(url, data=body, headers=sent, allow_redirects=False)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectorError, aiohttp.ClientOSError):
            if is_last:
                raise
            continue
        wait_seconds = _wait_seconds(response, limits.retry_after_seconds, has_other=len(serving) > 1)
        if is_last or wait_seconds is None:
            return response
        response.release()
        await asyncio.sleep(wait_seconds)
    raise AssertionError("the last attempt returns or raises")


def _wait_seconds(response: aiohttp.ClientResponse, most_seconds: float, *, has_other: bool) -> float | None:
    """Return how long to wait before a 503 is tried again; None where it is the answer."""
    if response.status != _UNAVAILABLE:
        return None
    given = response.headers.get("retry-after", "")
    if has_other:
        return 0.0
    return float(given) if given.isascii() and given.isdecimal() and float(given) <= most_seconds else None
