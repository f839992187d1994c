"""A real agent, scraped by a real Prometheus and a real VictoriaMetrics: their sums are the ledger's, over kill -9."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import pytest

from inferwatt.export.rules import RECORDS, Record
from tests.real.pages import get, wait_for
from tests.real.prometheus import Prometheus, configuration, program, scraping

from .alertmanager import Alertmanager, alerting
from .fed_agent import FedAgent, Series
from .quick_rules import OF_YESTERDAY, quick_rules
from .victoria import victoria_metrics

pytest.importorskip("cramjam", reason="it comes with make test-observability")

DEVICE = "inferwatt_device_energy_joules_total"
ENERGY = "inferwatt_energy_joules_total"
OURS = '{__name__=~"inferwatt_.+_total"}'
OF_READINGS = {"inferwatt_samples_total", "inferwatt_device_events_total"}
"""They go on while the device stands still."""
ROUNDING = 1e-11
"""VictoriaMetrics keeps twelve digits of a number that has more."""
TARGET = {"__name__", "job", "instance"}


@dataclass(frozen=True)
class Scraped:
    """An agent, and the two that scrape it each second."""

    fed: FedAgent
    prometheus: Prometheus
    victoria: Prometheus
    alerts: Alertmanager

    def both(self) -> tuple[Prometheus, Prometheus]:
        """Return both, for what must be the same in either."""
        return self.prometheus, self.victoria


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Return an agent at work, and both databases, which have our rules and have scraped it."""
    program("prometheus")
    folder = tmp_path_factory.mktemp("scraped")
    (folder / "inferwatt.rules.yml").write_text(quick_rules((("chatty", 0.005),)))
    fed = FedAgent(folder)
    try:
        targets = {"inferwatt": f"{fed.agent.url}/metrics"}
        (folder / "scrape.yml").write_text(configuration(targets))
        flags = (f"-promscrape.config={folder / 'scrape.yml'}", "-promscrape.config.strictParse=false")
        with (
            victoria_metrics(folder / "victoria", *flags) as victoria,
            alerting(folder) as alerts,
            scraping(folder, targets, ["inferwatt.rules.yml"], [alerts.address]) as prometheus,
        ):
            found = Scraped(fed, prometheus, Prometheus(victoria), alerts)
            for database in found.both():
                database.wait(f"sum(inferwatt_requests_total) > 0 and sum({DEVICE}) > 0")
            yield found
    finally:
        fed.close()


def stored(database: Prometheus) -> Series:
    """Return every counter of ours as a database has it now."""
    return {
        (sample.labels["__name__"], frozenset(pair for pair in sample.labels.items() if pair[0] not in TARGET)): (
            sample.value
        )
        for sample in database.query(OURS)
    }


def not_less(these: Series, those: Series) -> bool:
    """Return whether all of `those` are among `these`, none of them less, to the rounding of VictoriaMetrics."""
    return all(these.get(key, -1.0) >= value * (1 - ROUNDING) for key, value in those.items())


def reaching(database: Prometheus, those: Series) -> Series:
    """Wait until a database has at least `those`; return what it has then."""

    def reached() -> Series | None:
        found = stored(database)
        return found if not_less(found, those) else None

    return wait_for("the ledger's sums", reached)  # type: ignore[no-any-return]


def settled(scraped: Scraped) -> Series:
    """Wait until both databases have what the ledger has, of all that stands still; return that."""

    def agree() -> Series | None:
        kept = {key: value for key, value in scraped.fed.kept().items() if key[0] not in OF_READINGS}
        rounded = {key: pytest.approx(value, rel=ROUNDING) for key, value in kept.items()}
        ours, theirs = ({key: found.get(key) for key in kept} for found in map(stored, scraped.both()))
        return kept if kept and ours == kept and theirs == rounded else None

    return wait_for("both have the ledger's sums", agree)  # type: ignore[no-any-return]


def test_the_real_page_is_without_reproach(scraped: Scraped) -> None:
    """`promtool check metrics` reads the page of an agent at work without a word."""
    page = get(f"{scraped.fed.agent.url}/metrics", "text/plain;version=0.0.4")
    check = subprocess.run(
        [program("promtool"), "check", "metrics"], input=page, text=True, capture_output=True, check=False
    )

    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")
    assert "inferwatt_tenant_energy_joules_total{" in page


def test_under_load_they_are_the_ledgers_of_this_window(scraped: Scraped) -> None:
    """What is stored reaches what the ledger had when it was asked, and is never ahead of it: shown is committed."""
    for database in scraped.both():
        before = scraped.fed.kept()
        reached = reaching(database, before)
        after = scraped.fed.kept()

        assert len(before) > 10
        assert not_less(after, {key: value for key, value in reached.items() if key in after})


def test_killed_and_back_sums_and_rates_are_right(scraped: Scraped) -> None:
    """After kill -9 under load no counter falls, and what is added is to the microjoule what the device counted."""
    fed, working = scraped.fed, "increase(inferwatt_output_tokens_total[3s]) > 0"
    with fed.quiet():
        before, counted_uj, since = settled(scraped), fed.counter_uj(), time.time()
    wait_for("some load", lambda: fed.counter_uj() > counted_uj + 10**9)
    fed.kill()
    for database in scraped.both():
        database.wait('up{job="inferwatt"} == 0')
    wait_for("its alert", lambda: "InferwattAgentDown" in scraped.alerts.names())
    fed.start()
    for database in scraped.both():
        database.wait(working)
    wait_for("its alert's end", lambda: "InferwattAgentDown" not in scraped.alerts.names())
    with fed.quiet():
        after, joules = settled(scraped), (fed.counter_uj() - counted_uj) / 1e6
        seconds = round(time.time() - since)
        courses = [course(database, seconds) for database in scraped.both()]

    assert not_less(after, before)
    assert total(after, DEVICE) - total(before, DEVICE) == pytest.approx(joules, abs=1e-6)
    assert total(after, ENERGY) == pytest.approx(total(after, DEVICE), abs=1e-6)
    for falls, of_device, of_phases, watts in courses:
        assert falls == []
        assert of_device == pytest.approx(joules, rel=0.3), "to the extrapolation of two scrapes"
        assert of_phases == pytest.approx(of_device, rel=0.3)
        assert watts == pytest.approx(joules / seconds, rel=0.3)


def total(series: Series, name: str) -> float:
    """Return the sum of a family."""
    return sum(value for (known, _), value in series.items() if known == name)


def course(database: Prometheus, seconds: int) -> tuple[list[str], float, float, float]:
    """Return which counters fell, what was added to the devices and to the phases, and the devices' watts."""
    falls = [
        labels["__name__"]
        for labels, points in database.points(f"{OURS}[{seconds}s]")
        if any(later < earlier * (1 - ROUNDING) for (_, earlier), (_, later) in pairwise(points))
    ]
    return (
        falls,
        database.value(f"sum(increase({DEVICE}[{seconds}s]))"),
        database.value(f"sum(increase({ENERGY}[{seconds}s]))"),
        database.value(f"sum(rate({DEVICE}[{seconds}s]))"),
    )


def test_its_joules_fire_an_alert(scraped: Scraped) -> None:
    """A tenant of the agent that draws many times its budget is in Alertmanager, and one without a budget is not."""
    fired = wait_for(
        "the budget's alert",
        lambda: [each["labels"] for each in scraped.alerts.alerts() if each["labels"].get("tenant")],
    )

    assert {labels["tenant"] for labels in fired} == {"chatty"}
    assert fired[0]["alertname"].startswith("InferwattBudgetBurn")


@pytest.mark.parametrize(
    "rule", [rule for rule in RECORDS if OF_YESTERDAY not in rule.name], ids=lambda rule: rule.name
)
def test_a_recording_rule_lives(scraped: Scraped, rule: Record) -> None:
    """What Prometheus recorded is what the expression says of that moment."""

    def recorded() -> bool:
        return any(
            value == pytest.approx(then[labels], rel=1e-9)
            for name, points in scraped.prometheus.points(f"{rule.name}[10s]")
            for at, value in points
            if (labels := frozenset({**name, "__name__": ""}.items()))
            in (then := at_moment(scraped.prometheus, rule.expr, at))
        )

    with scraped.fed.quiet() if "idle" in rule.name else nullcontext():
        wait_for(f"{rule.name} is recorded", recorded)


def at_moment(database: Prometheus, expression: str, unix_seconds: float) -> dict[frozenset[tuple[str, str]], float]:
    """Return what an expression was."""
    found = database.get("query", query=expression, time=str(unix_seconds))["result"]
    return {frozenset({**each["metric"], "__name__": ""}.items()): float(each["value"][1]) for each in found}
