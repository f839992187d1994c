"""Every query of every dashboard against a real Prometheus that has our rules: filled by the real demo, and by a page.

The demo is a real model on a real server, metered by a real agent. It has no GPU, sends nothing and calls no managed
API: what a query asks of those is filled by a page of ours with a series of every family, whose counters grow.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferwatt.export.catalog import CACHE_NONE, CACHE_READ, CATALOG, PHASES, Kind
from inferwatt.export.metric import Metric
from inferwatt.export.prometheus import TEXT_TYPE, render
from inferwatt.snapshot import HistogramValue, Labels, LiveView, Snapshot
from tests.real.children import Command
from tests.real.conftest import free_port, model_path
from tests.real.pages import get, wait_for
from tests.real.prometheus import Prometheus, program, scraping
from tests.real.test_prometheus import serving

from .grafana_queries import Asked, asked, filled
from .quick_rules import OF_YESTERDAY, quick_rules

pytest.importorskip("grafana_foundation_sdk", reason="it comes with make test-observability")

from deploy.grafana.make_dashboards import BOARDS

pytestmark = pytest.mark.real

ALL = asked(BOARDS)
PATIENCE_SECONDS = 90.0
DEMO_SECONDS = 150
BUDGETS = (("acme-support", 5.0), ("some-tenant", 5.0))
VALUES = {"phase": PHASES, "cache": (CACHE_NONE, CACHE_READ)}
NOTHING_LIVE = LiveView(0.0, 0.0, "0", "h", (), (), (), (), (), ())


@contextmanager
def with_rules(folder: Path, url: str) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes each second and works out our rules each second."""
    program("prometheus")
    (folder / "inferwatt.rules.yml").write_text(quick_rules(BUDGETS))
    with scraping(folder, {"inferwatt": f"{url}/metrics"}, ["inferwatt.rules.yml"]) as prometheus:
        yield prometheus


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Return a Prometheus that scrapes `inferwatt demo`."""
    model_path()  # nothing to do here without the model
    folder, port = tmp_path_factory.mktemp("demo"), free_port()
    (folder / "temporary").mkdir()
    url = f"http://127.0.0.1:{port}"
    arguments = ("demo", "--json", "--duration", str(DEMO_SECONDS), "--port", str(port))
    with Command(folder, *arguments, environment={"TMPDIR": str(folder / "temporary")}) as running:
        wait_for("the demo's page", lambda: get(f"{url}/healthz"))
        with with_rules(folder, url) as prometheus:
            yield prometheus
        running.check()


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Return a Prometheus that scrapes a page with a growing series of every family."""

    async def metrics(_: Request) -> Response:
        return Response(render(growing(time.time()), openmetrics=False), headers={"content-type": TEXT_TYPE})

    with (
        serving(Starlette(routes=[Route("/metrics", metrics)])) as url,
        with_rules(tmp_path_factory.mktemp("everything"), url) as prometheus,
    ):
        yield prometheus


def growing(unix_seconds: float) -> Snapshot:
    """Return a series of every family: counters of whole units grow by one each second."""
    amount = int(unix_seconds) - 1_700_000_000
    values: dict[str, dict[Labels, float]] = {}
    histograms: dict[str, dict[Labels, HistogramValue]] = {}
    for metric in CATALOG.values():
        if metric.kind is Kind.HISTOGRAM:
            counts = (amount,) * (len(metric.buckets) + 1)
            histograms[metric.name] = {
                labels: HistogramValue(counts, float(sum(counts)), {}) for labels in series(metric)
            }
        else:
            one = 1 if metric.kind is Kind.INFO else amount * 10**metric.decimals
            values[metric.name] = dict.fromkeys(series(metric), one)
    return Snapshot(values, histograms, NOTHING_LIVE)


def series(metric: Metric) -> list[Labels]:
    """Return one set of labels for each value that a query may ask for."""
    return list(product(*(VALUES.get(name, (f"some-{name}",)) for name in metric.labels)))


def without_data(prometheus: Prometheus, queries: list[Asked]) -> list[str]:
    """Ask until every query has had a result, or for as long as there is patience; return those that had none."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while queries and time.monotonic() < deadline:
        queries = [query for query in queries if not prometheus.query(filled(query.expr))]
        time.sleep(0.5)
    return [f"{query}: {query.expr}" for query in queries]


def test_every_query_has_data_of_the_demo(demo: Prometheus) -> None:
    """All but those that are marked: what a machine without a GPU, an exporter or a managed API has not."""
    assert without_data(demo, [query for query in ALL if not query.sometimes]) == []


def test_a_price_and_a_budget_bring_their_panels(demo: Prometheus) -> None:
    """What a person sets is answered for the demo's own tenants; no price is no cost, and not a cost of nothing."""
    ours = [query for query in ALL if "$price" in query.expr or "budget" in query.expr]

    assert len(ours) == 3
    assert without_data(demo, ours) == []
    assert [query for query in ours if "$price" in query.expr and demo.query(filled(query.expr, price="0"))] == []


def test_every_query_has_data_where_every_family_is(everything: Prometheus) -> None:
    """Also those of GPUs, gaps, exporters and managed APIs: no query is empty by its own fault."""
    asked_here = [query for query in ALL if OF_YESTERDAY not in query.expr]

    assert len(ALL) - len(asked_here) == 1
    assert without_data(everything, asked_here) == []
