from dataclasses import replace

import pytest

from inferwatt.books import Books
from inferwatt.engines.intake import InboxHealth
from inferwatt.engines.scrape import ScraperHealth
from inferwatt.engines.servers import ServerConfig
from inferwatt.engines.watch import TargetHealth
from inferwatt.records import Device, Provenance
from inferwatt.snapshot import Lack
from inferwatt.sources import Found
from inferwatt.sources.health import SamplerHealth, SourceHealth
from inferwatt.testing import ScriptedSource
from inferwatt.vitals import MOST_LACKS_TOLD, bring_in, desk_trouble, healthz, opening_lines, resolutions, server_lacks

TARGET = TargetHealth("llamacpp:1", "http://x:1", "llamacpp", "up", "m", 10, 2, 0, 0, 0, {}, 100, None)


class Rooms:
    """The health of three rooms, as a test sets it."""

    def __init__(self, *sources: SourceHealth) -> None:
        self.sources = sources
        self.rejected = {"seq": 2}

    def sampler_health(self) -> SamplerHealth:
        """Return these sources."""
        return SamplerHealth(self.sources, beats=1, missed_beats=0, errors=0, hz=10.0, running=True)

    def inbox_health(self) -> InboxHealth:
        """Return two rejected records and one refused peer."""
        return InboxHealth(1, 1, 1, 0, 0, 0, self.rejected, {"peer": 1})

    def scraper_health(self) -> ScraperHealth:
        """Return one server."""
        return ScraperHealth((TARGET,), 0)


def source(device: str, name: str, *, up: bool = True, stale: bool = False) -> SourceHealth:
    """Return the health of one device."""
    return SourceHealth(device, name, up=up, stale=stale, samples=9, lost=1, hung=0)


def test_the_rooms_counts_become_metrics() -> None:
    """What a room counts from its start is added to the books by what it gained."""
    books, rooms = Books(), Rooms(source("cpu", "modelled"))

    bring_in(rooms, books, ("rapl",))
    rooms.rejected = {"seq": 5}
    bring_in(rooms, books, ("rapl",))

    assert books.values["inferwatt_samples_total"] == {("cpu",): 9}
    assert books.values["inferwatt_records_dropped_total"] == {("inbox_seq",): 5, ("inbox_peer",): 1}
    assert books.values["inferwatt_scrape_failures_total"] == {("llamacpp:1", "page"): 2}


def test_a_server_that_is_not_read_is_lacking() -> None:
    """Whatever is in the way is told; one that has ended is no lack, unless it is configured."""
    lack = Lack("several servers answer", "s: http://x", "name each pod")
    states = ("replicas", "silent", "no_metrics", "unreadable", "down", "up")
    targets = tuple(replace(TARGET, state=state, last_error=None if state == "up" else lack) for state in states)

    configured = (ServerConfig(TARGET.name, TARGET.url),)
    assert server_lacks(ScraperHealth(targets, 0)) == (lack,) * 4
    assert server_lacks(ScraperHealth(targets, 0), configured) == (lack,) * 5


def test_a_source_without_a_device_is_down() -> None:
    """A source that was asked and found nothing has no series but that it is down; one that was not asked has none."""
    books = Books()

    bring_in(Rooms(source("cpu", "modelled")), books, ("rapl", "modelled"))

    assert books.values["inferwatt_source_up"] == {("rapl",): 0, ("modelled",): 1}


def test_a_source_is_up_while_one_of_its_devices_delivers() -> None:
    """One lost GPU of two leaves the source up, both lost take it down."""
    books, lost = Books(), source("gpu-1", "nvml", up=False)

    bring_in(Rooms(source("gpu-0", "nvml"), lost), books, ("nvml",))
    assert books.values["inferwatt_source_up"] == {("nvml",): 1}

    bring_in(Rooms(source("gpu-0", "nvml", stale=True, up=False), lost), books, ("nvml",))
    assert books.values["inferwatt_source_up"] == {("nvml",): 0}


def test_a_hung_device_is_stale_and_the_meter_degraded() -> None:
    """A device whose read hangs is named; the meter itself has not failed."""
    rooms = Rooms(source("gpu-0", "nvml", up=False, stale=True), source("cpu", "modelled"))

    assert bring_in(rooms, Books(), ()) == {"gpu-0"}
    health = healthz(rooms, [])
    assert (health["status"], health["trouble"]) == ("degraded", ["device gpu-0 does not answer"])
    assert healthz(rooms, [], has_failed=True)["status"] == "failed"
    assert healthz(Rooms(source("cpu", "modelled")), [])["status"] == "ok"


def test_the_opening_says_it_in_ten_lines() -> None:
    """However much is lacking, the log of the start is at most ten lines."""
    lacks = [Lack(f"thing {n}", "here", f"command {n}") for n in range(20)]
    found = Found((ScriptedSource("gpu-0", []),))

    lines = opening_lines(Rooms(), found, lacks, "host", "http://127.0.0.1:9595/")

    assert len(lines) <= 10
    assert f"and {20 - MOST_LACKS_TOLD} more on the page" in lines
    assert "lacks: thing 0 -> command 0" in lines
    assert "gpu-0 (measured ±5%" in lines[1]


def test_devices_that_are_known_alike_are_named_together() -> None:
    """Eight GPUs of one driver take one pair of brackets."""
    gpus = [ScriptedSource(f"gpu-{n}", []) for n in range(8)]
    cpu = ScriptedSource(Device("cpu", provenance=Provenance.MODELLED, systematic_ratio=0.59), [])

    lines = opening_lines(Rooms(), Found((*gpus, cpu)), (), "host", "")

    assert lines[1] == (
        "devices: gpu-0 gpu-1 gpu-2 gpu-3 gpu-4 gpu-5 gpu-6 gpu-7 (measured ±5%, scripted), "
        "cpu (modelled ±59%, scripted)"
    )


def test_the_step_of_each_servers_counters_is_known() -> None:
    """A large counter on a page with six digits moves in steps."""
    assert resolutions(Rooms().scraper_health()) == {"llamacpp:1": 100}


@pytest.mark.parametrize(
    ("error", "seconds", "words"),
    [("", 9, []), ("", 31, ["nothing was settled for 31 s"]), ("full", 0, ["the ledger cannot be written"])],
)
def test_a_desk_that_stands_still_is_told(error: str, seconds: int, words: list[str]) -> None:
    """Figures are shown only when they are kept: a disk that hangs would let them stand without a word."""
    told = desk_trouble(error, seconds * 10**9)

    assert [text.partition(":")[0] for text in told] == words
