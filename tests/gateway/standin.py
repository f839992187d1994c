"""A stand-in of a server that speaks by HTTP, in a process of its own: it says what its caller tells it to say.

`say` of a call's body is what it answers: `{"segments": [...], "kind": "text/event-stream"}` sends these bytes, each
segment latin-1 text and a chunk of its own. Without it, it answers as OpenAI's API is documented, with `max_tokens`
tokens.
"""

import asyncio
import json
import os
import sys
from typing import Any

from aiohttp import web

PAUSE_SECONDS = 0.01
DIES = 9


class Server:
    """What it was asked, and how it answers."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {
            "calls": 0,
            "left": 0,
            "tokens": 0,
            "polls": 0,
            "headers": [],
            "body": "",
            "path": "",
        }
        self.goes_on = asyncio.Event()

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/go", self.go)
        app.router.add_post("/{path:.*}", self.call)
        app.router.add_get("/v1/models{one:(/.*)?}", self.models)
        app.router.add_get("/seen", self.told)
        return app

    async def told(self, _request: web.Request) -> web.Response:
        """Say what was asked."""
        return web.json_response(self.seen)

    async def go(self, _request: web.Request) -> web.Response:
        """Let those go on that wait."""
        self.goes_on.set()
        return web.Response()

    async def models(self, _request: web.Request) -> web.Response:
        """Say the models."""
        self.seen["polls"] += 1
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})

    async def call(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        raw = await request.read()
        self.seen["calls"] += 1
        self.seen["headers"] = [[name.lower(), value] for name, value in request.headers.items()]
        self.seen["body"], self.seen["path"] = raw.decode("utf-8", "replace")[:4096], request.path_qs
        told = json.loads(raw)
        if told.get("unavailable", 0) >= self.seen["calls"]:
            return web.json_response({"error": {"message": "busy"}}, status=503, headers={"Retry-After": "0"})
        try:
            return await self._answer(request, told)
        except (ConnectionError, asyncio.CancelledError):
            self.seen["left"] += 1
            raise

    async def _answer(self, request: web.Request, told: dict[str, Any]) -> web.StreamResponse:
        say = told.get("say")
        if say is not None:
            return await self._say(request, say)
        if not told.get("stream"):
            await asyncio.sleep(told.get("pause", 0))
            return web.json_response(whole(told))
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for place, event in enumerate(events(told)):
            await response.write(event)
            self.seen["tokens"] += 1
            if told.get("dies_after") == place:
                os._exit(DIES)
            if told.get("waits_after") == place:
                await self.goes_on.wait()
                self.goes_on.clear()
            if "pause" in told:
                await asyncio.sleep(told["pause"])
        await response.write_eof()
        return response

    async def _say(self, request: web.Request, say: dict[str, Any]) -> web.StreamResponse:
        headers = {"content-type": say.get("kind", "text/event-stream"), **say.get("headers", {})}
        response = web.StreamResponse(status=say.get("status", 200), headers=headers)
        await response.prepare(request)
        for segment in say["segments"]:
            await response.write(segment.encode("latin-1"))
            await asyncio.sleep(say.get("pause", 0))
        if say.get("cut"):
            assert request.transport is not None
            await asyncio.sleep(PAUSE_SECONDS)
            request.transport.close()
            return response
        await response.write_eof()
        return response


def whole(told: dict[str, Any]) -> dict[str, Any]:
    """Return an answer in one piece."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "x" * told.get("size", 3)},
        "finish_reason": "stop",
    }
    return {"id": "chatcmpl-s", "object": "chat.completion", "created": 1, "model": told["model"], **usage(told)} | {
        "choices": [choice]
    }


def usage(told: dict[str, Any]) -> dict[str, Any]:
    """Return the usage of an answer."""
    tokens = told.get("max_tokens", 5)
    return {"usage": {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}}


def events(told: dict[str, Any]) -> list[bytes]:
    """Return the events of a streamed answer."""
    head = {"id": "chatcmpl-s", "object": "chat.completion.chunk", "created": 1, "model": told["model"]}
    text = "ä\u2028" + "x" * told.get("size", 1)
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": text}] * told.get("max_tokens", 5)
    said = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    said.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if (told.get("stream_options") or {}).get("include_usage"):
        said.append({**head, "choices": [], **usage(told)})
    return [b"data: " + json.dumps(one, ensure_ascii=False).encode() + b"\n\n" for one in said] + [b"data: [DONE]\n\n"]


if __name__ == "__main__":
    web.run_app(Server().app(), host="127.0.0.1", port=int(sys.argv[1]), print=None, handler_cancellation=True)
