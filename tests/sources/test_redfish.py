"""The whole server by Redfish, against a stand-in that speaks the documented resources over HTTP."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatt.errors import SourceRetry
from inferwatt.records import Component, Provenance, Reading
from inferwatt.sources import SourcesConfig
from inferwatt.sources.client import MAX_BODY_BYTES
from inferwatt.sources.redfish import Bmc, discover
from inferwatt.sources.redfish_service import MOST_ANSWERS
from inferwatt.sources.settings import RedfishConfig
from inferwatt.sources.slow import Postponed
from tests.doubles.redfish import CHASSIS, RedfishBmc, Reply, chassis, control, environment, sensor

ENVIRONMENT = f"{CHASSIS}/1/EnvironmentMetrics"
POWER = f"{CHASSIS}/1/Power"
PATIENCE_SECONDS = 20.0


@pytest.fixture
def bmc() -> Iterator[RedfishBmc]:
    """A server with both the new resource (220.5 W) and the old one (214 W)."""
    with RedfishBmc(chassis(environment=environment(220.5), power=control(214))) as service:
        yield service


def ask(service: RedfishBmc, name: str = "", timeout_seconds: float = 5.0) -> int | None:
    """Poll once, as the slow thread does, and return the power in mW."""
    bmc = Bmc(RedfishConfig(url=service.url, chassis=name, timeout_seconds=timeout_seconds))
    try:
        return bmc.poll().power_mw
    finally:
        bmc.close()


def test_the_first_poll_finds_the_power_and_the_next_read_only_that(bmc: RedfishBmc) -> None:
    """One resource a poll, over one connection; its time only rises."""
    asking = Bmc(RedfishConfig(url=bmc.url))
    samples = [asking.poll(), asking.poll(), asking.poll()]
    asking.close()

    assert [sample.power_mw for sample in samples] == [220_500] * 3
    times_ns = [sample.t_ns or 0 for sample in samples]
    assert times_ns == sorted(set(times_ns))
    assert bmc.paths()[-2:] == [ENVIRONMENT] * 2
    assert bmc.paths()[:3] == ["/redfish/v1/", CHASSIS, f"{CHASSIS}/1"]


def test_a_reading_is_of_the_whole_server(bmc: RedfishBmc) -> None:
    """Sampled, component overhead, and with the time at which the BMC was asked."""
    source = discover(SourcesConfig(redfish=(RedfishConfig(url=bmc.url),))).sources[0]
    before_ns = time.monotonic_ns()
    said = wait_for_reading(source.read)
    source.close()

    device = source.device
    assert (device.device, device.domain, device.source) == ("server", "server", "redfish")
    assert (device.component, device.provenance) == (Component.OVERHEAD, Provenance.SAMPLED)
    assert (said.device, said.power_mw, said.counter_uj) == ("server", 220_500, None)
    assert before_ns < said.t_ns < time.monotonic_ns()


def wait_for_reading(read: object) -> Reading:
    """Read as the sampler does until the thread has an answer."""
    assert callable(read)
    tick = threading.Event()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        said = read(time.monotonic_ns())
        if isinstance(said, Reading):
            return said
        tick.wait(0.01)
    raise AssertionError("no reading")


@pytest.mark.parametrize(
    ("parts", "expected_mw"),
    [
        ({"environment": environment(220.5), "power": control(214)}, 220_500),
        ({"environment": {}, "power": control(214)}, 214_000),
        ({"environment": environment(None), "power": control(214)}, 214_000),
        ({"environment": environment(0), "power": control(214)}, 214_000),
        ({"environment": environment("220"), "power": control(214)}, 214_000),
        ({"power": control(214, 80, 30)}, 214_000),
        ({"power": {"PowerControl": [{"PowerConsumedWatts": 214.25}]}}, 214_250),
        ({"supplies": {"a": 120.5, "b": 100}}, 220_500),
        ({"supplies": {"a": 120.5, "b": 0}}, 120_500),
        ({"supplies": {"a": 120.5, "b": {"Status": {"State": "Absent"}}}}, 120_500),
        ({"environment": environment(220), "supplies": {"a": 120, "b": 100}}, 220_000),
    ],
    ids=["new", "no-sensor", "null", "zero", "text", "first", "no-status", "supplies", "idle", "absent", "not-twice"],
)
def test_the_best_figure_that_is_one_is_taken(parts: dict[str, object], expected_mw: int) -> None:
    """The new resource, else the old one's first entry, else the supplies together; never two of them added."""
    with RedfishBmc(chassis(**parts)) as service:  # type: ignore[arg-type]
        assert ask(service) == expected_mw


def test_a_sensor_is_read_where_the_excerpt_only_names_it() -> None:
    """``DataSourceUri`` leads to it."""
    path = f"{CHASSIS}/1/Sensors/TotalPower"
    with RedfishBmc(chassis(environment={"PowerWatts": {"DataSourceUri": path}})) as service:
        service.resources[path] = sensor(431.5)
        assert ask(service) == 431_500
        service.resources[path] = sensor(431.5, "kW")
        with pytest.raises(SourceRetry, match="not in watts"):
            ask(service)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"power": control(None)}, r"PowerControl\[0\]\.PowerConsumedWatts is null"),
        ({"power": control(0)}, "is 0 W, which cannot be"),
        ({"power": control(-5)}, "is -5 W, which cannot be"),
        ({"power": control(2e6)}, r"is 2e\+06 W, which cannot be"),
        ({"power": control("214")}, "is not a number"),
        ({"power": control(True)}, "is not a number"),
        ({"power": {"PowerControl": []}}, "is null"),
        ({"power": {"PowerControl": {}}}, "is null"),
        ({"power": {"Oem": {"ts_fujitsu": {"ChassisPowerConsumption": {"CurrentPowerConsumptionW": 150}}}}}, "is null"),
        ({"power": {"PowerControl": [{"PowerConsumedWatts": 9, "Status": {"State": "Disabled"}}]}}, "that is off"),
        ({"environment": {"PowerWatts": 220}}, r"EnvironmentMetrics\.PowerWatts is null"),
        ({"supplies": {"a": 120, "b": None}}, "InputPowerWatts is null"),
        ({"supplies": {"a": 0, "b": 0}}, "is 0 W, which cannot be"),
        ({"supplies": {"a": 120, "b": {}}}, "neither EnvironmentMetrics nor Power nor PowerSubsystem"),
        ({}, "neither EnvironmentMetrics nor Power nor PowerSubsystem"),
    ],
)
def test_what_is_no_figure_is_unknown_and_says_why(parts: dict[str, object], why: str) -> None:
    """Null, zero, text, negative, absurd, a vendor's own block, a part of the supplies: never a figure, never 0 W."""
    with RedfishBmc(chassis(**parts)) as service, pytest.raises(SourceRetry, match=why):  # type: ignore[arg-type]
        ask(service)


def test_a_mean_over_minutes_is_never_taken_for_a_power() -> None:
    """``AverageConsumedWatts`` stands beside the null, and stays there."""
    with RedfishBmc(chassis(power=control(None, average=187.0))) as service, pytest.raises(SourceRetry):
        ask(service)


def test_a_figure_that_goes_and_comes_back_is_read_again(bmc: RedfishBmc) -> None:
    """A server that restarts says null for a while: unknown, and then a figure, from the same resource."""
    asking = Bmc(RedfishConfig(url=bmc.url))
    asking.poll()
    bmc.resources[ENVIRONMENT] = environment(None)
    with pytest.raises(SourceRetry, match=r"PowerWatts is null\n.*\n.*none needed while the server starts"):
        asking.poll()
    bmc.resources[ENVIRONMENT] = environment(230)

    assert asking.poll().power_mw == 230_000
    asking.close()


def test_a_resource_that_moved_is_looked_for_again(bmc: RedfishBmc) -> None:
    """A new firmware dropped the one and keeps the other."""
    asking = Bmc(RedfishConfig(url=bmc.url))
    asking.poll()
    del bmc.resources[ENVIRONMENT]
    with pytest.raises(SourceRetry, match="no such resource"):
        asking.poll()

    assert asking.poll().power_mw == 214_000
    asking.close()


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        (Reply(404, b"{}"), r"no such resource \(404\)"),
        (Reply(500, b"{}"), "answers 500"),
        (Reply(202, b"{}"), "answers 202"),
        (Reply(200, b"<html>", {"Content-Type": "text/html; charset=x"}), r"is no JSON \(text/html\)"),
        (Reply(200, b'{"PowerWatts": {"Reading": NaN}}'), "is no JSON"),
        (Reply(200, b"[]"), "is no JSON object"),
        (Reply(200, b'{"a":' * 100_000), "is no JSON"),
        (Reply(200, b'{"a": "\xff"}'), "is no JSON"),
        (Reply(200, b" " * (MAX_BODY_BYTES + 1)), "too long"),
        (Reply(302, b"", {"Location": "https://elsewhere.example/"}), "another address"),
    ],
    ids=["404", "500", "202", "html", "nan", "list", "deep", "utf8", "huge", "redirect"],
)
def test_a_bad_answer_is_said_and_costs_one_poll(bmc: RedfishBmc, reply: Reply, what: str) -> None:
    """Whatever a BMC sends, the poll fails in words, and the next one works."""
    asking = Bmc(RedfishConfig(url=bmc.url))
    asking.poll()
    bmc.replies[ENVIRONMENT] = reply
    with pytest.raises(SourceRetry, match=what):
        asking.poll()
    del bmc.replies[ENVIRONMENT]

    assert asking.poll().power_mw == 220_500
    asking.close()


def test_a_bmc_that_drips_ends_with_its_time_out(bmc: RedfishBmc) -> None:
    """The time-out is for the whole answer."""
    stop = threading.Event()
    bmc.replies[CHASSIS] = Reply(200, b" " * 400, drip=stop)

    with pytest.raises(SourceRetry, match="no whole answer in time"):
        ask(bmc, timeout_seconds=0.3)
    stop.set()


@pytest.mark.parametrize(
    ("status", "after", "seconds"),
    [(503, "120", 120), (429, "7", 7), (503, "", 30), (503, "Fri, 31 Dec", 30), (503, "-1", 30)],
)
def test_a_busy_bmc_is_left_alone_for_as_long_as_it_asks(
    bmc: RedfishBmc, status: int, after: str, seconds: int
) -> None:
    """``Retry-After`` in seconds, else half a minute."""
    bmc.replies[CHASSIS] = Reply(status, b"{}", {"Retry-After": after} if after else {})

    with pytest.raises(Postponed, match=f"busy .{status}") as failure:
        ask(bmc)
    assert failure.value.after_ns == seconds * 1_000_000_000


@pytest.mark.parametrize(
    "link",
    ["https://evil.example/redfish/v1/Chassis", "//evil.example/", "/redfish/\r\nX: y", "/redfish/" + "x" * 600, 7],
    ids=["host", "no-scheme", "header", "long", "number"],
)
def test_a_link_that_leads_away_is_no_link(bmc: RedfishBmc, link: object) -> None:
    """Neither another host nor a second header: it is as if there were none."""
    root = {"Chassis": {"@odata.id": link}}
    bmc.resources["/redfish/v1"] = root

    with pytest.raises(SourceRetry, match="lists no chassis"):
        ask(bmc)
    assert bmc.paths() == ["/redfish/v1/"]


def test_links_without_end_end(bmc: RedfishBmc) -> None:
    """A collection that is its own next page, and one with too many members."""
    bmc.resources[CHASSIS] = {"Members": [], "Members@odata.nextLink": CHASSIS}
    with pytest.raises(SourceRetry, match="lists no chassis"):
        ask(bmc)
    asked = len(bmc.asked)
    bmc.resources[CHASSIS] = {"Members": [{"@odata.id": f"{CHASSIS}/{n}"} for n in range(MOST_ANSWERS + 1)]}
    with pytest.raises(SourceRetry, match=f"more than {MOST_ANSWERS} resources"):
        ask(bmc)

    assert asked < 20
    assert len(bmc.asked) - asked == MOST_ANSWERS


def test_nobody_there_is_said() -> None:
    """With where and what to do."""
    with RedfishBmc() as service:
        url = service.url

    with pytest.raises(SourceRetry, match=r"localhost: nobody listens\n.*redfish/v1/\n.*start it"):
        Bmc(RedfishConfig(url=url)).poll()


def test_nothing_is_configured_and_nothing_is_found(tmp_path: Path) -> None:
    """No BMC is guessed, and nobody is nagged."""
    found = discover(SourcesConfig(sysfs_root=str(tmp_path)))

    assert (found.sources, found.lacks) == ((), ())
