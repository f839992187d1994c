"""Answers of the gateway's own: JSON, and what is refused, in the form that OpenAI's clients understand."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from inferwatt.gateway.headers import Raw

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refused(Exception):
    """A call that is not passed on: status, what is wrong, and what to do."""

    def __init__(self, status: int, what: str, fix: str, *, closes: bool = False) -> None:
        super().__init__(what)
        self.status, self.what, self.fix, self.closes = status, what, fix, closes


class Left(Exception):
    """The client has left before its call was whole."""


async def say(send: Send, status: int, body: Any, headers: list[Raw] | None = None) -> None:  # noqa: ANN401
    """Answer with JSON."""
    await say_bytes(send, status, msgspec.json.encode(body), headers or [])


async def say_bytes(send: Send, status: int, body: bytes, headers: list[Raw]) -> None:
    """Answer with a body that is there."""
    named = {name for name, _ in headers}
    more = [] if b"content-type" in named else [(b"content-type", b"application/json")]
    if b"content-length" not in named:
        more.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *more]})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, refused: Refused) -> None:
    """Say what is wrong and what to do."""
    told = {"message": f"{refused.what}. {refused.fix}", "type": "inferwatt_gateway", "code": refused.status}
    extra: list[Raw] = [(b"connection", b"close")] if refused.closes else []
    if refused.status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    await say(send, refused.status, {"error": told}, extra)


async def body_of(scope: Mapping[str, Any], receive: Receive, most_bytes: int, most_seconds: float) -> bytes:
    """Return a call's body.

    Raises:
        Refused: it is larger than allowed, of which nothing more is read, or it takes too long to come.
        Left: its client went away.
    """
    too_large = Refused(413, f"the body is larger than {most_bytes} bytes", "Send less.", closes=True)
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > most_bytes:
            raise too_large
    try:
        async with asyncio.timeout(most_seconds):
            return await _whole(receive, most_bytes, too_large)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {most_seconds} s", "Send it faster.", closes=True) from None


async def _whole(receive: Receive, most_bytes: int, too_large: Refused) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Left
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > most_bytes:
            raise too_large
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
