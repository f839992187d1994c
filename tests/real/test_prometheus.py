"""The page, as a real Prometheus and its own promtool read it."""

import contextlib
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferwatt.export.catalog import CATALOG, Kind, Metric, bucket_index
from inferwatt.export.prometheus import OPENMETRICS_TYPE, TEXT_TYPE, negotiate, render
from inferwatt.snapshot import Exemplar, HistogramValue, Labels, LiveView, Snapshot
from tests.real.prometheus import Prometheus, Scrape, free_port, program

pytestmark = pytest.mark.real

ENERGY = "inferwatt_energy_joules_total"
ENERGY_UJ = 14_500_000_000_123_456
REQUEST_ENERGY = "inferwatt_request_energy_joules"
REQUEST_JOULES = 12.75
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
NASTY = 'quote " backslash \\ newline \n µ'
NOTHING_LIVE = LiveView(0.0, 0.0, "0", "h", (), (), (), (), (), ())


def labels_of(metric: Metric) -> Labels:
    """Return a value for each label of a family, one that needs every escape among them."""
    return tuple(NASTY if name == "model_name" else f"a-{name}" for name in metric.labels)


def whole_catalogue() -> Snapshot:
    """Return a snapshot with one series of every family; the energies and one exemplar are known."""
    values: dict[str, dict[Labels, float]] = {}
    histograms: dict[str, dict[Labels, HistogramValue]] = {}
    exemplar = Exemplar(REQUEST_JOULES, time.time(), "request-1", TRACE)
    for metric in CATALOG.values():
        if metric.kind is Kind.HISTOGRAM:
            bucket = bucket_index(metric, REQUEST_JOULES)
            counts = tuple(int(index == bucket) for index in range(len(metric.buckets) + 1))
            exemplars = {bucket: exemplar} if metric.name == REQUEST_ENERGY else {}
            histograms[metric.name] = {labels_of(metric): HistogramValue(counts, REQUEST_JOULES, exemplars)}
        else:
            values[metric.name] = {labels_of(metric): ENERGY_UJ if metric.name == ENERGY else 1}
    return Snapshot(values, histograms, NOTHING_LIVE)


@contextlib.contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """Serve an application on the loopback while the block runs; yield its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, name="page")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """Serve the whole catalogue: `/metrics` negotiates, `/classic` is text 0.0.4 whoever asks."""
    snapshot = whole_catalogue()

    async def metrics(request: Request) -> Response:
        openmetrics, content_type = negotiate(request.headers.get("accept", ""))
        return Response(render(snapshot, openmetrics=openmetrics), headers={"content-type": content_type})

    async def classic(_: Request) -> Response:
        return Response(render(snapshot, openmetrics=False), headers={"content-type": TEXT_TYPE})

    with serving(Starlette(routes=[Route("/metrics", metrics), Route("/classic", classic)])) as address:
        yield address


@pytest.fixture(scope="module")
def scraped(prometheus: Scrape, page: str) -> Prometheus:
    """Return a Prometheus that has scraped the page both ways."""
    server = prometheus({"openmetrics": f"{page}/metrics", "classic": f"{page}/classic"})
    server.wait("count(up == 1) == 2")
    return server


def test_prometheus_reads_every_family_in_both_formats(scraped: Prometheus) -> None:
    """Each family of the catalogue arrives, by OpenMetrics and by text 0.0.4, and no scrape says an error."""
    wanted = {metric.name + ("_count" if metric.kind is Kind.HISTOGRAM else "") for metric in CATALOG.values()}

    for job in ("openmetrics", "classic"):
        read = {sample.labels["__name__"] for sample in scraped.query(f'{{job="{job}"}}')}

        assert wanted - read == set()
    assert scraped.scrape_errors() == {}


def test_both_formats_say_the_same(scraped: Prometheus) -> None:
    """No series differs between the two formats in name, labels or value."""
    openmetrics, classic = (
        {
            tuple(sorted({**sample.labels, "job": ""}.items())): sample.value
            for sample in scraped.query(f'{{__name__=~"inferwatt_.*|process_.*", job="{job}"}}')
        }
        for job in ("openmetrics", "classic")
    )

    assert openmetrics == classic
    assert len(openmetrics) > len(CATALOG)


def test_joules_and_names_arrive_whole(scraped: Prometheus) -> None:
    """A counter of 14.5 GJ keeps its microjoules as far as a double has them, and a model's name its characters."""
    (sample,) = scraped.query(f'{ENERGY}{{job="openmetrics"}}')

    assert sample.value == ENERGY_UJ / 1_000_000
    assert sample.labels["model_name"] == NASTY


def test_an_exemplar_leads_from_a_bucket_to_its_request(scraped: Prometheus) -> None:
    """Prometheus gives back the request and the trace behind a bucket, with the joules of that request."""
    (exemplar,) = scraped.exemplars(f"{REQUEST_ENERGY}_bucket")

    assert exemplar.labels == {"request_id": "request-1", "trace_id": TRACE}
    assert exemplar.value == REQUEST_JOULES
    assert exemplar.series["job"] == "openmetrics"


def test_promtool_has_nothing_to_say(page: str) -> None:
    """`promtool check metrics` accepts the text form without a word."""
    with urllib.request.urlopen(f"{page}/metrics", timeout=5) as answer:
        text = answer.read()
        assert answer.headers["content-type"] == TEXT_TYPE

    check = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)

    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


def test_a_client_that_asks_for_openmetrics_gets_it(page: str) -> None:
    """With the `Accept` of a Prometheus the page is OpenMetrics, ends as it must and carries the exemplar."""
    asked = urllib.request.Request(f"{page}/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})

    with urllib.request.urlopen(asked, timeout=5) as answer:
        text = answer.read().decode()

    assert answer.headers["content-type"] == OPENMETRICS_TYPE
    assert text.endswith("# EOF\n")
    assert f' # {{request_id="request-1",trace_id="{TRACE}"}} {REQUEST_JOULES}' in text
