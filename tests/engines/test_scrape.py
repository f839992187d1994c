import itertools
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.engines.fetch import Answer
from inferwatt.engines.scrape import Emitted, EngineSeen, Scraper
from inferwatt.engines.servers import Target
from inferwatt.records import Engine, Event, EventKind, Model, Place, Sums
from inferwatt.testing import FakeClock
from inferwatt.units import NS_PER_SECOND
from tests.engines.bench import TARGET, Bench, bench
from tests.engines.servers import FakeLlama

__all__ = ["bench"]


def test_a_found_server_is_introduced_with_its_model_and_processes(bench: Bench) -> None:
    """The first page says who the server is and that its model is loaded; it counts no work of before."""
    bench.server.prompt = 1_000
    start_ns = bench.clock.monotonic_ns()

    assert bench.second() == [
        EngineSeen(
            start_ns,
            Engine("llamacpp:8080", "tiny", server="llamacpp:8080", kind="llamacpp"),
            Model("tiny", weight_bytes=4000.0, flops_per_token=2000.0),
            frozenset({4242}),
            "http://127.0.0.1:8080",
            "b1",
        ),
        Event(start_ns, EventKind.MODEL_LOAD, engine="llamacpp:8080", detail="its page answers"),
    ]
    assert bench.health.state == "up"
    assert bench.health.model == "tiny"


def test_sums_are_what_was_counted_between_two_pages(bench: Bench) -> None:
    """Work between two pages is emitted once, with the times of both pages and the gauges of the second."""
    bench.second()
    first_ns = bench.clock.monotonic_ns() - NS_PER_SECOND
    bench.server.prompt, bench.server.cached, bench.server.output = 10, 20, 30
    bench.server.running, bench.server.waiting = 4, 2

    sums = Sums(first_ns, first_ns + NS_PER_SECOND, "llamacpp:8080", 10, 20, 30, running=4, waiting=2)
    idle = Sums(first_ns + NS_PER_SECOND, first_ns + 2 * NS_PER_SECOND, "llamacpp:8080", 0, 0, 0, running=4, waiting=2)
    assert bench.second(2) == [sums, idle]


def test_a_counter_that_fell_is_a_restart_and_never_negative(bench: Bench) -> None:
    """Row 9: what a fallen counter shows was done since; the model was unloaded and loaded again."""
    bench.server.start = ""
    bench.server.output = 500
    bench.second()
    bench.server.output = 7
    emitted = bench.second()

    assert bench.tokens() == (0, 0, 7)
    assert [item.kind for item in emitted if isinstance(item, Event)] == [EventKind.MODEL_UNLOAD, EventKind.MODEL_LOAD]
    assert bench.health.restarts == 1


def test_another_process_with_higher_counters_is_a_restart(bench: Bench) -> None:
    """A restart is told by the server's start, also where its counters have already grown past the old ones."""
    bench.server.output = 5
    bench.second()
    bench.server.restart("200")
    bench.server.output = 9
    bench.second()

    assert bench.tokens() == (0, 0, 9)
    assert bench.events == [EventKind.MODEL_LOAD, EventKind.MODEL_UNLOAD, EventKind.MODEL_LOAD]


def test_all_work_of_a_server_that_came_while_we_looked_is_counted(bench: Bench) -> None:
    """A process that was not there at the last look began at zero: its first page is all new work."""
    bench.server.die()
    bench.second(2)
    bench.server.load()
    bench.second(8)
    bench.server.restart("300")
    bench.server.output = 12
    bench.second(10)

    assert bench.tokens() == (0, 0, 12)
    assert bench.health.restarts == 0
    assert bench.events == [EventKind.MODEL_LOAD]


def test_loading_is_no_failure(bench: Bench) -> None:
    """503 `Loading model` is asked again at the usual pace, and is not counted as a failure of a dead server."""
    bench.server.load()
    bench.second(5)

    assert (bench.health.state, bench.health.failures) == ("loading", 0)
    assert bench.server.asked == ["/metrics"] * 5


def test_the_same_process_that_was_out_of_reach_goes_on_where_it_was(bench: Bench) -> None:
    """What was counted while the port refused us, by a process that did not restart, is counted once."""
    bench.server.output = 100
    bench.second()
    bench.server.die()
    bench.second(3)
    bench.server.serve()
    bench.server.output = 130
    bench.second(15)

    assert bench.tokens() == (0, 0, 30)
    assert bench.health.restarts == 0
    assert bench.events == [EventKind.MODEL_LOAD, EventKind.MODEL_UNLOAD, EventKind.MODEL_LOAD]


def test_a_dead_server_is_looked_for_at_growing_intervals(bench: Bench) -> None:
    """A server that is gone is asked less and less often, at last every 10 s, and found again."""
    bench.second()
    asked = len(bench.server.asked)
    bench.server.die()
    bench.second(60)

    assert (bench.health.state, bench.health.is_up) == ("down", False)
    assert 6 <= len(bench.server.asked) - asked <= 10
    bench.server.restart("400")
    bench.second(10)
    assert bench.health.state == "up"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>502</html>", {}),
        Answer(200, b"", {}),
        Answer(500, b"oops", {}),
        Answer(503, b"busy", {}),
        Answer(200, b"\x00\xff" * 1000, {}),
    ],
)
def test_a_page_that_is_none_costs_no_tokens_and_is_said(bench: Bench, answer: Answer) -> None:
    """Rows 11 and 12: garbage changes no total; after some of it the server is unreadable; a good page heals it."""
    bench.server.output = 10
    bench.second()
    bench.server.answers["/metrics"] = answer
    bench.second(20)
    assert bench.health.state == "unreadable"
    assert bench.health.last_error is not None
    assert "llamacpp:8080" in bench.health.last_error.where

    bench.server.serve()
    bench.server.output = 15
    bench.second(12)
    healed = bench.health
    assert bench.tokens() == (0, 0, 5)
    assert healed.state == "up"
    assert healed.last_error is None


def test_metrics_that_are_off_are_named_with_their_flag_and_the_server_is_known(bench: Bench) -> None:
    """A llama.cpp server without --metrics answers 501: its model and processes are told all the same."""
    bench.server.answers["/metrics"] = Answer(501, b'{"error":{"code":501}}', {})
    bench.second(3)

    assert len(bench.of(EngineSeen)) == 1
    assert bench.health.state == "no_metrics"
    assert bench.health.last_error is not None
    assert "--metrics" in bench.health.last_error.fix


def test_a_busy_server_is_not_down(bench: Bench) -> None:
    """A server that has the question and does not answer yet is busy; its work is in the next page."""
    bench.second()
    bench.server.answers["/metrics"] = None
    bench.second(30)
    assert (bench.health.state, bench.health.failures, bench.health.is_up) == ("busy", 0, True)
    bench.server.serve()
    bench.server.output = 3
    bench.second()

    assert bench.tokens() == (0, 0, 3)


def test_a_server_that_answers_no_more_to_models_is_still_metered(bench: Bench) -> None:
    """Without /v1/models the model is unknown, the empty label, and the tokens are counted."""
    bench.server.answers["/v1/models"] = Answer(404, b"", {})
    bench.second()
    bench.server.output = 3
    bench.second()

    seen = bench.of(EngineSeen)[0]
    assert isinstance(seen, EngineSeen)
    assert seen.model == Model("")
    assert bench.tokens() == (0, 0, 3)


def test_prompt_tokens_that_include_the_cached_ones_are_told_apart() -> None:
    """VLLM counts cached tokens into its prompts, with labels, over several engines: computed is the rest."""
    server, emitted, clock = FakeLlama(), list[Emitted](), FakeClock()
    target = Target("vllm", "http://127.0.0.1:8000", "vllm", "m")
    scraper = Scraper([target], clock, emitted.append, fetch=lambda _u, _t: server, find_pids=lambda _u: frozenset())
    for prompt, cached in (((0, 0), 0), ((30, 12), 16)):
        text = (
            f'vllm:prompt_tokens_total{{engine="0"}} {prompt[0]}\nvllm:prompt_tokens_total{{engine="1"}} {prompt[1]}\n'
        )
        text += f'vllm:prompt_tokens_cached_total{{engine="0"}} {cached}\nvllm:num_requests_running{{engine="0"}} 2\n'
        server.answers["/metrics"] = Answer(200, text.encode(), {})
        scraper.step(clock.monotonic_ns())
        clock.advance(NS_PER_SECOND)

    sums = [item for item in emitted if isinstance(item, Sums)]
    assert [(item.prompt_tokens, item.cached_tokens, item.output_tokens, item.running) for item in sums] == [
        (26, 16, None, 2)
    ]


def test_an_emit_that_fails_does_not_end_the_thread(bench: Bench) -> None:
    """Whatever goes wrong in a step is counted at the thread's border, and the thread goes on."""
    called = threading.Event()

    def emit(_item: Emitted) -> None:
        called.set()
        raise RuntimeError("agent is full")

    scraper = Scraper([TARGET], bench.clock, emit, fetch=lambda _u, _t: bench.server, find_pids=lambda _u: frozenset())
    scraper.start()
    try:
        assert called.wait(5)
    finally:
        scraper.stop()

    assert scraper.health().unforeseen_errors >= 1


ACTIONS: dict[str, Callable[[FakeLlama], None]] = {
    "work": lambda server: _work(server),
    "die": FakeLlama.die,
    "hang": FakeLlama.hang,
    "load": FakeLlama.load,
    "serve": FakeLlama.serve,
    "restart": lambda server: server.restart(str(int(server.start) + 1)),
}


def _work(server: FakeLlama) -> None:
    if not server.answers:
        server.prompt, server.cached, server.output = server.prompt + 3, server.cached + 2, server.output + 5


@given(st.lists(st.sampled_from(sorted(ACTIONS)), max_size=60))
def test_no_history_makes_a_negative_window_or_a_window_twice(actions: list[str]) -> None:
    """Whatever a server does, windows follow one another, nothing is negative, nothing exceeds what was done."""
    bench = Bench()
    bench.second()
    done = 0
    for action in actions:
        before = bench.server.output
        ACTIONS[action](bench.server)
        done += max(bench.server.output - before, 0)
        bench.second()
    bench.server.serve()
    bench.second(12)

    sums = [item for item in bench.emitted if isinstance(item, Sums)]
    assert all(a.t1_ns <= b.t0_ns and a.t0_ns < a.t1_ns for a, b in itertools.pairwise(sums))
    assert all(min(item.prompt_tokens or 0, item.cached_tokens or 0, item.output_tokens or 0) >= 0 for item in sums)
    assert bench.tokens()[2] <= done
    if not {"restart"} & set(actions):
        assert bench.tokens()[2] == done


def test_a_server_is_introduced_with_where_it_runs() -> None:
    """Its processes are looked up once it answers: the pod that they are in goes with each of its engines."""
    server, emitted, clock = FakeLlama(), list[Emitted](), FakeClock()
    scraper = Scraper(
        [TARGET],
        clock,
        emitted.append,
        fetch=lambda _u, _t: server,
        find_pids=lambda _u: frozenset({7}),
        find_place=lambda pids: Place("chat", "pod", f"of {sorted(pids)}"),
    )
    scraper.step(clock.monotonic_ns())

    assert [item.place for item in emitted if isinstance(item, EngineSeen)] == [Place("chat", "pod", "of [7]")]
