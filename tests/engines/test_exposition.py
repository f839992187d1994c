"""Pages as the real prometheus_client writes them, with the metrics that servers register with it."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from inferwatt.engines.counters import Counters, Delta
from inferwatt.engines.pages import read_page
from inferwatt.engines.servers import server_kinds

LABELS = ("model_name", "engine")


class Server:
    """Registers what LMDeploy's loggers.py registers, and does some work."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.prompt, self.output, self.cached = (
            Counter(f"lmdeploy:{name}_tokens_total", "Tokens.", LABELS, registry=self.registry)
            for name in ("prompt", "generation", "cached")
        )
        self.running = Gauge("lmdeploy:num_requests_running", "Requests.", LABELS, registry=self.registry)
        self.steps = Histogram("lmdeploy:iteration_tokens_total", "Tokens per step.", LABELS, registry=self.registry)
        self.first = Histogram(
            "lmdeploy:time_to_first_token_seconds", "Seconds.", LABELS, buckets=(0.1, 1.0), registry=self.registry
        )

    def work(self, rank: str, prompt: int, cached: int, output: int) -> None:
        """Compute one request on a data-parallel rank."""
        labels = ("m", rank)
        self.prompt.labels(*labels).inc(prompt)
        self.cached.labels(*labels).inc(cached)
        self.output.labels(*labels).inc(output)
        self.steps.labels(*labels).observe(prompt + output)
        self.first.labels(*labels).observe(0.5)
        self.running.labels(*labels).set(1)


def since(server: Server, counters: Counters, *, openmetrics: bool = False) -> Delta:
    """Return what the server did since the page before."""
    write = generate_openmetrics if openmetrics else generate_latest
    page: bytes = write(server.registry)
    names = server_kinds()["lmdeploy"].names
    return counters.advance(read_page(page, names, openmetrics=openmetrics)).models["m"]


def test_what_a_real_client_library_writes_is_counted_once() -> None:
    """Ranks are summed, `_created` and the histogram named `_total` are not counted, gauges are of now."""
    server, counters = Server(), Counters(server_kinds()["lmdeploy"])
    server.work("0", 100, 32, 10)
    since(server, counters)
    server.work("0", 50, 16, 5)
    server.work("1", 8, 0, 1)
    delta = since(server, counters)

    assert (delta.computed_tokens, delta.cached_tokens, delta.output_tokens, delta.running) == (42, 16, 6, 2)
    assert delta.latencies["first_token_seconds"].counts == (0, 2, 0)


def test_openmetrics_says_the_same_as_text() -> None:
    """With units, `# EOF` and exemplars' syntax: the same work."""
    server, text, openmetrics = Server(), *(Counters(server_kinds()["lmdeploy"]) for _ in range(2))
    for output in (10, 7):
        server.work("0", 100, 32, output)
        assert since(server, text) == since(server, openmetrics, openmetrics=True)
