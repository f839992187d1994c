"""How soon a server is let go when a client leaves: both are here, the gateway between them."""

import asyncio
import time

from benchmarks.gateway_parts.load import Client
from benchmarks.gateway_parts.upstream import HEAD, events


class Endless(asyncio.Protocol):
    """A server that begins a stream and goes on for ever; it notes when its connection is lost."""

    def __init__(self, lost: asyncio.Queue[float]) -> None:
        self._lost = lost
        self._goes_on: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Begin the stream with the body of a call."""
        if b"model" in data and isinstance(self._transport, asyncio.Transport):
            self._transport.write(HEAD)
            self._go_on(self._transport)

    def _go_on(self, transport: asyncio.Transport) -> None:
        token = events("burst", 1)[0]
        transport.write(b"%x\r\n%b\r\n" % (len(token), token))
        self._goes_on = asyncio.get_running_loop().call_later(0.005, self._go_on, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note when."""
        if self._goes_on is not None:
            self._goes_on.cancel()
            self._lost.put_nowait(time.perf_counter())


async def serve(port: int) -> asyncio.Queue[float]:
    """Serve on a port until the loop ends; return where the times of lost connections are put."""
    lost: asyncio.Queue[float] = asyncio.Queue()
    await asyncio.get_running_loop().create_server(lambda: Endless(lost), "127.0.0.1", port)
    return lost


async def leave(port: int, key: str, lost: asyncio.Queue[float], times: int) -> list[float]:
    """Leave so many streams after their first bytes; return how many milliseconds later each server lost its client."""
    took = []
    for _ in range(times):
        client = Client(port, key)
        await client.begin("burst")
        left = time.perf_counter()
        await client.close()
        took.append((await asyncio.wait_for(lost.get(), 10) - left) * 1000)
    return took
