"""An application that answers as vLLM does, by real Starlette, and calls as a server of ASGI makes them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 10, "completion_tokens": 3}
ANSWER = {"id": "chatcmpl-a", "model": "m", "choices": [], "usage": USAGE}
Message = dict[str, Any]


async def answer(request: Request) -> Response:
    """Answer as the body says: plain, by these pieces, of this kind, or not at all."""
    try:
        asked = await request.json()
    except ValueError:
        return JSONResponse({"error": "malformed"}, 400)
    if "raises" in asked:
        raise RuntimeError(asked["raises"])
    if "pieces" in asked:

        async def pieces() -> AsyncIterator[str]:
            for piece in asked["pieces"]:
                yield piece

        return StreamingResponse(pieces(), media_type=asked.get("kind", "text/event-stream"))
    named = {"name": request.headers.get("x-request-id"), "path": request.url.path}
    answered: Any = {**ANSWER, "choices": ["x" * asked.get("size", 0), named]}
    return JSONResponse(answered, headers=asked.get("headers"))


APPLICATION = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])


class Answered:
    """What a client got."""

    def __init__(self, sent: list[Message]) -> None:
        self.sent = sent
        self.status = sent[0]["status"] if sent else 0
        self.headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]} if sent else {}
        self.body = b"".join(message.get("body", b"") for message in sent)

    def object(self) -> Any:
        """Return the object in a plain answer."""
        return json.loads(self.body)["inferwatt"]


def ask(
    app: Any,
    body: Any = None,
    path: str = CHAT,
    headers: Mapping[str, str] | None = None,
    *,
    leaves: bool = False,
    version: str = "2.4",
    raw: bytes = b"",
) -> Answered:
    """Make a call as a server of ASGI does; `leaves`: the client goes before it has an answer."""
    sent: list[Message] = []
    given = json.dumps(body if body is not None else {}).encode() if not isinstance(body, bytes) else body
    parts = [
        {"type": "http.request", "body": given[:5], "more_body": True},
        {"type": "http.request", "body": given[5:]},
    ]
    wire = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": version}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": raw or path.encode(), "query_string": b"", "root_path": "",
        "headers": wire, "client": ("10.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip

    async def receive() -> Any:
        return parts.pop(0) if parts else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if leaves and message["type"] == "http.response.body":
            raise OSError("the client has left")
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return Answered(sent)
