"""AMD GPUs by the real package `amdsmi`, upon a stand-in for its C library: each generation and its fields."""

import pytest

from inferwatt.errors import SourceRetry
from inferwatt.records import Condition, Provenance, Reading, Usage
from inferwatt.units import NS_PER_SECOND
from tests.doubles.amd_smi import NONE16, NONE64, Page
from tests.doubles.amd_sysfs import MI250X, MI300A, RX7900, AmdSysfs

from .amd import Search, amd_library, amdsmi, in_tuple, page, search, tree
from .trees import read

__all__ = ["amd_library", "amdsmi", "page", "search", "tree"]

pytestmark = pytest.mark.real


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
def test_an_accumulator_without_a_value_is_a_lost_sample(page: Page, tree: AmdSysfs, search: Search, gone: int) -> None:
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


@pytest.mark.parametrize(
    "words", [{"energy_status": 2}, {"accumulator": 0}, {"accumulator": NONE64}, {"resolution": 0.0}]
)
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
