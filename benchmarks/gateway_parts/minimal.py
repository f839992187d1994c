"""A proxy that does nothing but pass bytes on, by the same server and client as ours: what they cost by themselves.

`python -m ...minimal PORT UPSTREAM`.
"""

import sys
from typing import Any

import aiohttp
import uvicorn

clients: list[aiohttp.ClientSession] = []


async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own
    """Pass one call on."""
    if not clients:
        clients.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False))
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    url = f"{sys.argv[2]}{scope['path']}"
    async with clients[0].post(url, data=body, headers={"content-type": "application/json"}) as answer:
        headers = [(b"content-type", answer.headers["content-type"].encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        async for data in answer.content.iter_any():
            await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="uvloop", access_log=False, log_level="critical")
