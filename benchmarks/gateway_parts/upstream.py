"""A stand-in of an OpenAI-compatible server that costs next to nothing: `python -m ...upstream PORT`.

The model's name says how it answers: `burst` sends events as fast as they are taken, `paced` one each 5 ms, `single`
each byte by itself, `large` events of 100 kB; `max_tokens` says how many events.
"""

import asyncio
import json
import sys
from typing import Any, cast

import uvloop

PACE_SECONDS = 0.005
LARGE_BYTES = 100_000
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Answering(asyncio.Protocol):
    """One connection, kept open; one call after the other."""

    def __init__(self) -> None:
        self._held = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self._held += data
        head, blank, rest = self._held.partition(b"\r\n\r\n")
        if not blank:
            return
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        if len(rest) < length:
            return
        self._held = rest[length:]
        asked = json.loads(rest[:length]) if length else {}
        if not asked.get("stream"):
            self._whole(asked)
            return
        task = asyncio.get_running_loop().create_task(self._stream(asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _whole(self, asked: dict[str, Any]) -> None:
        usage = {"prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 120}
        message = {"role": "assistant", "content": "word " * 100}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        told = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": asked.get("model", "")}
        body = json.dumps({**told, "choices": [choice], "usage": usage}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)

    async def _stream(self, asked: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        model = asked["model"]
        self._transport.write(HEAD)
        due = loop.time()
        for event in events(model, int(asked.get("max_tokens", 100))):
            for piece in (event[i : i + 1] for i in range(len(event))) if model == "single" else (event,):
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                due += PACE_SECONDS
                await asyncio.sleep(max(due - loop.time(), 0) if model == "paced" else 0)
            while self._transport.get_write_buffer_size() > 1 << 20:
                await asyncio.sleep(0.0005)
        self._transport.write(b"0\r\n\r\n")


def events(model: str, count: int) -> list[bytes]:
    """Return the events of a stream, as vLLM sends them."""
    text = "x" * LARGE_BYTES if model == "large" else " word"
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    token = b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"
    last = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": count, "total_tokens": 20 + count}
    ends = [{**head, "choices": [last]}, {**head, "choices": [], "usage": usage}]
    return [token] * count + [b"data: " + json.dumps(end).encode() + b"\n\n" for end in ends] + [b"data: [DONE]\n\n"]


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
