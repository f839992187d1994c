"""The life of servers of other kinds: several models, replicas behind one address, pages without work, no page."""

from dataclasses import dataclass, field

import pytest

from inferwatt.engines.fetch import Answer
from inferwatt.engines.scrape import Emitted, EngineSeen, Scraper, TargetHealth
from inferwatt.engines.servers import EnginesConfig, Target
from inferwatt.records import Event, EventKind, Sums
from inferwatt.testing import FakeClock
from inferwatt.units import NS_PER_SECOND
from tests.engines.servers import FakeLlama


@dataclass
class Life:
    """A scraper of one server of some kind, whose page a test writes."""

    kind: str
    server: FakeLlama = field(default_factory=FakeLlama)
    clock: FakeClock = field(default_factory=FakeClock)
    emitted: list[Emitted] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scraper = Scraper(
            [Target("s", "http://127.0.0.1:9", self.kind)],
            self.clock,
            self.emitted.append,
            EnginesConfig(),
            fetch=lambda _url, _timeout: self.server,
            find_pids=lambda _url: frozenset(),
        )
        self.server.answers["/v1/models"] = Answer(404, b"", {})

    def shows(self, page: str, *, path: str = "/metrics", status: int = 200, **headers: str) -> list[Emitted]:
        """Let the server show a page, look at it, and return what was emitted."""
        before = len(self.emitted)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.server.answers[path] = Answer(status, page.encode(), names)
        self.scraper.step(self.clock.monotonic_ns())
        self.clock.advance(NS_PER_SECOND)
        return self.emitted[before:]

    @property
    def health(self) -> TargetHealth:
        """How the server is."""
        return self.scraper.health().targets[0]

    def output(self, engine: str = "s") -> int:
        """All output tokens of an engine so far."""
        return sum(s.output_tokens or 0 for s in self.emitted if isinstance(s, Sums) and s.engine == engine)

    def events(self) -> list[tuple[str, EventKind]]:
        """What happened to which engine."""
        return [(item.engine, item.kind) for item in self.emitted if isinstance(item, Event)]


def vllm(**tokens: int) -> str:
    """Return a vLLM page with so many output tokens of each model."""
    return "".join(f'vllm:generation_tokens_total{{model_name="{model}"}} {n}\n' for model, n in tokens.items())


def test_two_models_on_one_page_are_two_engines() -> None:
    """The first has the server's name, the other its own behind it; each has its own sums, server and model."""
    life = Life("vllm")
    life.shows(vllm(a=10, b=20))
    life.shows(vllm(a=15, b=21))

    seen = {item.engine.engine: item for item in life.emitted if isinstance(item, EngineSeen)}
    assert {name: (item.engine.model, item.engine.server) for name, item in seen.items()} == {
        "s": ("a", "s"),
        "s/b": ("b", "s"),
    }
    assert (life.output("s"), life.output("s/b")) == (5, 1)
    assert life.health.model == "a, b"


def test_a_model_that_comes_and_one_that_goes() -> None:
    """A model that is loaded later is a new engine and began at zero; one that left a whole page is unloaded."""
    life = Life("vllm")
    life.shows(vllm(a=10))
    life.shows(vllm(a=10, b=7))
    life.shows(vllm(b=9))
    life.shows(vllm(b=9, c=1))

    assert (life.output("s/b"), life.output("s")) == (9, 1)
    assert life.events() == [
        ("s", EventKind.MODEL_LOAD),
        ("s/b", EventKind.MODEL_LOAD),
        ("s", EventKind.MODEL_UNLOAD),
        ("s", EventKind.MODEL_LOAD),
    ]


def test_a_server_restarted_with_another_model_keeps_its_name() -> None:
    """Label change: the engine is the server's, its model another, and what it did since its start is counted."""
    life = Life("vllm")
    life.shows(vllm(a=1000))
    life.shows(vllm(z=3))

    assert [item.engine.model for item in life.emitted if isinstance(item, EngineSeen)] == ["a", "z"]
    assert life.output() == 3


def test_only_the_series_that_fell_begins_again() -> None:
    """Per series, not per page: one data-parallel engine that restarts takes nothing from the other."""
    life = Life("vllm")
    for ranks in ((100, 900), (4, 930)):
        lines = (f'vllm:generation_tokens_total{{model_name="m",engine="{n}"}} {t}\n' for n, t in enumerate(ranks))
        life.shows("".join(lines))

    assert life.output() == 34
    assert life.health.restarts == 1


def test_a_part_of_a_series_that_fell_counts_nothing() -> None:
    """One of several processes behind a series began again: what the others did meanwhile is not known, nor made up."""
    life = Life("vllm")
    for tokens in (1000, 700, 710):
        life.shows(vllm(m=tokens))

    assert life.output() == 10
    assert life.health.restarts == 0


@pytest.mark.parametrize("counters", [(50_000, 300), (1_000, 900), (300, 50_000)])
def test_replicas_behind_one_address_are_refused(counters: tuple[int, int]) -> None:
    """A counter that jumps to and fro is two servers' (a Service's address): said with its remedy, not summed up."""
    life = Life("vllm")
    for step in range(8):
        life.shows(vllm(m=counters[step % 2] + step))

    assert life.health.state == "replicas"
    assert life.health.last_error is not None
    assert "pod" in life.health.last_error.fix
    assert life.output() <= sum(counters) + 16
    told = len(life.emitted)
    for step in range(20):
        life.shows(vllm(m=counters[step % 2] + step))
    assert len(life.emitted) == told
    assert life.health.failures > 0


def test_replicas_of_llamacpp_are_told_by_their_starts() -> None:
    """A start that is earlier than the last, or that was seen before, is another server and no restart."""
    life = Life("llamacpp")
    life.shows("llamacpp:tokens_predicted_total 5\n", process_start_time_unix="2000")
    life.shows("llamacpp:tokens_predicted_total 9000\n", process_start_time_unix="1000")

    assert life.health.state == "replicas"
    assert life.output() == 0


def test_another_name_for_a_counter_is_not_counted_twice() -> None:
    """A page that has a better name from now on (or, cut, lacks it once) begins anew there: nothing counts again."""
    life = Life("vllm")
    hits = 'vllm:prefix_cache_hits_total{model_name="m"} 500\n'
    for cached in ("", "", 'vllm:prompt_tokens_cached_total{model_name="m"} 480\n', ""):
        life.shows(hits + cached + vllm(m=1))
    life.shows(hits.replace("500", "507") + vllm(m=1))

    assert [s.cached_tokens for s in life.emitted if isinstance(s, Sums)] == [0, 0, 0, 7]


def test_two_restarts_in_a_row_are_no_replicas() -> None:
    """A server that crashes twice is away meanwhile: its counters begin at zero each time, and it stays metered."""
    life = Life("vllm")
    life.shows(vllm(m=500))
    for _ in range(3):
        life.server.answers.pop("/metrics")
        life.server.die()
        life.scraper.step(life.clock.monotonic_ns())
        life.clock.advance(20 * NS_PER_SECOND)
        life.server.serve()
        life.shows(vllm(m=3))
        life.shows(vllm(m=600))

    assert (life.health.state, life.health.restarts, life.output()) == ("up", 3, 1800)


def test_a_page_without_its_metrics_yet_is_silent_and_the_first_request_counts() -> None:
    """SGLang and TGI print a metric with its first value: until then nothing is told, and then nothing is lost."""
    life = Life("sglang")
    nothing = life.shows("# HELP sglang:prompt_tokens_total x\n# TYPE sglang:prompt_tokens_total counter\n")
    assert (life.health.state, nothing) == ("silent", [])

    life.shows('sglang:generation_tokens_total{model_name="m"} 12\nsglang:prompt_tokens_total{model_name="m"} 5\n')
    assert (life.health.state, life.output()) == ("up", 12)


def test_a_wrong_kind_is_never_metered_as_zeros() -> None:
    """Another program's page has none of vLLM's metrics: a failed scrape; a kind that may be silent says that it is."""
    other = "# TYPE node_load1 gauge\nnode_load1 0.5\n"
    for kind, state in (("vllm", "unreadable"), ("tgi", "silent")):
        life = Life(kind)
        assert life.shows(other) == []
        assert life.health.state == state
        assert life.health.last_error is not None


@pytest.mark.parametrize("status", [401, 403])
def test_a_page_behind_a_key_says_so(status: int) -> None:
    """401 is a failure with its own remedy, and counts nothing."""
    life = Life("vllm")
    life.shows("", status=status)

    assert life.health.last_error is not None
    assert "key_file" in life.health.last_error.fix


def test_triton_tells_inferences_and_no_tokens() -> None:
    """Tokens are unknown, never zero; the inferences show that it worked."""
    life = Life("triton")
    life.shows('nv_inference_count{model="m",version="1"} 4\n')
    life.shows('nv_inference_count{model="m",version="1"} 9\n')

    sums = [item for item in life.emitted if isinstance(item, Sums)]
    assert [(s.units, s.prompt_tokens, s.output_tokens, s.running) for s in sums] == [
        ({"inferences": 5}, None, None, None)
    ]


def test_ollama_is_known_by_its_models_and_counts_nothing() -> None:
    """/api/ps names what is loaded; when it is unloaded its residency ends; for tokens the gateway is pointed at."""
    life = Life("ollama")
    life.server.answers["/api/version"] = Answer(200, b'{"version":"0.12.3"}', {})
    life.shows('{"models":[{"name":"llama3.2:latest","size_vram":5137025024}]}', path="/api/ps")
    life.clock.advance(10 * NS_PER_SECOND)
    life.shows('{"models":[]}', path="/api/ps")

    seen = [item for item in life.emitted if isinstance(item, EngineSeen)]
    assert [(item.engine.model, item.version) for item in seen] == [("llama3.2:latest", "0.12.3")]
    assert life.events() == [("s", EventKind.MODEL_LOAD), ("s", EventKind.MODEL_UNLOAD)]
    assert not [item for item in life.emitted if isinstance(item, Sums)]
    assert life.health.state == "no_metrics"
    assert life.health.last_error is not None
    assert life.health.last_error.fix == "inferwatt gateway --upstream http://127.0.0.1:9"
    assert "/metrics" not in life.server.asked


def test_transformers_serve_is_there_and_names_no_model() -> None:
    """It has neither a page nor a list of what is loaded: its processes are watched, its model is what you name."""
    life = Life("transformers")
    life.shows('{"status":"ok"}', path="/health")

    assert [item.engine.model for item in life.emitted if isinstance(item, EngineSeen)] == [""]


def test_fifty_thousand_lines_of_a_page_are_read() -> None:
    """A page of 50,000 series of others', with ours at its end, tells the same."""
    life = Life("vllm")
    noise = "".join(f'vllm:other_bucket{{le="{n}",model_name="m"}} {n}\n' for n in range(50_000))
    life.shows(noise + vllm(m=1))
    life.shows(noise + vllm(m=4))

    assert life.output() == 3
    assert life.health.bad_lines == {}
