"""What the real llama.cpp server's counters say, and when they move: the attribution depends on these facts."""

import http.client
import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from inferwatt.clock import SystemClock
from inferwatt.engines.candidates import FoundEngines
from inferwatt.engines.discover import llamacpp
from inferwatt.engines.glance import glances
from inferwatt.engines.scrape import Emitted, EngineSeen, Scraper
from inferwatt.engines.servers import EnginesConfig, Target
from inferwatt.records import Event, EventKind, Sums
from inferwatt.testing import FakeClock
from inferwatt.units import NS_PER_SECOND
from tests.real.conftest import LlamaCpp, LlamaCppProcess, free_port
from tests.real.pages import wait_for

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 60.0
Body = dict[str, Any]


class Watched:
    """A scraper of a real server that looks when it is told to, and what it has emitted."""

    def __init__(self, url: str) -> None:
        self.emitted: list[Emitted] = []
        self._clock = FakeClock()
        self._scraper = Scraper([Target("e", url)], self._clock, self.emitted.append, EnginesConfig(timeout_seconds=10))
        self.look()

    def look(self) -> Sums | None:
        """Look at the page now, and return what it said."""
        self._clock.advance(20 * NS_PER_SECOND)  # past any back-off
        self._scraper.step(self._clock.monotonic_ns())
        last = self.emitted[-1] if self.emitted else None
        return last if isinstance(last, Sums) else None

    def until(self, seen: Callable[[Sums], bool]) -> Sums:
        """Look again and again until a page says what is waited for."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            sums = self.look()
            if sums is not None and seen(sums):
                return sums
            time.sleep(0.002)
        pytest.fail(f"not seen within {PATIENCE_SECONDS} s; last: {self.emitted[-3:]}")

    def idle(self) -> None:
        """Wait until the server has nothing to do, and look once more: gauge and counters need not move together."""
        self.until(lambda sums: sums.running == 0 and sums.waiting == 0)
        time.sleep(0.02)
        self.look()

    def tokens(self) -> tuple[int, int, int]:
        """All (computed, cached, output) tokens so far."""
        sums = [item for item in self.emitted if isinstance(item, Sums)]
        return (
            sum(item.prompt_tokens or 0 for item in sums),
            sum(item.cached_tokens or 0 for item in sums),
            sum(item.output_tokens or 0 for item in sums),
        )

    def close(self) -> None:
        """Give the connection back."""
        self._scraper.stop()


@pytest.fixture
def watched(llamacpp_server: LlamaCpp) -> Iterator[Watched]:
    """The real server, idle, under watch from now on."""
    with closing(Watched(llamacpp_server.url)) as watched:
        watched.idle()
        yield watched


def ask(url: str, body: Body) -> http.client.HTTPConnection:
    """Send a chat completion; the answer is the caller's to read, or to leave."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection


def timings(url: str, body: Body) -> tuple[int, int, int]:
    """Send a chat completion, read all of it, and return its own (computed, cached, output) tokens."""
    with closing(ask(url, body)) as connection:
        text = connection.getresponse().read().decode()
    answers = [text]
    if body.get("stream"):
        answers = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
    told = [answer["timings"] for answer in map(json.loads, answers) if "timings" in answer][-1]
    return told["prompt_n"], told["cache_n"], told["predicted_n"]


def chat(question: str, system: str = "", **more: object) -> Body:
    """Return a chat completion's body."""
    messages = [{"role": "system", "content": system}] if system else []
    return {"messages": [*messages, {"role": "user", "content": question}], **more}


def chunks(connection: http.client.HTTPConnection) -> Generator[Body, None, None]:
    """Yield a streamed answer's chunks as they come."""
    for line in connection.getresponse():
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


def test_the_server_is_found_without_configuration(llamacpp_server: LlamaCpp) -> None:
    """Discovery finds a llama.cpp that lives inside a Python process, with its pid, on a port that hints at nothing."""
    found = llamacpp(EnginesConfig())
    port = urlsplit(llamacpp_server.url).port

    pids, why = frozenset({llamacpp_server.pid}), "its process, and its own word"
    expected = Target(f"llamacpp:{port}", llamacpp_server.url, "llamacpp", pids=pids, why=why)
    assert expected in found.engines
    assert not [lack for lack in found.lacks if f"llamacpp:{port}" in lack.what]


def test_a_server_without_its_metrics_is_found_and_the_flag_is_named() -> None:
    """A server that was started without --metrics is a lack with that flag, and its model is known all the same."""
    with LlamaCppProcess(metrics=False) as server:

        def look() -> FoundEngines | None:  # who listens is looked at once a second
            found = llamacpp(EnginesConfig())
            return found if server.url in {target.url for target in found.engines} else None

        found = wait_for("the server", look)
        with closing(Watched(server.url)) as watched:
            seen = watched.emitted[0]

        targets = [target for target in found.engines if target.url == server.url]
        (looked,) = glances(targets, EnginesConfig(), SystemClock())

    assert [lack.fix for lack in looked.lacks] == ["start the server with --metrics"]
    assert isinstance(seen, EngineSeen)
    assert seen.pids == {server.pid}


def test_the_server_says_which_model_it_has(watched: Watched, llamacpp_server: LlamaCpp) -> None:
    """Name without a path, parameters and bytes of the weights as the server has them loaded, and its process."""
    seen = next(item for item in watched.emitted if isinstance(item, EngineSeen))

    assert (seen.engine.model, seen.engine.kind, seen.pids) == (
        "SmolLM2-135M-Instruct.Q4_1",
        "llamacpp",
        frozenset({llamacpp_server.pid}),
    )
    assert (seen.model.flops_per_token, seen.model.weight_bytes) == (2.0 * 134_515_008, 96_576_768.0)


def test_scraped_sums_equal_what_the_answers_say(watched: Watched, llamacpp_server: LlamaCpp) -> None:
    """Streamed or not, with a shared system prompt or without: computed, cached and output agree to the token."""
    system = "You are a careful assistant that names its sources. " * 8
    bodies = [
        chat("What is a joule?", system, max_tokens=12),
        chat("What is a watt?", system, max_tokens=12),
        chat("Count to ten.", max_tokens=20, stream=True),
        chat("What is a volt?", system, max_tokens=9, stream=True),
    ]
    told = [timings(llamacpp_server.url, body) for body in bodies]
    watched.idle()

    assert watched.tokens() == tuple(sum(column) for column in zip(*told, strict=True))
    assert told[1][1] > 50, "the shared system prompt was not cached"


def test_when_the_counters_move(watched: Watched, llamacpp_server: LlamaCpp) -> None:
    """Cached tokens count as a prompt starts, computed ones as it ends; output as it is made, by the slots."""
    system = "You know the sea and tell of it at length. " * 20
    timings(llamacpp_server.url, chat("Hello.", system, max_tokens=1))
    watched.idle()
    begun = watched.tokens()
    with closing(
        ask(llamacpp_server.url, chat("Tell of it. " * 30, system, max_tokens=60, stream=True, ignore_eos=True))
    ) as connection:
        watched.until(lambda sums: bool(sums.cached_tokens))
        at_start = watched.tokens()
        answer = chunks(connection)
        for _ in range(30):
            next(answer)
        watched.look()
        in_decode = watched.tokens()
        rest = list(answer)
    watched.idle()
    ended = watched.tokens()

    told = [chunk["timings"] for chunk in rest if "timings" in chunk][-1]
    assert (at_start[0], at_start[1] - begun[1], at_start[2]) == (begun[0], told["cache_n"], begun[2])
    assert in_decode[0] - begun[0] == told["prompt_n"]
    assert 29 <= in_decode[2] - begun[2] <= 60
    assert (ended[0], ended[2] - begun[2]) == (in_decode[0], told["predicted_n"])


def test_without_slots_output_counts_when_the_request_ends() -> None:
    """`--no-slots`: the counter alone, which stands still until then."""
    with LlamaCppProcess(slots=False) as server, closing(Watched(server.url)) as watched:
        watched.idle()
        with closing(ask(server.url, chat("Count.", max_tokens=60, stream=True, ignore_eos=True))) as connection:
            answer = chunks(connection)
            for _ in range(30):
                next(answer)
            watched.look()
            in_decode = watched.tokens()[2]
            list(answer)
        watched.idle()

    assert (in_decode, watched.tokens()[2]) == (0, 60)


def test_a_streaming_client_that_leaves_stops_the_work_and_its_tokens_are_counted(
    watched: Watched, llamacpp_server: LlamaCpp
) -> None:
    """In decoding the server stops at the next token it cannot deliver, and counts what it had made until then."""
    begun = watched.tokens()[2]
    with closing(
        ask(llamacpp_server.url, chat("Tell a long story.", max_tokens=1500, stream=True, ignore_eos=True))
    ) as connection:
        answer = chunks(connection)
        for _ in range(20):
            next(answer)
        answer.close()
    watched.idle()

    assert 19 <= watched.tokens()[2] - begun < 300


def test_a_client_that_leaves_in_its_prompt_is_noticed_only_after_it(
    watched: Watched, llamacpp_server: LlamaCpp
) -> None:
    """The whole prompt is computed and counted, then the first tokens that nobody takes end the request."""
    begun = watched.tokens()
    with closing(
        ask(
            llamacpp_server.url,
            chat(" ".join(f"n{i}" for i in range(120)), max_tokens=1500, stream=True, ignore_eos=True),
        )
    ):
        watched.until(lambda sums: sums.running == 1)
    watched.idle()
    computed, _, output = (now - then for now, then in zip(watched.tokens(), begun, strict=True))

    assert computed > 300
    assert 1 <= output < 100


def test_a_client_that_leaves_without_streaming_is_served_to_the_end(
    watched: Watched, llamacpp_server: LlamaCpp
) -> None:
    """The server does not notice: it computes all tokens that were asked for, and counts them at the end."""
    begun = watched.tokens()[2]
    with closing(ask(llamacpp_server.url, chat("Tell a story.", max_tokens=300, ignore_eos=True))):
        watched.until(lambda sums: sums.running == 1)
    watched.idle()

    assert watched.tokens()[2] - begun == 300


def test_a_killed_and_restarted_server_is_a_new_epoch() -> None:
    """The model was unloaded and loaded; what the new process counted since is counted once and never negative."""
    port = free_port()
    with LlamaCppProcess(port=port) as server:
        watched = Watched(server.url)
        first = timings(server.url, chat("Hello.", max_tokens=8, ignore_eos=True))
        watched.idle()
    watched.look()
    with LlamaCppProcess(port=port) as server:
        second = timings(server.url, chat("Hello.", max_tokens=5, ignore_eos=True))
        watched.idle()
        watched.close()

    assert watched.tokens() == tuple(a + b for a, b in zip(first, second, strict=True))
    assert [item.kind for item in watched.emitted if isinstance(item, Event)] == [
        EventKind.MODEL_LOAD,
        EventKind.MODEL_UNLOAD,
        EventKind.MODEL_LOAD,
    ]
