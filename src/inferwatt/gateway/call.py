"""One call through the gateway: asked of a server, passed back as it comes, and told to the agent.

Nobody waits for joules: what is known when the last data comes goes into it. A client that leaves ends the call at its
server at once; what was made until then is kept as aborted.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from inferwatt.answering import embed, usage
from inferwatt.answering.figures import figure, head
from inferwatt.answering.stream import Stream
from inferwatt.answering.usage import Used
from inferwatt.gateway import headers
from inferwatt.gateway.answer import Receive, Refused, Send, say_bytes
from inferwatt.gateway.asking import Asked
from inferwatt.gateway.managed import estimated
from inferwatt.gateway.upstreams import Upstream
from inferwatt.handle import RequestHandle

MOST_EMBEDDED_BYTES = 4 << 20
_STREAM = "text/event-stream"
_NO_TOKEN = re.compile(rb'"delta"\s*:\s*\{\s*"role"\s*:\s*"assistant"\s*(?:,\s*"content"\s*:\s*(?:""|null)\s*)?[,}]')
"""What opens a chat: a role, and no text yet."""


@dataclass(slots=True)
class Given:
    """What a call is made of, beside its body."""

    name: str
    handle: RequestHandle
    upstream: Upstream
    embeds: bool
    url: str


class Call:
    """What comes back, and what is said of it."""

    def __init__(self, given: Given, asked: Asked) -> None:
        self.began = False
        self.used = usage.NOTHING
        self.has_left = False
        self._given, self._asked = given, asked
        self._started = time.monotonic()
        self._tokens = 0
        self._is_whole = False

    def figure(self, used: Used) -> dict[str, Any] | None:
        """Return the object for the answer; None where there is to be none."""
        given = self._given
        if not given.embeds:
            return None
        if given.upstream.config.is_managed:
            model = used.model or self._asked.model
            return estimated(given.name, model, given.upstream.config.provider, used, time.monotonic() - self._started)
        return figure(given.name, given.handle.energy(), url=given.url)

    def end(self) -> None:
        """Tell the agent how it ended, and what it took."""
        handle, used = self._given.handle, self.used
        output = used.output
        if output is None and not self._is_whole and self._tokens:
            output = self._tokens  # it was cut: about one an event
        handle.usage(prompt=used.prompt, cached=used.cached, output=output)
        handle.response_id = used.response_id or handle.response_id
        if used.failed or not (self._is_whole or self.has_left):
            handle.fail()
        handle.finish("aborted" if self.has_left else "")

    # What comes back.

    async def answer(self, response: aiohttp.ClientResponse, send: Send) -> None:
        """Pass an answer on."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_plain = response.headers.get("content-encoding", "identity").lower() == "identity"
        told = {name.lower(): value for name, value in response.headers.items()}
        self.used = usage.of_headers(told)
        if kind == _STREAM and is_plain:
            await self._stream(response, send)
        elif kind == "application/json" and is_plain and _is_small(response):
            await self._whole(response, send)
        else:
            await self._untouched(response, response.content.iter_any(), b"", send)
        if response.status >= 400:
            self._given.handle.fail()

    async def _start(
        self, response: aiohttp.ClientResponse, send: Send, more: list[tuple[str, str]], length: int | None
    ) -> None:
        self.began = True
        passed = headers.answering(response.raw_headers, more, length)
        await send({"type": "http.response.start", "status": response.status, "headers": passed})

    def _head(self) -> list[tuple[str, str]]:
        given = self._given
        return embed.headers_of(head(given.name, url=given.url)) if given.embeds else []

    async def _stream(self, response: aiohttp.ClientResponse, send: Send) -> None:
        await self._start(response, send, self._head(), None)
        stream = Stream(self.figure, hides_usage=self._asked.hides_usage, answers=self._asked.answers)
        handle, before = self._given.handle, self.used
        was_cut = True
        try:
            async for data in response.content.iter_any():
                seen = stream.events
                out = stream.feed(data)
                if stream.events > seen and (seen or _NO_TOKEN.search(data) is None):
                    handle.chunk()
                    self._tokens += stream.events - seen
                if not seen and stream.used.response_id:
                    handle.response_id = stream.used.response_id
                if out:
                    await send({"type": "http.response.body", "body": out, "more_body": True})
            was_cut = False
        finally:
            self.used = before.then(stream.used)
            self._is_whole = stream.is_over
        await self._finish(stream.end(was_cut=was_cut), send)

    async def _finish(self, rest: bytes, send: Send) -> None:
        await send({"type": "http.response.body", "body": rest})

    async def _whole(self, response: aiohttp.ClientResponse, send: Send) -> None:
        """Pass a body on that is read whole; what turns out too large goes on as it comes."""
        body = bytearray()
        pieces = response.content.iter_any()
        async for data in pieces:
            body += data
            if len(body) > MOST_EMBEDDED_BYTES:
                await self._untouched(response, pieces, bytes(body), send)
                return
        self.used = self.used.then(usage.read(bytes(body)))
        self._is_whole = True
        told = self.figure(self.used) if response.status < 400 else None
        out = embed.into_body(bytes(body), told) if told else bytes(body)
        more = embed.headers_of(told) if told else self._head()
        self.began = True
        await say_bytes(send, response.status, out, headers.answering(response.raw_headers, more, len(out)))

    async def _untouched(
        self, response: aiohttp.ClientResponse, pieces: AsyncIterator[bytes], first: bytes, send: Send
    ) -> None:
        await self._start(response, send, self._head(), response.content_length)
        if first:
            await send({"type": "http.response.body", "body": first, "more_body": True})
        async for data in pieces:
            self._given.handle.first_token()
            await send({"type": "http.response.body", "body": data, "more_body": True})
        self._is_whole = True
        await self._finish(b"", send)


def _is_small(response: aiohttp.ClientResponse) -> bool:
    return response.content_length is None or response.content_length <= MOST_EMBEDDED_BYTES


class Watch:
    """Ends the task of a call when its client leaves, or when it has taken too long."""

    def __init__(self, receive: Receive, seconds: float) -> None:
        self.has_left = False
        self.is_late = False
        self._receive, self._seconds = receive, seconds

    async def __aenter__(self) -> "Watch":
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = loop.call_later(self._seconds, self._too_late)
        self._watching = loop.create_task(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._timer.cancel()
        self._watching.cancel()
        is_ours = kind is not None and issubclass(kind, asyncio.CancelledError) and (self.has_left or self.is_late)
        return is_ours and self._task.uncancel() == 0

    async def _watch(self) -> None:
        with suppress(Exception):
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self.has_left = True
            self._task.cancel()

    def _too_late(self) -> None:
        self.is_late = True
        self._task.cancel()


def refusal(exc: Exception, upstream: str) -> Refused:
    """Return what a client is told of a server that cannot be asked."""
    if isinstance(exc, TimeoutError):
        return Refused(504, f"{upstream} did not answer in time", "Ask again later.")
    return Refused(502, f"{upstream} cannot be reached", "Ask again later.")
