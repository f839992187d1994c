"""Bad servers beside a good one, by real sockets: bounded time and memory, words for each, the good one unharmed."""

import gzip
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from inferwatt.clock import SystemClock
from inferwatt.engines.scrape import Scraper, ScraperHealth
from inferwatt.engines.servers import EnginesConfig, Target
from inferwatt.engines.watch import TargetHealth
from inferwatt.records import Sums
from tests.engines.servers import http, raw_server

PATIENCE_SECONDS = 30.0
MEBIBYTE = 1 << 20
MOST_BYTES = 100 * MEBIBYTE
"""Of all servers together: a page is cut at 8 MiB, and is held once as it came and once as it is read."""
GOOD = http(b"llamacpp:tokens_predicted_total 7\nllamacpp:requests_processing 0\n")
LINES = b"x" * (MEBIBYTE - 1) + b"\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"
BAD = {
    "redirects": ((http(b"", "Location: http://127.0.0.1:9/", status="302 Found"),), "a redirect to"),
    "asks for a key": ((http(b"", status="401 Unauthorized"),), "answers 401"),
    "fails": ((http(b"oops", status="500 Internal Server Error"),), "answers 500"),
    "is another program": ((http(b"<html>"),), "HTML"),
    "has 200 MB": ((b"HTTP/1.1 200 OK\r\nContent-Length: 209715200\r\n\r\n", *[LINES] * 200), "page is longer than"),
    "streams for ever": ((ENDLESS, *[LINES] * 2000), "page is longer than"),
    "packs 200 MB": ((http(gzip.compress(bytes(200 * MEBIBYTE), 1), "Content-Encoding: gzip"),), "page is longer than"),
}


@pytest.fixture
def servers() -> Iterator[list[Target]]:
    """All bad ones, one that hangs, and a good one at the end."""
    with ExitStack() as stack:
        found = [Target(name, stack.enter_context(raw_server(*chunks)).url) for name, (chunks, _) in BAD.items()]
        found.append(Target("hangs", stack.enter_context(raw_server(GOOD, hold=True)).url))
        yield [*found, Target("good", stack.enter_context(raw_server(GOOD)).url)]


def waited(scraper: Scraper, seen: Callable[[ScraperHealth], bool]) -> dict[str, TargetHealth]:
    """Return how each server is, once that is seen."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and not seen(scraper.health()):
        time.sleep(0.05)
    return {target.name: target for target in scraper.health().targets}


def test_bad_servers_cost_little_and_harm_nobody(servers: list[Target]) -> None:
    """The good one is read on and on; each bad one is counted and said, and none gives a token."""
    emitted: list[object] = []
    config = EnginesConfig(scrape_seconds=0.1, timeout_seconds=3.0)
    scraper = Scraper(servers, SystemClock(), emitted.append, config, find_pids=lambda _url: frozenset())
    tracemalloc.start()
    try:
        scraper.start()
        told = waited(
            scraper,
            lambda health: all(
                one.pages >= 5 if one.name == "good" else one.failures or one.busy for one in health.targets
            ),
        )
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        scraper.stop()

    good, hangs = told.pop("good"), told.pop("hangs")
    assert (good.state, good.failures, good.pages >= 5) == ("up", 0, True)
    assert (hangs.busy > 0, hangs.pages) == (True, 0)
    for name, one in told.items():
        assert one.last_error is not None, name
        assert BAD[name][1] in one.last_error.what
        assert (one.pages, one.state) == (0, "unreadable")
    assert {item.engine for item in emitted if isinstance(item, Sums)} <= {"good"}
    assert peak_bytes < MOST_BYTES
    assert scraper.health().unforeseen_errors == 0
