"""The live stream: server-sent events, once a second, to a bounded number of readers.

A reader is never waited for: each holds no queue, only a number of the last request that it has, and one that reads
nothing for half a minute is dropped, and counted.
"""

import asyncio
from typing import Final, Protocol, cast

from starlette.types import Receive, Scope, Send

from inferwatt.web.guard import PEER, Peer

MOST_READERS: Final = 64
PERIOD_SECONDS: Final = 1.0
STUCK_SECONDS: Final = 30.0
QUIET_PERIODS: Final = 5
"""Periods without news after which a comment is sent, so that a reader that is gone is noticed."""
HEARTBEAT: Final = b": still here\n\n"

HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Seats:
    """How many may read at once; who may see everything always finds half of the places free of others."""

    def __init__(self, most: int = MOST_READERS) -> None:
        self.most = most
        self.taken = {True: 0, False: 0}
        self.dropped = 0

    def take(self, details: bool) -> bool:
        """Take a place, and say whether there was one."""
        free = self.taken[True] + self.taken[False] < self.most
        if not free or (not details and self.taken[False] >= self.most // 2):
            return False
        self.taken[details] += 1
        return True

    def leave(self, details: bool) -> None:
        """Give a place back."""
        self.taken[details] -= 1


class News(Protocol):
    """What one reader is told, and how far it has been told."""

    def next(self) -> bytes:
        """Return the events since the last call; nothing where there are none."""
        ...


class LiveStream:
    """One reader's stream, as an ASGI response; its seat is given back at the end."""

    def __init__(self, news: News, seats: Seats, details: bool, period_seconds: float) -> None:
        self.news = news
        self.seats = seats
        self.details = details
        self.period_seconds = period_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader goes, or is stuck."""
        gone = asyncio.ensure_future(_left(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await self._push(send, gone)
        except TimeoutError:
            self.seats.dropped += 1
            if PEER in scope:
                cast(Peer, scope[PEER]).abort()
        finally:
            gone.cancel()
            self.seats.leave(self.details)

    async def _push(self, send: Send, gone: asyncio.Future[None]) -> None:
        quiet = 0
        while not gone.done():
            body = self.news.next()
            quiet = 0 if body else quiet + 1
            if quiet % QUIET_PERIODS == 0:
                message = {"type": "http.response.body", "body": body or HEARTBEAT, "more_body": True}
                await asyncio.wait_for(send(message), STUCK_SECONDS)
            await asyncio.wait({gone}, timeout=self.period_seconds)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
