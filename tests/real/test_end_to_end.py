"""One run of the real thing, looked at from all sides: real model, real server, real load, real agent, real readers.

The run is `inferwatt demo --json` as a child. The first tests look at it while it goes on, the others at what it left.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as text_families

from inferwatt.demo.server import CONTEXT_TOKENS, MODEL_ALIAS, PARALLEL_SLOTS
from tests.real import chromium
from tests.real.children import Command, left_behind
from tests.real.conftest import free_port, model_path
from tests.real.pages import fallen, get, get_json, samples, wait_for
from tests.real.prometheus import Prometheus, Scrape, program

pytestmark = pytest.mark.real

parse_openmetrics: Any = openmetrics_parser.text_string_to_metric_families
DURATION_SECONDS = 40
TENANTS = ("acme-support", "globex-research")
TEXT = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
ENERGY = "sum(inferwatt_energy_joules_total)"
DEVICE_ENERGY = "sum(inferwatt_device_energy_joules_total)"
COUNTERS = 'label_replace({__name__=~"inferwatt_.*_(total|bucket|count|sum)"}, "family", "$1", "__name__", "(.+)")'
ROUNDING_JOULES = 1e-6
"""Sums of doubles: the agent's own sums are exact, in microjoules."""
MOST_TOKENS = CONTEXT_TOKENS // PARALLEL_SLOTS
"""What one request can hold, prompt and answer together."""


class Demo(Command):
    """`inferwatt demo` and where its page is."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        model_path()  # nothing to do here without the model
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.temporary = folder / "temporary"
        self.temporary.mkdir(parents=True)
        super().__init__(folder, "demo", "--port", str(port), *arguments, environment={"TMPDIR": str(self.temporary)})

    def view(self) -> Any:
        """Return what the page shows; fails with the demo's words if it has ended."""
        self.check()
        return get_json(f"{self.url}/v1/snapshot")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run is recorded."""
    return tmp_path_factory.mktemp("demo") / "recording"


@pytest.fixture(scope="module")
def demo(recording: Path) -> Iterator[Demo]:
    """Return the run, once its page shows a model."""
    arguments = ("--json", "--duration", str(DURATION_SECONDS), "--record", str(recording))
    with Demo(recording.parent, *arguments) as running:
        wait_for("a model on the page", lambda: running.view()["models"])
        yield running


@pytest.fixture(scope="module")
def scraped(demo: Demo, prometheus: Scrape) -> Prometheus:
    """Return a Prometheus that scrapes the run each second."""
    return prometheus({"inferwatt": f"{demo.url}/metrics"})


@pytest.fixture(scope="module")
def document(demo: Demo) -> Any:
    """Return what the run printed at its end; it ends by itself, and well."""
    status = demo.wait(2 * DURATION_SECONDS)
    assert status == 0, demo.err.read_text()
    return json.loads(demo.out.read_text())


def test_the_page_shows_the_run_as_it_goes(demo: Demo, scraped: Prometheus, tmp_path: Path) -> None:
    """Model, both tenants, requests and watts come and change without a reload, in light and dark, from one host."""
    pictures = Path(os.environ.get("INFERWATT_SCREENSHOTS") or tmp_path)
    pictures.mkdir(parents=True, exist_ok=True)
    with chromium.tab(f"{demo.url}/") as tab:
        tab.page.locator(".models").get_by_text(MODEL_ALIAS, exact=True).first.wait_for()
        for tenant in TENANTS:
            tab.wait(".tenants .name", tenant)
        tab.wait(".requests tbody .tenant", TENANTS[0])
        tab.wait_for_change(".devices td")
        tab.wait_for_change(".tenants tbody")
        tab.wait(".models .hero", "J/token")
        tab.page.get_by_role("button", name="1 min").click()
        for scheme in ("light", "dark"):
            assert tab.picture(pictures, scheme).stat().st_size > 10_000

    loads = [address for address in tab.addresses if address in {f"{demo.url}/", f"{demo.url}/v1/live"}]
    assert loads == [f"{demo.url}/", f"{demo.url}/v1/live"]
    assert [address for address in tab.addresses if not address.startswith(f"{demo.url}/")] == []
    assert tab.complaints == []


def test_no_joule_is_lost_on_the_way_to_prometheus(scraped: Prometheus) -> None:
    """In every scrape the phases sum to the devices' counters, and the tenants' joules to prefill and decode."""
    scraped.wait(ENERGY)
    scraped.wait("sum(inferwatt_tenant_energy_joules_total) > 0")
    requests = 'sum(inferwatt_energy_joules_total{phase=~"prefill|decode"})'

    for parts, whole in ((ENERGY, DEVICE_ENERGY), ("sum(inferwatt_tenant_energy_joules_total)", requests)):
        scraped.wait(f"count_over_time(({parts} - {whole})[30s:1s]) > 1")
        assert scraped.value(f"max_over_time(abs({parts} - {whole})[30s:1s])") < ROUNDING_JOULES


def test_counters_only_rise(scraped: Prometheus, demo: Demo) -> None:
    """Tokens are counted, no counter falls from scrape to scrape, and no scrape fails."""
    before = samples(demo.url)
    scraped.wait("sum(inferwatt_output_tokens_total) > 0")

    assert scraped.value(f"sum(resets({COUNTERS}[1m:1s]))") == 0
    assert fallen(before, samples(demo.url)) == {}
    assert scraped.scrape_errors() == {}


def test_an_exemplar_leads_to_its_request(scraped: Prometheus, demo: Demo) -> None:
    """A request that an exemplar names is found at the agent, in the list and by itself, with the same joules."""
    stored = wait_for("an exemplar", lambda: scraped.exemplars("inferwatt_request_energy_joules_bucket"))
    listed = get_json(f"{demo.url}/v1/requests?limit=1000")["requests"]
    names = {name for request in listed for name in (request["request"], request["response_id"])}

    for exemplar in stored:
        assert exemplar.labels["request_id"] in names
        found = get_json(f"{demo.url}/v1/requests/{exemplar.labels['request_id']}")
        assert found["energy_joules"] == pytest.approx(exemplar.value, abs=ROUNDING_JOULES)


def test_both_forms_of_the_metrics_page_can_be_parsed(demo: Demo) -> None:
    """Prometheus' own parsers and promtool read the page, and what text 0.0.4 has OpenMetrics has too."""
    text = get(f"{demo.url}/metrics", TEXT)
    openmetrics = get(f"{demo.url}/metrics", OPENMETRICS)
    families = {sample.name for family in text_families(text) for sample in family.samples}
    check = subprocess.run([program("promtool"), "check", "metrics"], input=text.encode(), capture_output=True)

    assert openmetrics.endswith("# EOF\n")
    assert families - {sample.name for family in parse_openmetrics(openmetrics) for sample in family.samples} == set()
    assert {"inferwatt_energy_joules_total", "inferwatt_request_energy_joules_bucket"} <= families
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


def test_requests_are_listed_with_their_joules(demo: Demo) -> None:
    """`inferwatt requests --json` and the API tell the same of a request, and /healthz that the meter is well."""
    command = [sys.executable, "-m", "inferwatt", "requests", "--json", "--url", demo.url]
    listed = wait_for("a finished request", lambda: _finished(subprocess.check_output(command, text=True)))
    known = listed[0]

    assert known["energy_joules"] > 0
    assert (known["model_name"], known["provenance"] != "") == (MODEL_ALIAS, True)
    assert get_json(f"{demo.url}/v1/requests/{known['response_id']}") == known
    assert get_json(f"{demo.url}/healthz")["status"] == "ok"


def _finished(lines: str) -> list[Any]:
    return [row for row in map(json.loads, lines.splitlines()) if row["outcome"] == "finished"]


def test_the_summary_holds_what_was_shown(document: Any) -> None:
    """The replay matches what was shown live, nothing is missing from a device, and both tenants have joules."""
    assert document["replay"]["differences"] == []
    assert document["replay"]["matches"] is True
    assert [row["missing_microjoules"] for row in document["devices"]] == [0] * len(document["devices"])
    assert {row["tenant"] for row in document["tenants"] if row["energy_joules"] > 0} == set(TENANTS)
    assert document["clients"]["finished"] > 0
    assert document["clients"]["failed"] == 0


def test_records_and_server_agree_on_tokens(document: Any, recording: Path) -> None:
    """What the clients finished is in the server's own counters, beside what it did for clients that left.

    A client that leaves knows its tokens up to then; the server goes on until it notices, at most to the end of the
    context, and counts that too. Requests that nobody left must be there to the token.
    """
    last = {row["request"]: row for row in map(json.loads, (recording / "requests.jsonl").read_text().splitlines())}
    told = {"prompt_computed": 0, "cached": 0, "output": 0}
    for row in last.values():
        if row["outcome"] == "finished":
            told["prompt_computed"] += row["prompt_tokens"] - row["cached_tokens"]
            told["cached"] += row["cached_tokens"]
            told["output"] += row["output_tokens"]
    left = document["clients"]["aborted"]
    counted = document["tokens"]["server"]

    assert {kind: told[kind] <= counted[kind] <= told[kind] + left * MOST_TOKENS for kind in told} == dict.fromkeys(
        told, True
    )


def test_a_replay_is_the_same_each_time(document: Any, recording: Path) -> None:
    """`inferwatt replay --json` prints the same bytes twice, and the devices' joules of the summary."""
    command = [sys.executable, "-m", "inferwatt", "replay", str(recording), "--json"]
    once, again = (subprocess.check_output(command) for _ in range(2))
    rows = [json.loads(line) for line in once.splitlines()]

    assert once == again
    assert [row["measured_joules"] for row in rows if "device" in row] == [
        row["measured_joules"] for row in document["devices"]
    ]


def test_nothing_is_left_behind(document: Any, demo: Demo) -> None:
    """Neither a process nor a temporary file outlives the run."""
    assert left_behind(demo.mark) == []
    assert list(demo.temporary.iterdir()) == []


def test_ctrl_c_ends_all_of_it_with_a_summary(tmp_path: Path) -> None:
    """The first Ctrl-C is enough: a summary in words, exit status 0, and nothing left."""
    with Demo(tmp_path) as running:
        wait_for("joules of a request", lambda: any(m["decode_joules"] > 0 for m in running.view()["models"]))
        status = running.end(signal.SIGINT)
        said = running.out.read_text()

    assert (status, running.err.read_text()) == (0, "")
    assert f"page: {running.url}/" in said
    assert "summary of" in said
    assert "replay matches what was shown live, to the microjoule" in said
    assert left_behind(running.mark) == []
    assert list(running.temporary.iterdir()) == []
