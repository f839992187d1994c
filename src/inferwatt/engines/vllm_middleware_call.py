"""One call of a client through vLLM's application: what comes and goes is passed on, with the energy in the answer.

Nothing is awaited that vLLM would not await. A stream is passed on piece by piece. Whatever goes wrong here, what was
kept goes out as it came, and the rest of the call is passed on untouched.
"""

import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from inferwatt.answering import embed, usage
from inferwatt.answering.figures import figure, head
from inferwatt.answering.stream import Stream
from inferwatt.answering.usage import Used, several
from inferwatt.engines.vllm_front import finished
from inferwatt.engines.vllm_middleware_desk import Desk
from inferwatt.handle import RequestHandle

Message = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MOST_READ_BYTES = 1 << 20
"""A request's body beyond this is not looked into, an answer's is passed on as it comes."""
REQUEST_ID = b"x-request-id"
TRACEPARENT = b"traceparent"
_NAMES_ITSELF = re.compile(rb'"request_id"\s*:')
"""vLLM's own field of a request's body, over which a header would stand."""
_ASKS_FOR_SEVERAL = re.compile(rb'"n"\s*:|"prompt"\s*:\s*\[')
_REFUSED = 400


class Call:
    """What is known of one call.

    Args:
        scope: the call's ASGI scope, as it goes on to vLLM.
        handle: how the agent is told of it.
        desk: who knows what it has used.
        url: where the agent is asked for the final figure; None: nobody has said.
        names: whether vLLM takes the call's name from its header.
    """

    def __init__(self, scope: Scope, handle: RequestHandle, desk: Desk, url: str | None, *, names: bool = True) -> None:
        self._scope, self._handle, self._desk, self._url = scope, handle, desk, url
        self._names = names
        self._body: bytearray | None = bytearray()
        self._answers, self._prompts = 1, 1
        self._passes = self._is_whole = self._has_left = self._has_failed = False
        self._start: Message | None = None
        self._stream: Stream | None = None

    async def run(self, app: App, receive: Receive, send: Send) -> None:
        """Let vLLM answer."""

        async def hear() -> Message:
            message = await receive()
            self._guarded(self._heard, message)
            return message

        async def say(message: Message) -> None:
            try:
                for one in self._out(message):
                    await send(one)
            except OSError:  # by ASGI 2.4 that is how a client leaves
                self._has_left = True
                raise

        try:
            await app(self._scope, hear, say)
        except Exception:
            self._has_failed = not self._has_left
            raise
        finally:
            self._guarded(self._end)

    def _guarded(self, do: Callable[..., Any], *arguments: Any) -> Any:
        """Do something of ours; what goes wrong is counted, and the call is passed on untouched from then."""
        try:
            return do(*arguments)
        except Exception as exc:  # noqa: BLE001 - nothing of ours may reach vLLM
            self._passes = True
            self._desk.note(f"an answer without its energy ({type(exc).__name__})")
            return None

    # What is asked.

    def _heard(self, message: Message) -> None:
        """Look at the request as vLLM reads it."""
        if message["type"] == "http.disconnect":
            self._has_left = True
        elif self._body is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False) or len(self._body) > MOST_READ_BYTES:
                body, self._body = bytes(self._body), None
                self._asked(body if len(body) <= MOST_READ_BYTES else b"")

    def _asked(self, body: bytes) -> None:
        """Take a request that is whole; where its client gave it no name it gets one, so that the agent finds it."""
        if _ASKS_FOR_SEVERAL.search(body):
            self._answers, self._prompts = _several(body)
        name, above = self._header(REQUEST_ID), self._header(TRACEPARENT)
        if name is None and self._names and body and not _NAMES_ITSELF.search(body):
            name = os.urandom(16).hex().encode()
            self._scope["headers"] = [*self._scope["headers"], (REQUEST_ID, name)]
        if name is not None and self._names:
            self._handle.trace_id = name.decode("latin-1")
        self._handle.traceparent = (above or b"").decode("latin-1")
        self._handle.start()

    def _header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self._scope["headers"] if key.lower() == name), None)

    # What is answered.

    def _out(self, message: Message) -> list[Message]:
        """Return what goes out for one message of vLLM's; when ours fails, all that was kept as it came."""
        start, held = self._start, b"" if self._stream is None else self._stream.held
        out = None if self._passes else self._guarded(self._through, message)
        if out is None:
            self._start = self._stream = None
            out = [{**message, "body": held + message.get("body", b"")} if held else message]
            out = out if start is None else [start, *out]
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._is_whole = not self._has_left
        return out

    def _through(self, message: Message) -> list[Message] | None:
        """Return what goes out for one message; None: from now on all of it as it is."""
        kind = message["type"]
        if kind == "http.response.start":
            return self._begin(message)
        if kind != "http.response.body":
            self._passes = True
            return None
        return self._whole(message) if self._stream is None else self._piece(message, self._stream)

    def _begin(self, start: Message) -> list[Message] | None:
        """Keep the head of a plain answer, which its figure stands in; let that of a stream go."""
        headers = {name.lower(): value for name, value in start.get("headers", ())}
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        self._has_failed = start["status"] >= _REFUSED
        is_plain = headers.get(b"content-encoding", b"identity") == b"identity"
        if is_plain and not self._has_failed and kind == b"text/event-stream":
            self._stream = Stream(self._figure, answers=self._answers)
            told = embed.headers_of(head(self._handle.trace_id, url=self._url)) if self._handle.trace_id else []
            return [{**start, "headers": [*start.get("headers", ()), *_raw(told)]}]
        if is_plain and not self._has_failed and kind == b"application/json":
            self._start = start
            return []
        self._passes = True
        return None

    def _piece(self, message: Message, stream: Stream) -> list[Message]:
        """Return what goes out for a piece of a stream: it, or nothing where it may be the last data."""
        is_first, is_last = not stream.events, not message.get("more_body", False)
        out = stream.feed(message.get("body", b""))
        if is_first and stream.events:
            self._handle.response_id = stream.used.response_id
            self._handle.first_token()
        if is_last:
            out += stream.end()
        return [{**message, "body": out}] if out or is_last else []

    def _whole(self, message: Message) -> list[Message] | None:
        """Return what goes out for a plain answer; one that comes in pieces, or is large, is left as it is."""
        start, body = self._start, message.get("body", b"")
        if start is None or message.get("more_body", False) or len(body) > MOST_READ_BYTES:
            self._passes = True
            return None
        told = self._figure(usage.read(body))
        body = embed.into_body(body, told)
        headers = [
            (name, b"%d" % len(body) if name.lower() == b"content-length" else value)
            for name, value in start.get("headers", ())
        ]
        self._start = None
        return [{**start, "headers": [*headers, *_raw(embed.headers_of(told))]}, {**message, "body": body}]

    def _figure(self, used: Used) -> Mapping[str, Any]:
        """Return what is known of the call now."""
        handle = self._handle
        handle.response_id = handle.response_id or used.response_id
        handle.usage(prompt=used.prompt, cached=used.cached, output=used.output)
        self._has_failed = self._has_failed or used.failed
        known = self._desk.known(handle, self._counted(used), self._answers)
        return figure(handle.trace_id or handle.response_id, known, url=self._url)

    def _counted(self, used: Used) -> Used:
        """Return the tokens of all sequences: as vLLM's front end has counted them, else as the answer says."""
        ends = finished(self._handle.response_id) if self._handle.response_id else []
        if len(ends) == self._answers:
            prompt, cached, output = (sum(many) for many in zip(*(end[3:] for end in ends), strict=True))
            return replace(used, prompt=prompt, cached=cached, output=output)
        each = self._answers // self._prompts
        if each == 1 or used.prompt is None:
            return used
        return replace(used, prompt=used.prompt * each, cached=None)  # what one of them had cached, others may not

    def _end(self) -> None:
        if self._has_failed:
            self._handle.fail()
            self._handle.finish()
        else:
            self._handle.finish("" if self._is_whole else "aborted")


def _several(body: bytes) -> tuple[int, int]:
    """Return how many answers a body asks for, to how many prompts."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return 1, 1
    if not isinstance(asked, dict):
        return 1, 1
    return several(asked.get("n"), asked.get("prompt"))


def _raw(headers: list[tuple[str, str]]) -> Headers:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers]
