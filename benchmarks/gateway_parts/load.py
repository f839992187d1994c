"""A client that costs next to nothing: bytes out, bytes in, and when the first and the last came."""

import asyncio
import json
import time
from dataclasses import dataclass

_END = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Took:
    """How long one call took, milliseconds: to the first byte of its body, and to its last."""

    first_ms: float
    whole_ms: float
    size: int


class Client:
    """One connection that is kept open."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, model: str, *, stream: bool, tokens: int = 100) -> Took:
        """Make one call, and return how long it took.

        Raises:
            RuntimeError: it was not answered, or not whole.
        """
        began = time.perf_counter()
        reader, told = await self._call(model, stream, tokens)
        if b"chunked" in told:
            return await _stream(reader, began)
        length = next(int(one[15:]) for one in told.split(b"\r\n") if one.startswith(b"content-length:"))
        await reader.readexactly(length)
        took = (time.perf_counter() - began) * 1000
        return Took(took, took, length)

    async def begin(self, model: str) -> None:
        """Make a call, and read the first bytes of its stream."""
        reader, _ = await self._call(model, True, 100)
        await reader.read(1)

    async def _call(self, model: str, stream: bool, tokens: int) -> tuple[asyncio.StreamReader, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 22)
        reader, writer = self._streams
        asked = {
            "model": model,
            "stream": stream,
            "max_tokens": tokens,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        body = json.dumps(asked).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {self._key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        told = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in told[:20]:
            raise RuntimeError(told.decode("latin-1"))
        return reader, told.lower()

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


async def _stream(reader: asyncio.StreamReader, began: float) -> Took:
    first_ms, size, end = 0.0, 0, b""
    while not end.endswith(_END):
        data = await reader.read(1 << 18)
        if not data:
            raise RuntimeError("the stream was cut")
        first_ms = first_ms or (time.perf_counter() - began) * 1000
        size += len(data)
        end = (end + data)[-len(_END) :]
    return Took(first_ms, (time.perf_counter() - began) * 1000, size)


async def many(port: int, key: str, model: str, *, clients: int, count: int, stream: bool = True) -> float:
    """Make so many calls by so many clients at once, and return how many seconds that took."""
    left = iter(range(count))

    async def work() -> None:
        client = Client(port, key)
        for _ in left:
            await client.ask(model, stream=stream)
        await client.close()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    return time.perf_counter() - began
