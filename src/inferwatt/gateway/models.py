"""The list of models: of one server as it says it, of several together."""

from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from inferwatt.gateway import headers
from inferwatt.gateway.answer import Refused, Send, say, say_bytes
from inferwatt.gateway.upstreams import Upstream, Upstreams

MOST_BYTES = 4 << 20
PATH = "/v1/models"


async def models(
    client: aiohttp.ClientSession,
    upstreams: Upstreams,
    path: str,
    told: Mapping[str, str],
    send: Send,
    *,
    hides_key: bool,
) -> None:
    """Answer what models there are, or what one of them is.

    Raises:
        Refused: no server says it.
    """
    asked = upstreams.all if path == PATH else upstreams.of(path.removeprefix(PATH + "/"))[:1]
    answers = [await _ask(client, one, path, told, hides_key=hides_key) for one in asked]
    found = [answer for answer in answers if answer is not None]
    if not found:
        raise Refused(502, "no server tells its models", "Ask again later.")
    if len(asked) == 1:
        status, body, kept = found[0]
        await say_bytes(send, status, body, kept)
        return
    known = [one for status, body, _ in found if status == 200 for one in _data(body)]
    await say(send, 200, {"object": "list", "data": known})


async def _ask(
    client: aiohttp.ClientSession, upstream: Upstream, path: str, told: Mapping[str, str], *, hides_key: bool
) -> tuple[int, bytes, list[headers.Raw]] | None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told.items()]
    sent = headers.asking(raw, hides_key=hides_key, key=upstream.key, name="models", own="x-inferwatt-tenant")
    try:
        async with client.get(URL(upstream.address(path, ""), encoded=True), headers=sent) as response:
            body = await response.content.read(MOST_BYTES)
            while len(body) < MOST_BYTES and (more := await response.content.read(MOST_BYTES - len(body))):
                body += more
            return response.status, body, headers.answering(response.raw_headers, (), len(body))
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def _data(body: bytes) -> list[Any]:
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return []
    data = told.get("data") if isinstance(told, dict) else None
    return data if isinstance(data, list) else []
