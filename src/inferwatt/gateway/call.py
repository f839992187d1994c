"""One call through the gateway: told to the agent, asked of a server, passed back as it comes.

Nobody waits for joules: what is known when the last data comes goes into it. A client that leaves ends the call at its
server at once; what was made until then is kept as aborted.
"""

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aiohttp

from inferwatt.answering import embed, usage
from inferwatt.answering.figures import figure, head
from inferwatt.answering.lines import KIND as LINES
from inferwatt.answering.lines import Lines
from inferwatt.answering.provisional import Known, provisional
from inferwatt.answering.stream import Stream
from inferwatt.answering.usage import Used
from inferwatt.gateway import asking, headers
from inferwatt.gateway.answer import Send, say_bytes
from inferwatt.gateway.asking import Asked
from inferwatt.gateway.lately import Desk
from inferwatt.gateway.managed import estimated
from inferwatt.gateway.upstreams import Upstream
from inferwatt.handle import RequestHandle
from inferwatt.records import RequestEnergy

if TYPE_CHECKING:
    from inferwatt.clients.carbon import Intensity

MOST_EMBEDDED_BYTES = 4 << 20
USAGE_BYTES = 4096
"""Where a body is too large to be read, its usage is looked for in so many of its last bytes."""
EDGE_BYTES = 16_384
"""How far from the edge of a piece of a stream events without text are looked for."""
_STREAMS: Mapping[str, type[Stream | Lines]] = {"text/event-stream": Stream, LINES: Lines}
_NO_TEXT = re.compile(
    rb'"delta"\s*:\s*\{(?:\s*"\w+"\s*:\s*(?:""|null|"assistant")\s*,?)*\s*\}|"type"\s*:\s*"(?:message_start|ping'
    rb'|content_block_start|response\.(?:created|queued|in_progress|output_item\.added|content_part\.added))"'
    rb'|"choices"\s*:\s*\[\s*\]'
)
"""What stands in a stream before its first token and after its last: a role and no text, names, the usage."""
_USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
_BAD = 400
_BODILESS = frozenset({204, 304})
"""They have no body, and say no length of it."""
_REFUSALS = frozenset({*range(_BAD, 500), 501, 503})
"""By these a server says that it has computed nothing."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What calls have in common: whether answers carry the object, what its links begin with, who tells the agent.

    `carbon` is what the electricity of managed APIs emits; None: nobody has said.
    """

    embeds: bool
    url: str
    desk: Desk
    carbon: "Intensity | None"


Opens = Callable[[Upstream], RequestHandle]
"""Makes the record of a call that a server is asked."""


class Call:
    """What is asked, what comes back, and what is said of it.

    Args:
        name: the id that its client gets.
        asked: what is asked for.
        opens: makes its record.
        terms: what it has in common with others.
    """

    def __init__(self, name: str, asked: Asked, opens: Opens, terms: Terms) -> None:
        self.name = name
        self._upstream: Upstream | None = None
        self._handle: RequestHandle | None = None
        self._sent = asked
        self.began = False
        """Whether a byte of the answer has gone out."""
        self.has_left = False
        self.unread_events = 0
        """How many events were too long to be read."""
        self._asked, self._opens, self._terms = asked, opens, terms
        self._used = usage.NOTHING
        self._started = time.monotonic()
        self._first_seconds: float | None = None
        self._tokens = 0
        self._is_whole = False
        self._embeds = terms.embeds

    def of(self, upstream: Upstream) -> bytes:
        """Return the body for a server, to which the call belongs from now on; one that was asked before has failed."""
        if self._upstream is not upstream:
            self._refused()
            self._upstream, self._handle = upstream, self._opens(upstream)
            self._sent = asking.with_usage(self._asked) if upstream.is_asked_usage else self._asked
        return self._sent.body

    def _refused(self) -> None:
        """End its record: its server has computed nothing."""
        if self._handle is not None:
            self._handle.usage(prompt=0, output=0)
            self._handle.fail()
            self._handle.finish()

    def end(self) -> None:
        """Tell the agent how it ended, and what it took."""
        handle, used = self._handle, self._used
        if handle is None or handle.end_ns is not None:
            return
        output = used.output if used.output is not None else self._tokens or None  # not told: about one an event
        handle.usage(prompt=used.prompt, cached=used.cached, output=output)
        handle.queued_seconds = used.queue_seconds
        handle.response_id = used.response_id or handle.response_id
        handle.model = handle.model or used.model
        if used.failed or not (self._is_whole or self.has_left):
            handle.fail()
        handle.finish("aborted" if self.has_left else "")
        if self._upstream is not None and self._asked.answers == 1 and not self._upstream.config.provider:
            self._upstream.lately.ended(handle)

    # What comes back.

    async def answer(self, response: aiohttp.ClientResponse, send: Send) -> None:
        """Pass an answer on.

        Raises:
            aiohttp.ClientError: the server went away in the middle of it.
        """
        upstream = self._upstream
        assert upstream is not None
        told = {name.lower(): value for name, value in response.headers.items()}
        upstream.heard(told)
        if embed.HEADER_PREFIX + "request-id" in told and not upstream.config.provider:
            self._embeds = False  # a server with a meter of its own (vLLM's middleware) has said it, by the same id
        if response.status in _REFUSALS:
            self._refused()
        elif response.status >= _BAD and self._handle is not None:
            self._handle.fail()
        self._hear(usage.of_headers(told))
        kind = told.get("content-type", "").partition(";")[0].strip().lower()
        is_plain = told.get("content-encoding", "identity").lower() == "identity"
        if kind in _STREAMS and is_plain:
            await self._stream(response, send, _STREAMS[kind])
        elif kind == "application/json" and is_plain and response.status not in _BODILESS:
            await self._whole(response, send)
        else:
            await self._untouched(response, response.content.iter_any(), b"", send)

    def _hear(self, used: Used) -> None:
        self._used = self._used.then(used)
        if self._handle is not None and used.first_token_seconds is not None:
            self._handle.first_token(used.first_token_seconds)

    async def _start(
        self, response: aiohttp.ClientResponse, send: Send, more: list[tuple[str, str]], length: int | None
    ) -> None:
        self.began = True
        passed = headers.answering(response.raw_headers, more, length)
        await send({"type": "http.response.start", "status": response.status, "headers": passed})

    def _head(self) -> list[tuple[str, str]]:
        return embed.headers_of(head(self.name, url=self._terms.url)) if self._embeds else []

    async def _stream(self, response: aiohttp.ClientResponse, send: Send, framed: type[Stream | Lines]) -> None:
        await self._start(response, send, self._head(), None)
        stream = framed(self._figure, hides_usage=self._sent.hides_usage, answers=self._sent.answers)
        was_cut = True
        try:
            async for data in response.content.iter_any():
                out = self._heard(stream, data)
                if out:
                    await send({"type": "http.response.body", "body": out, "more_body": True})
            was_cut = False
        except aiohttp.ClientError:
            await send({"type": "http.response.body", "body": stream.end(was_cut=True), "more_body": True})
            raise
        finally:
            self._hear(stream.used)
            self._is_whole = stream.is_over
            self.unread_events = stream.too_long
        await send({"type": "http.response.body", "body": stream.end(was_cut=was_cut)})

    def _heard(self, stream: Stream | Lines, data: bytes) -> bytes:
        """Return what goes out for a piece of a stream, and note the tokens in it."""
        seen, was_over, handle = stream.events, stream.is_over, self._handle
        out = stream.feed(data)
        news = stream.events - seen
        if not seen and handle is not None and stream.used.response_id:
            handle.response_id = stream.used.response_id
        if was_over:
            return out
        if stream.is_over:
            news -= len(_NO_TEXT.findall(data[-EDGE_BYTES:] if self._tokens else data))
        elif not self._tokens:
            news -= len(_NO_TEXT.findall(data[:EDGE_BYTES]))
        if news > 0 and handle is not None:
            self._tokens += news
            self._first_seconds = self._first_seconds or time.monotonic() - self._started
            handle.chunk()
        return out

    async def _whole(self, response: aiohttp.ClientResponse, send: Send) -> None:
        """Pass a body on that is read whole; what turns out too large goes on as it comes."""
        body = bytearray()
        pieces = response.content.iter_any()
        async for data in pieces:
            body += data
            if len(body) > MOST_EMBEDDED_BYTES:
                await self._untouched(response, pieces, bytes(body), send)
                return
        self._hear(usage.read(bytes(body)))
        self._is_whole = True
        told = self._figure(self._used) if response.status < _BAD else None
        out = embed.into_body(bytes(body), told) if told else bytes(body)
        more = embed.headers_of(told) if told else self._head()
        self.began = True
        await say_bytes(send, response.status, out, headers.answering(response.raw_headers, more, len(out)))

    async def _untouched(
        self, response: aiohttp.ClientResponse, pieces: AsyncIterator[bytes], first: bytes, send: Send
    ) -> None:
        """Pass a body on as it comes; of a large one the usage may be in its last bytes."""
        await self._start(response, send, self._head(), response.content_length)
        end = first[-USAGE_BYTES:]
        if first:
            await send({"type": "http.response.body", "body": first, "more_body": True})
        async for data in pieces:
            end = (end + data)[-USAGE_BYTES:]
            await send({"type": "http.response.body", "body": data, "more_body": True})
        if found := _USAGE.search(end):
            self._hear(usage.read(b"{%b}" % found[0]))
        self._is_whole = True
        await send({"type": "http.response.body", "body": b""})

    # What is said of it.

    def _figure(self, used: Used) -> Mapping[str, Any] | None:
        """Return the object for the answer; None where there is to be none."""
        if not self._embeds or self._handle is None:
            return None
        told = self.estimate(used) or figure(self.name, self._known(self._handle, used), url=self._terms.url)
        return told if used.queue_seconds is None else {**told, "queue_seconds": used.queue_seconds}

    def _known(self, handle: RequestHandle, used: Used) -> Known | RequestEnergy | None:
        """Return what its own server's call has used as far as anybody knows."""
        if self._upstream is None or not self._terms.desk.is_heard:
            return provisional(handle.energy(), (), used)
        if used.output is None:
            used = replace(used, output=self._tokens or None)
        return self._upstream.lately.known(handle, used, self._asked.answers, self._asked.prompts)

    def estimate(self, used: Used | None = None) -> Mapping[str, Any] | None:
        """Return what a managed API is estimated to have used for it; None where no such one was asked."""
        if self._upstream is None or not self._upstream.config.provider:
            return None
        seconds, provider = time.monotonic() - self._started, self._upstream.config.provider
        times = (seconds, self._first_seconds)
        return estimated(self.name, provider, self._asked.model, used or self._used, *times, self._terms.carbon)
