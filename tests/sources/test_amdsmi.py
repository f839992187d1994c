"""AMD GPUs by the real package `amdsmi`, upon a stand-in for its C library."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.clock import SystemClock
from inferwatt.errors import InferwattError, SourceGone, SourceRetry
from inferwatt.records import Condition, Event, EventKind, Provenance, Reading, Usage
from inferwatt.sources import Emitted, Found, Source, SourcesConfig
from inferwatt.sources.amdsmi import discover
from inferwatt.sources.amdsmi_binding import load
from inferwatt.sources.amdsmi_status import STATUS, Handling
from inferwatt.sources.sampler import REDISCOVER_NS, Sampler
from inferwatt.sources.settings import AmdsmiConfig
from inferwatt.testing import FakeClock
from inferwatt.units import NS_PER_SECOND
from tests.doubles.amd_smi import NONE16, NONE64, PAGE, Page, build, imported
from tests.doubles.amd_sysfs import MI210, MI250X, MI300A, RX7900, AmdSysfs

from .trees import read

pytestmark = pytest.mark.real


@pytest.fixture(scope="session")
def amdsmi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The real package, imported upon the stand-in."""
    root = build(tmp_path_factory.mktemp("rocm"))
    with imported(root) as module:
        load.cache_clear()
        yield module
    load.cache_clear()


@pytest.fixture
def page(amdsmi: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """What the stand-in says: no GPU yet."""
    monkeypatch.setenv(PAGE, str(tmp_path / "page"))
    page = Page(tmp_path / "page", amdsmi)
    yield page
    page.close()


@pytest.fixture
def tree(tmp_path: Path) -> AmdSysfs:
    """A sysfs without a GPU."""
    return AmdSysfs(tmp_path)


@pytest.fixture
def search(tree: AmdSysfs) -> Iterator["Search"]:
    """Searches of which nothing is left open."""
    search = Search(SourcesConfig(sysfs_root=str(tree.root)))
    yield search
    for source in search.opened:
        source.close()


class Search:
    """Looks for the GPUs, and keeps what is to be closed."""

    def __init__(self, settings: SourcesConfig) -> None:
        self.settings = settings
        self.opened: list[Source] = []

    def found(self, *, use_counter: bool = True) -> Found:
        """Return what is found now."""
        result = discover(replace_settings(self.settings, use_counter))
        self.opened += result.sources
        return result

    def one(self, *, use_counter: bool = True) -> Source:
        """Return the only GPU that is found."""
        (source,) = self.found(use_counter=use_counter).sources
        return source


def replace_settings(settings: SourcesConfig, use_counter: bool) -> SourcesConfig:
    """Return the settings with or without the use of counters."""
    return SourcesConfig(sysfs_root=settings.sysfs_root, amdsmi=AmdsmiConfig(use_counter=use_counter))


def in_tuple(source: Source, now_ns: int) -> list[Emitted]:
    """Return what comes beside the reading."""
    said = source.read(now_ns)
    return list(said[1:]) if isinstance(said, tuple) else []


def test_an_mi300x_is_measured_by_its_accumulator(page: Page, tree: AmdSysfs, search: Search) -> None:
    """2^32 counts of 2^-16 J are 65,536 J, not what 15.3 µJ would make of them; the device says what it is."""
    tree.card("0000:c1:00.0")
    gpu = page.add("0000:c1:00.0")

    result = search.found()

    (source,) = result.sources
    assert result.lacks == ()
    assert read(source, 7) == Reading(7, "gpu-0", 65_536_000_000)
    page.set(gpu, accumulator=(1 << 32) + 3)
    assert read(source, 8) == Reading(8, "gpu-0", 65_536_000_045)
    device = source.device
    assert (device.device, device.kind, device.domain) == ("gpu-0", "AMD Instinct MI300X OAM", "gpu")
    assert (device.provenance, device.source, device.max_watts) == (Provenance.MEASURED, source.name, 750.0)
    assert (device.driver, device.uuid) == ("6.12.12", "00ff74a1-0000-1000-8012-3456789abcde")


@pytest.mark.parametrize(
    ("current", "average", "socket", "expected_mw"),
    [(305, NONE16, 305, 305_000), (NONE16, 93, 93, 93_000), (NONE16, NONE16, 41, 41_000), (0, NONE16, 0, 0)],
)
def test_the_power_is_in_the_field_of_the_generation(
    page: Page, tree: AmdSysfs, search: Search, current: int, average: int, socket: int, expected_mw: int
) -> None:
    """MI300 has the current power, MI200 and Radeon the average; what is not there is the text "N/A"."""
    tree.card("0000:c1:00.0")
    gpu = page.add("0000:c1:00.0")
    source = search.one(use_counter=False)

    page.set(gpu, current_watts=current, average_watts=average, socket_watts=socket)

    assert source.device.provenance is Provenance.SAMPLED
    assert read(source, 1) == Reading(1, "gpu-0", power_mw=expected_mw)


def test_no_power_is_a_lost_sample_and_no_zero(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Where every field says "N/A" nothing is read."""
    tree.card("0000:c1:00.0")
    gpu = page.add("0000:c1:00.0")
    source = search.one(use_counter=False)

    page.set(gpu, current_watts=NONE16, average_watts=NONE16, socket_watts=NONE16)

    with pytest.raises(SourceRetry, match="the power sensor of gpu-0 has no value now"):
        source.read(1)


@pytest.mark.parametrize("gone", [0xFFFFFFFF, NONE64])
def test_an_accumulator_without_a_value_is_a_lost_sample(
    page: Page, tree: AmdSysfs, search: Search, gone: int
) -> None:
    """All bits set is "not there"; the next read may work."""
    tree.card("0000:c1:00.0")
    gpu = page.add("0000:c1:00.0")
    source = search.one()

    page.set(gpu, accumulator=gone)
    with pytest.raises(SourceRetry, match="the energy counter of gpu-0 has no value now"):
        source.read(1)
    page.set(gpu, accumulator=1 << 16)
    assert read(source, 2).counter_uj == 1_000_000


def test_a_radeon_is_sampled_because_its_unit_is_not_documented(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Its 32 bits may count anything: the power is summed up, and the lack says why."""
    tree.card("0000:c1:00.0", RX7900)
    page.add("0000:c1:00.0", current_watts=NONE16, average_watts=93, name="AMD Radeon RX 7900 XTX")

    result = search.found()

    (source,) = result.sources
    assert (source.device.provenance, source.device.kind) == (Provenance.SAMPLED, "AMD Radeon RX 7900 XTX")
    assert read(source, 1) == Reading(1, "gpu-0", power_mw=93_000)
    assert ["no energy counter of a documented unit" in lack.what for lack in result.lacks] == [True]


@pytest.mark.parametrize("words", [{"energy_status": 2}, {"accumulator": 0}, {"accumulator": NONE64}, {"resolution": 0.0}])
def test_a_counter_that_shows_nothing_is_not_waited_for(
    page: Page, tree: AmdSysfs, search: Search, words: dict[str, int]
) -> None:
    """A guest has power and no counter: its power is summed up from the start, under its own provenance."""
    tree.card("0000:c1:00.0")
    page.add("0000:c1:00.0", **words)

    result = search.found()

    assert [source.device.provenance for source in result.sources] == [Provenance.SAMPLED]
    assert ["shows no energy counter" in lack.what for lack in result.lacks] == [True]


def test_an_mi250_is_one_device_of_two_dies(page: Page, tree: AmdSysfs, search: Search) -> None:
    """The secondary die shows no power and no energy: both dies are one device, used by the holders of both."""
    for bus, watts in (("c1", 180), ("c6", 0)):
        tree.card(f"0000:{bus}:00.0", MI250X)
        energy = 1 << 32 if watts else 0
        page.add(
            f"0000:{bus}:00.0",
            name="AMD Instinct MI250X",
            accumulator=energy,
            current_watts=NONE16,
            average_watts=watts,
            socket_watts=watts,
            busy_percent=100 if watts else 30,
        )
    tree.process(11, gpu_1193=1)
    tree.process(22, gpu_1198=1)
    source = search.one()

    source.read(0)
    beside = in_tuple(source, NS_PER_SECOND)

    assert source.device.kind == "AMD Instinct MI250X (both dies)"
    assert read(source, 1).counter_uj == 65_536_000_000
    assert beside[0] == Usage(0, NS_PER_SECOND, "gpu-0", {11: 0.5, 22: 0.15}, 0.0, 0.0)
    assert isinstance(beside[1], Condition)
    assert beside[1].utilization_ratio == 0.65


def test_every_mi300x_is_a_device(page: Page, tree: AmdSysfs, search: Search) -> None:
    """No second of two MI300X is taken for a die of the first, whatever its power; an MI300A is a module."""
    for bus, chip in (("05", 0x74A1), ("26", 0x74A1), ("46", MI300A)):
        tree.card(f"0000:{bus}:00.0", chip)
        page.add(f"0000:{bus}:00.0", current_watts=1)

    devices = [source.device for source in search.found().sources]

    assert [(device.device, device.domain) for device in devices] == [
        ("gpu-0", "gpu"),
        ("gpu-1", "gpu"),
        ("gpu-2", "module"),
    ]
    assert len({device.uuid for device in devices}) == 3


def test_partitions_of_a_gpu_are_one_device(page: Page, tree: AmdSysfs, search: Search) -> None:
    """In CPX mode the first partition alone has energy, and a process on any of them holds the GPU."""
    tree.card("0000:05:00.0")
    for number in range(1, 4):
        tree.partition("0000:05:00.0", 2000 + number, number)
        page.add(f"0000:05:00.{4 - number}", energy_status=2, current_watts=NONE16, socket_watts=NONE16)
    page.add("0000:05:00.0", busy_percent=60)
    tree.process(33, gpu_2002=1)
    source = search.one()

    assert read(source, 0).counter_uj == 65_536_000_000
    assert in_tuple(source, NS_PER_SECOND)[0] == Usage(0, NS_PER_SECOND, "gpu-0", {33: 0.6}, 0.0, 0.0)


def test_how_it_is_comes_once_a_second(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Utilisation, clock, temperature and power cap, in our units; what a GPU does not tell is None, not 0."""
    tree.card("0000:c1:00.0")
    gpu = page.add("0000:c1:00.0", busy_percent=97)
    source = search.one()

    assert in_tuple(source, 0) == [Condition(0, "gpu-0", 0.97, 132e6, 45.0, 750.0)]
    assert in_tuple(source, 10_000_000) == []
    page.set(gpu, hotspot_celsius=NONE64, edge_celsius=39, cap_uw=0, clock_mhz=0xFFFFFFFF, busy_percent=0xFFFF)
    assert in_tuple(source, NS_PER_SECOND) == [Condition(NS_PER_SECOND, "gpu-0", None, None, 39.0, None)]


def test_a_utilisation_that_is_not_told_is_no_idleness(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Without it there is no usage at all, and energy goes on being read."""
    tree.card("0000:c1:00.0")
    page.add("0000:c1:00.0", activity_status=2)
    tree.process(11, gpu_1193=1)
    source = search.one()

    source.read(0)
    kinds = [type(record) for record in in_tuple(source, NS_PER_SECOND)]

    assert kinds == [Condition]


def test_no_code_of_the_library_is_unmapped(amdsmi: ModuleType) -> None:
    """Every code that the installed package knows has its words, its handling and its command."""
    known = amdsmi.amdsmi_wrapper.amdsmi_status_t__enumvalues

    assert {code: name for code, name in known.items() if code and code not in STATUS} == {}
    assert [code for code, status in STATUS.items() if not (status.words and status.fix)] == []


@pytest.mark.parametrize("code", [*sorted(STATUS), 77])
def test_each_code_of_a_read_is_handled_by_the_table(page: Page, tree: AmdSysfs, search: Search, code: int) -> None:
    """What comes back by itself is a lost sample, what does not is gone; the code is in the words."""
    tree.card("0000:c1:00.0")
    gpu = page.add("0000:c1:00.0")
    source = search.one()
    gone = code in STATUS and STATUS[code].handling is Handling.GONE

    page.set(gpu, status=code)

    with pytest.raises(InferwattError, match=rf"amdsmi_get_energy_count: .*\(code {code}\)") as caught:
        source.read(1)
    assert isinstance(caught.value, SourceGone if gone else SourceRetry)


@pytest.mark.parametrize(("code", "fix"), [(10, "sudo usermod"), (34, "sudo modprobe amdgpu"), (18, "sudo modprobe")])
def test_a_library_that_does_not_start_leaves_the_gpus_to_sysfs(
    page: Page, tree: AmdSysfs, search: Search, code: int, fix: str
) -> None:
    """Why it does not is one lack with one command, and the power is read all the same."""
    tree.card("0000:c1:00.0")
    tree.card("0000:c6:00.0")
    page["init_status"] = code

    result = search.found()

    assert [source.device.provenance for source in result.sources] == [Provenance.SAMPLED] * 2
    (lack,) = result.lacks
    assert f"(code {code})" in lack.what
    assert lack.fix.startswith(fix)


def test_a_gpu_that_the_library_hides_is_read_by_sysfs(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Without the group of its device node one of two is hidden: both are read, under names by PCI address."""
    tree.card("0000:c1:00.0")
    tree.card("0000:c6:00.0")
    page.add("0000:c6:00.0")

    result = search.found()

    assert [(source.device.device, source.device.provenance) for source in result.sources] == [
        ("gpu-0", Provenance.SAMPLED),
        ("gpu-1", Provenance.MEASURED),
    ]
    assert [(lack.where, lack.fix[:12]) for lack in result.lacks] == [("0000:c1:00.0", "sudo usermod")]


def test_a_machine_without_an_amd_gpu_never_starts_the_library(page: Page, search: Search) -> None:
    """Nothing is found, nothing is lacking, nothing is touched."""
    assert search.found() == Found()
    assert page["inits"] == 0


def test_the_library_is_started_once_and_shut_down_by_the_last(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Each source and each search counts; a second close counts for nothing."""
    for bus in ("c1", "c6"):
        tree.card(f"0000:{bus}:00.0")
        page.add(f"0000:{bus}:00.0")
    first, second = search.found().sources
    again = search.found().sources

    for source in (first, first, *again):
        source.close()
    assert (page["inits"], page["shutdowns"]) == (1, 0)
    assert read(second, 1).counter_uj == 65_536_000_000
    second.close()
    assert (page["inits"], page["shutdowns"]) == (1, 1)


def test_a_counter_that_stands_still_under_load_is_told(page: Page, tree: AmdSysfs, search: Search) -> None:
    """The reading is what the counter says, never smoothed; one event names the figures and the setting that helps."""
    tree.card("0000:c1:00.0", MI210)
    page.add("0000:c1:00.0", current_watts=NONE16, average_watts=305, socket_watts=305)
    source = search.one()

    said = [record for t in range(30) for record in in_tuple(source, t * NS_PER_SECOND) if isinstance(record, Event)]

    (event,) = said
    assert (event.t_ns, event.kind, event.device) == (10 * NS_PER_SECOND, EventKind.READ_FAILURE, "gpu-0")
    assert event.detail.startswith("the energy counter stands still while the power sensor says 305 W: set")
    assert "sources.amdsmi.use_counter = false" in event.detail
    assert read(source, 1).counter_uj == 65_536_000_000


def test_a_counter_that_agrees_with_the_sensor_is_left_in_peace(page: Page, tree: AmdSysfs, search: Search) -> None:
    """305 W by both."""
    tree.card("0000:c1:00.0")
    page.add("0000:c1:00.0", current_watts=305, step=305 << 16)
    source = search.one()

    assert [record for t in range(30) for record in in_tuple(source, t * NS_PER_SECOND) if isinstance(record, Event)] == []


def test_a_gpu_that_is_lost_and_back_is_found_again(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Of three GPUs the second falls off and comes back: the others are read all the time, and it under its own name."""
    numbers = []
    for bus in ("c1", "c6", "c9"):
        tree.card(f"0000:{bus}:00.0")
        numbers.append(page.add(f"0000:{bus}:00.0", step=1000))
    said: list[Emitted] = []
    clock = FakeClock()
    sampler = Sampler(search.found().sources, None, clock, said.append, rediscover=lambda: search.found().sources)

    def beat() -> set[str]:
        said.clear()
        clock.advance(REDISCOVER_NS)
        sampler.poll(clock.monotonic_ns())
        return {record.device for record in said if isinstance(record, Reading)}

    assert beat() == {"gpu-0", "gpu-1", "gpu-2"}
    page.set(numbers[1], status=31)
    assert beat() == {"gpu-0", "gpu-2"}
    assert [(e.kind, e.device) for e in said if isinstance(e, Event)] == [(EventKind.DEVICE_GONE, "gpu-1")]
    assert beat() == {"gpu-0", "gpu-2"}
    page.set(numbers[1], status=0)
    beat()
    assert beat() == {"gpu-0", "gpu-1", "gpu-2"}
    sampler.stop()


def test_a_call_that_hangs_does_not_hold_up_the_other_gpus(page: Page, tree: AmdSysfs, search: Search) -> None:
    """No lock is held while the library is asked: the next thread reads the others while one call still hangs."""
    for bus in ("c1", "c6"):
        tree.card(f"0000:{bus}:00.0")
        page.add(f"0000:{bus}:00.0")
    sources = search.found().sources
    second = threading.Event()
    said: list[Emitted] = []

    def emit(record: Emitted) -> None:
        said.append(record)
        if isinstance(record, Reading) and record.device == "gpu-1":
            second.set()

    clock = SystemClock()
    sampler = Sampler(sources, None, clock, emit)
    page.set(0, hang_ns=NS_PER_SECOND)
    sampler.start()
    while page.get(0, "calls") == CALLS_OF_A_SEARCH:
        pass
    sampler.check(clock.monotonic_ns() + 2 * NS_PER_SECOND)

    assert second.wait(30)
    assert [(e.kind, e.device) for e in said if isinstance(e, Event)] == [(EventKind.READ_FAILURE, "gpu-0")]
    sampler.stop()


COUNTS = st.integers(min_value=0, max_value=2**64 - 1)


@given(st.lists(COUNTS, min_size=1, max_size=20))
def test_whatever_it_counts_is_read_or_lost(amdsmi: ModuleType, tmp_path_factory: pytest.TempPathFactory, counts: list[int]) -> None:
    """Resets, jumps and "not there" pass through the real package as they are: a reading is the count, or there is none."""
    folder = tmp_path_factory.mktemp("law")
    os.environ[PAGE] = str(folder / "page")
    page, tree = Page(folder / "page", amdsmi), AmdSysfs(folder)
    tree.card("0000:c1:00.0")
    gpu = page.add("0000:c1:00.0")
    (source,) = discover(SourcesConfig(sysfs_root=str(folder))).sources

    for number, count in enumerate(counts):
        page.set(gpu, accumulator=count)
        try:
            shown = read(source, number).counter_uj
        except SourceRetry:
            shown = None
        assert shown == (None if count in {0xFFFFFFFF, NONE64} else count * 10**6 // 2**16)
    source.close()
    page.close()
