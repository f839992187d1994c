"""The demo's clients, as a child process: `python -m inferwatt.demo.load --server URL`.

Each request is a real one, told to the agent by the SDK, as a user's code would do it. On SIGTERM no new request is
sent, those in flight get a second to end, and the rest leave; then one JSON line says what the clients saw.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from types import FrameType
from typing import TYPE_CHECKING, Any

import inferwatt
from inferwatt.demo.client import Call, ServerRefused, Used
from inferwatt.demo.plan import Arrival, plan, read_tenants
from inferwatt.demo.server import MODEL_ALIAS

if TYPE_CHECKING:
    from inferwatt import RequestHandle

MAX_IN_FLIGHT = 6
"""More than the server's slots, so that requests also wait in its queue."""
GRACE_SECONDS = 1.0
_BACK_OFF_SECONDS = 0.5
_BROKEN = (OSError, HTTPException, ServerRefused)


@dataclass(slots=True)
class Seen:
    """What the clients saw, to be compared with what the meter and the server say."""

    finished: int = 0
    aborted: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def add(self, used: Used) -> None:
        """Add one request's tokens, as far as its client knows them."""
        self.prompt_tokens += used.prompt_tokens or 0
        self.cached_tokens += used.cached_tokens or 0
        self.output_tokens += used.output_tokens or 0


@dataclass(slots=True)
class _Asked:
    """What one client knows of its request so far."""

    used: Used = field(default_factory=Used)
    left: bool = False


class Load:
    """Sends the arrivals of a plan to a server, at most `max_in_flight` at once."""

    def __init__(self, server: str, *, model: str = MODEL_ALIAS, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self.seen = Seen()
        self._server = server
        self._model = model
        self._places = threading.Semaphore(max_in_flight)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        self._cut = False
        self._threads: list[threading.Thread] = []

    def run(self, arrivals: Iterator[Arrival]) -> None:
        """Send until `stop` is called or the arrivals end, then let those in flight end, and cut the rest."""
        next_at = time.monotonic()
        for arrival in arrivals:
            next_at += arrival.wait_seconds
            if self._stopping.wait(max(0.0, next_at - time.monotonic())) or not self._take_a_place():
                break
            thread = threading.Thread(target=self._client, args=(arrival,), daemon=True)
            self._threads = [*(other for other in self._threads if other.is_alive()), thread]
            thread.start()
        self._end()

    def stop(self) -> None:
        """Send nothing more; safe in a signal handler."""
        self._stopping.set()

    def _take_a_place(self) -> bool:
        while not self._places.acquire(timeout=0.1):
            if self._stopping.is_set():
                return False
        return True

    def _end(self) -> None:
        until = time.monotonic() + (GRACE_SECONDS if self._stopping.is_set() else float("inf"))
        for thread in self._threads:
            thread.join(min(max(0.0, until - time.monotonic()), threading.TIMEOUT_MAX))
        with self._lock:
            self._cut = True
            for call in self._calls:
                call.cut()
        for thread in self._threads:
            thread.join(GRACE_SECONDS)

    def _client(self, arrival: Arrival) -> None:
        call = Call(self._server, request_body(arrival, self._model))
        try:
            with self._lock:
                if self._cut:
                    return
                self._calls.add(call)
            self._ask(arrival, call)
        finally:
            with self._lock:
                self._calls.discard(call)
            call.close()
            self._places.release()

    def _ask(self, arrival: Arrival, call: Call) -> None:
        """Make one call as a user's code would: the SDK around it, tokens told when it ends."""
        asked = _Asked()
        try:
            with inferwatt.request(model=self._model, tenant=arrival.tenant) as record:
                try:
                    self._follow(arrival, call, asked, record)
                finally:
                    used = asked.used
                    record.usage(prompt=used.prompt_tokens, cached=used.cached_tokens, output=used.output_tokens)
                if asked.left:
                    record.abort()
        except _BROKEN:
            self._count("failed", asked.used)
            self._stopping.wait(_BACK_OFF_SECONDS)
        else:
            self._count("aborted" if asked.left else "finished", asked.used)

    def _follow(self, arrival: Arrival, call: Call, asked: "_Asked", record: "RequestHandle") -> None:
        """Read the answer until it ends, its client has enough, or the load is over."""
        try:
            for told in call.tell():
                record.response_id = told.response_id
                if told.has_text and arrival.streamed:
                    record.chunk()
                asked.used = told.used if told.used != Used() else asked.used
                if _is_enough(arrival, asked.used):
                    asked.left = True
                    call.cut()
                    return
        except _BROKEN:
            if not self._cut:
                raise
            asked.left = True

    def _count(self, outcome: str, used: Used) -> None:
        with self._lock:
            setattr(self.seen, outcome, getattr(self.seen, outcome) + 1)
            self.seen.add(used)


def _is_enough(arrival: Arrival, used: Used) -> bool:
    return arrival.leaves_after_tokens is not None and (used.output_tokens or 0) >= arrival.leaves_after_tokens


def request_body(arrival: Arrival, model: str) -> dict[str, Any]:
    """Return the request's body; `timings_per_token` lets a client that leaves early know its tokens."""
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": arrival.max_tokens,
        "messages": [
            {"role": "system", "content": arrival.system},
            {"role": "user", "content": arrival.question},
        ],
    }
    if arrival.streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}, "timings_per_token": True}
    return body


def main(argv: list[str] | None = None) -> None:
    """Send requests until SIGTERM, then print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m inferwatt.demo.load")
    parser.add_argument("--server", required=True)
    parser.add_argument("--rate", type=float, default=1.0, help="requests a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    load = Load(options.server)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        load.stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    load.run(plan(read_tenants(), seed=options.seed, requests_per_second=options.rate))
    sys.stdout.write(json.dumps(asdict(load.seen)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
