"""A stand-in of an OpenAI-compatible server, in a process of its own, that counts what it was asked.

It speaks OpenAI's streams by the documented protocol, each token as one event, and says nothing sensible.
"""

import asyncio
import json
import os
import sys
import time
from typing import Any

from aiohttp import web


class Server:
    """What it was asked, and how it answers."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = dict.fromkeys(("calls", "left", "tokens", "polls", "left_at"), 0)

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/{path:.*}", self.call)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/seen", self.told)
        return app

    async def told(self, _request: web.Request) -> web.Response:
        """Say what was asked."""
        return web.json_response(self.seen)

    async def models(self, _request: web.Request) -> web.Response:
        """Say the models."""
        self.seen["polls"] += 1
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})

    async def call(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        self.seen["calls"] += 1
        self.seen["headers"] = {name.lower(): value for name, value in request.headers.items()}
        raw = await request.read()
        self.seen["body"] = raw.decode("utf-8", "replace")[:4096]
        told = json.loads(raw)
        tokens, pause = int(told.get("max_tokens", 5)), float(told.get("pause", 0))
        if told.get("unavailable", 0) >= self.seen["calls"]:
            return web.json_response({"error": {"message": "busy"}}, status=503, headers={"Retry-After": "0"})
        usage = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
        if not told.get("stream"):
            body = {"id": "chatcmpl-s", "object": "chat.completion", "created": 1, "model": told["model"]}
            body["usage"] = usage
            message = {"role": "assistant", "content": "x" * int(told.get("size", 3))}
            await asyncio.sleep(pause)
            return web.json_response({**body, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        try:
            await self._stream(response, told, tokens, pause, usage)
        except (ConnectionError, asyncio.CancelledError):
            self.seen["left"] += 1
            self.seen["left_at"] = time.time()
            raise
        return response

    async def _stream(
        self, response: web.StreamResponse, told: dict[str, Any], tokens: int, pause: float, usage: dict[str, int]
    ) -> None:
        head = {"id": "chatcmpl-s", "object": "chat.completion.chunk", "created": 1, "model": told["model"]}

        async def say(choices: list[dict[str, Any]], **more: Any) -> None:
            data = {**head, "choices": choices, **more}
            await response.write(b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n")

        await say([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        for place in range(tokens):
            text = "ä\u2028" + "x" * int(told.get("size", 1))
            await say([{"index": 0, "delta": {"content": text}, "finish_reason": None}])
            self.seen["tokens"] += 1
            if told.get("die_after") == place + 1:
                os._exit(9)
            if pause:
                await asyncio.sleep(pause)
        await say([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if (told.get("stream_options") or {}).get("include_usage"):
            await say([], usage=usage)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()


if __name__ == "__main__":
    web.run_app(Server().app(), host="127.0.0.1", port=int(sys.argv[1]), print=None, handler_cancellation=True)
