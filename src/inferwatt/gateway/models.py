"""The list of models: of one server as it says it, of several together."""

import asyncio
from typing import Any

import aiohttp
import msgspec

from inferwatt.gateway import headers
from inferwatt.gateway.answer import Refused, Send, say, say_bytes
from inferwatt.gateway.trying import Question
from inferwatt.gateway.upstreams import Upstream, Upstreams

MOST_BYTES = 4 << 20
PATH = "/v1/models"


async def models(client: aiohttp.ClientSession, upstreams: Upstreams, question: Question, send: Send) -> None:
    """Answer what models there are, or what one of them is.

    Raises:
        Refused: no server says it.
    """
    path = question.path
    asked = upstreams.all if path == PATH else upstreams.of(path.removeprefix(PATH + "/"))[:1]
    if not asked:
        raise Refused(404, "no upstream serves this model", "See gateway.upstream.models.")
    answers = await asyncio.gather(*(_ask(client, one, question) for one in asked))
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
    client: aiohttp.ClientSession, upstream: Upstream, question: Question
) -> tuple[int, bytes, list[headers.Raw]] | None:
    sent = question.headers_for(upstream, "models")
    try:
        async with client.get(question.url_for(upstream), headers=sent, allow_redirects=False) as response:
            upstream.heard(response.headers)
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
