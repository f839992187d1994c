"""A stand-in llama.cpp server, and its requests told by the SDK: `python -m benchmarks.doubles.load RATE`.

No model runs. Requests arrive at random (Poisson, the same in each run), have their first token after 0.05 s and end
after 0.32 s, so that about 32 are open at 100 a second. The page counts what the requests say: both agree. Requests
begin with the first line of the input, and with them a child of lowest priority that spins 30 ms of each 100 ms: the
engine must be seen to use the CPU, or no energy would be split among its requests.
"""

import heapq
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import inferwatt

FIRST_TOKEN_SECONDS = 0.05
END_SECONDS = 0.32
MODEL = "stand-in-7b"
MODELS = {"data": [{"id": MODEL, "owned_by": "llamacpp", "meta": {"n_params": 7_000_000_000, "size": 4_000_000_000}}]}
SPIN = """
import os, sys, threading, time
os.nice(19)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    until = time.thread_time() + 0.03
    while time.thread_time() < until:
        pass
    time.sleep(0.07)
"""


class Server(BaseHTTPRequestHandler):
    """The pages of a llama.cpp server that the scraper reads."""

    protocol_version = "HTTP/1.1"
    counted: ClassVar[dict[str, int]] = {
        "prompt_tokens_total": 0,
        "prompt_tokens_cached_total": 0,
        "tokens_predicted_total": 0,
        "requests_processing": 0,
        "requests_deferred": 0,
        "ended": 0,
    }

    def do_GET(self) -> None:
        """Answer the page, or the model."""
        if self.path == "/metrics":
            lines = [f"llamacpp:{name} {count}\n" for name, count in self.counted.items() if name != "ended"]
            body = "".join(lines).encode()
        else:
            body = json.dumps(MODELS if self.path == "/v1/models" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Process-Start-Time-Unix", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def run(requests_per_second: float) -> None:
    """Make requests at their times for ever."""
    chance = random.Random(7)
    due: list[tuple[float, int, Callable[[], None]]] = []
    arrival, number = time.monotonic(), 0
    while True:
        now = time.monotonic()
        while arrival <= now:
            for at, action in _request(arrival, chance):
                number += 1
                heapq.heappush(due, (at, number, action))
            arrival += chance.expovariate(requests_per_second)
        while due and due[0][0] <= now:
            heapq.heappop(due)[2]()
        time.sleep(max(min(arrival, due[0][0] if due else arrival) - time.monotonic(), 0.0))


def _request(arrival: float, chance: random.Random) -> list[tuple[float, Callable[[], None]]]:
    """Return what happens in one request, and when."""
    counted = Server.counted
    prompt, output = chance.randint(50, 500), chance.randint(10, 100)
    handle = inferwatt.request(model=MODEL, tenant=f"tenant-{chance.randrange(4)}")

    def start() -> None:
        handle.start()
        counted["requests_processing"] += 1

    def first_token() -> None:
        handle.first_token()
        counted["prompt_tokens_total"] += prompt

    def end() -> None:
        handle.usage(prompt=prompt, cached=0, output=output)
        handle.finish()
        counted["tokens_predicted_total"] += output
        counted["requests_processing"] -= 1
        counted["ended"] += 1

    return [(arrival, start), (arrival + FIRST_TOKEN_SECONDS, first_token), (arrival + END_SECONDS, end)]


def main() -> None:
    """Serve, make requests, and answer each line of the input until it ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps(f"http://127.0.0.1:{server.server_port}"), flush=True)
    requests_per_second = float(sys.argv[1])
    working = False
    for _ in sys.stdin:
        if requests_per_second and not working:
            working = True
            subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE)
            threading.Thread(target=run, args=(requests_per_second,), daemon=True).start()
        print(json.dumps(Server.counted), flush=True)


if __name__ == "__main__":
    main()
