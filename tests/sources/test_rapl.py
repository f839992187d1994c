"""RAPL zones over fake trees with real files, laid out as the kernel does."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Component, Provenance, Reading
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.coefficients import AMD, HYGON, INTEL, Cpu
from inferwatt.sources.rapl import COMPUTED_RATIO, MEASURED_RATIO, discover, systematic_ratio

from .trees import RANGE_UJ, Powercap, Proc, cpuinfo, read


@pytest.fixture
def powercap(tmp_path: Path) -> Powercap:
    """An empty powercap tree."""
    return Powercap(tmp_path)


def found(tree: Powercap) -> Found:
    """Return what is found in the tree; the processor is the one in its cpuinfo, unknown where it has none."""
    return discover(SourcesConfig(sysfs_root=str(tree.root), proc_root=str(tree.root)))


def names(result: Found) -> list[str]:
    """Return the devices' names."""
    return [source.device.device for source in result.sources]


def test_a_package_and_its_dram_are_two_devices_and_core_and_uncore_none(powercap: Powercap) -> None:
    """Subzones that the package contains are never added to it; DRAM, which it does not contain, is."""
    powercap.zone("0", "package-0", 1_000)
    powercap.zone("0:0", "core", 600)
    powercap.zone("0:1", "uncore", 100)
    powercap.zone("0:2", "dram", 300)

    result = found(powercap)

    assert names(result) == ["cpu-0", "dram-0"]
    cpu, dram = (source.device for source in result.sources)
    assert (cpu.component, cpu.domain, cpu.provenance) == (Component.CPU, "package", Provenance.MEASURED)
    assert (dram.component, dram.domain) == (Component.DRAM, "dram")
    assert result.lacks == ()


def test_a_reading_is_the_counter_and_where_it_wraps(powercap: Powercap) -> None:
    """The counter takes every value up to the range, so it wraps at one more; what is written later is read later."""
    folder = powercap.zone("0", "package-0", RANGE_UJ)
    source = found(powercap).sources[0]

    assert source.read(5) == Reading(5, "cpu-0", RANGE_UJ, None, RANGE_UJ + 1)
    (folder / "energy_uj").write_text("17\n")
    assert source.read(6) == Reading(6, "cpu-0", 17, None, RANGE_UJ + 1)
    source.close()
    source.close()


def test_two_sockets_of_the_same_name_are_two_devices(powercap: Powercap) -> None:
    """A zone is known by its place in the tree, not by its name."""
    powercap.zone("0", "package-0", 10)
    powercap.zone("1", "package-0", 20)

    result = found(powercap)

    assert names(result) == ["cpu-0", "cpu-1"]
    assert [read(source, 0).counter_uj for source in result.sources] == [10, 20]
    assert [source.device.uuid for source in result.sources] == ["intel-rapl:0", "intel-rapl:1"]


def test_the_mmio_copy_of_a_package_is_dropped(powercap: Powercap) -> None:
    """The same counter by another road is not a second counter."""
    powercap.zone("0", "package-0", 10)
    powercap.zone("0:2", "dram", 10)
    powercap.zone("0", "package-0", 10, control="intel-rapl-mmio")
    powercap.zone("0:0", "dram", 10, control="intel-rapl-mmio")

    assert names(found(powercap)) == ["cpu-0", "dram-0"]


def test_a_package_that_only_mmio_shows_is_read(powercap: Powercap) -> None:
    """Where there is no other road, the mmio zone is the counter."""
    powercap.zone("0", "package-0", 10, control="intel-rapl-mmio")

    assert names(found(powercap)) == ["cpu-0"]


def test_psys_is_not_added_to_the_packages_that_it_contains(powercap: Powercap) -> None:
    """The whole platform beside its package would count the package twice."""
    powercap.zone("0", "package-0", 10)
    powercap.zone("1", "psys", 50)

    assert names(found(powercap)) == ["cpu-0"]


def test_psys_stands_alone_where_no_package_can_be_read(powercap: Powercap) -> None:
    """Without a package the platform is the best there is, and DRAM, which it contains, is left out."""
    package = powercap.zone("0", "package-0", None)
    powercap.zone("0:0", "dram", 5)
    powercap.zone("1", "psys", 50)

    result = found(powercap)

    assert [(source.device.device, source.device.domain) for source in result.sources] == [("psys-1", "psys")]
    assert [lack.where for lack in result.lacks] == [str(package / "energy_uj")]


def test_two_dies_of_an_intel_package_are_two_devices(powercap: Powercap) -> None:
    """There each die counts its own energy, and they are named by socket and die, whatever their place in the tree."""
    Proc(powercap.root).cpuinfo(cpuinfo(INTEL, 6, 85, stepping=7))
    for number, name in enumerate(("package-1-die-0", "package-0-die-0", "package-1-die-1", "package-0-die-1")):
        powercap.zone(str(number), name, 10 + number)
        powercap.zone(f"{number}:0", "dram", 20 + number)

    result = found(powercap)

    places = ("1-die-0", "0-die-0", "1-die-1", "0-die-1")
    assert names(result) == [f"{kind}-{place}" for kind in ("cpu", "dram") for place in places]
    assert [source.device.systematic_ratio for source in result.sources] == [MEASURED_RATIO] * 4 + [COMPUTED_RATIO] * 4


@pytest.mark.parametrize("vendor", [AMD, HYGON])
def test_an_amd_package_that_is_listed_for_each_die_is_read_once(powercap: Powercap, vendor: str) -> None:
    """Kernels 6.9 to 6.11 show a Zen 4 server of two sockets and eight dies each as sixteen packages, numbered to f.

    The list of zones is that of the kernel's commit 26096aed255f. Each shows the whole package's counter: to add them
    up would be eight times too much.
    """
    Proc(powercap.root).cpuinfo(cpuinfo(vendor, 25, 17))
    for number in range(16):
        powercap.zone(f"{number:x}", f"package-{number // 8}-die-{number % 8}", 10 + number // 8)
        powercap.zone(f"{number:x}:0", "core", 1)

    result = found(powercap)

    assert names(result) == ["cpu-0", "cpu-1"]
    assert [read(source, 0).counter_uj for source in result.sources] == [10, 11]
    assert result.sources[0].device.kind == "RAPL package-0-die-0, a model"


def test_a_device_goes_by_its_socket_and_not_by_its_place_in_the_tree(powercap: Powercap) -> None:
    """The kernel numbers zones in the order in which it found them."""
    powercap.zone("0", "package-1", 10)
    powercap.zone("0:0", "dram", 1)
    powercap.zone("1", "package-0", 20)
    powercap.zone("1:0", "dram", 2)

    result = found(powercap)

    assert {s.device.device: read(s, 0).counter_uj for s in result.sources} == {
        "cpu-1": 10,
        "cpu-0": 20,
        "dram-1": 1,
        "dram-0": 2,
    }


@pytest.mark.parametrize(
    ("cpu", "domain", "ratio"),
    [
        (Cpu(INTEL, 6, 0x3F), "package", MEASURED_RATIO),
        (Cpu(INTEL, 6, 143), "package", MEASURED_RATIO),
        (Cpu(INTEL, 6, 143), "dram", COMPUTED_RATIO),
        (Cpu(INTEL, 6, 143), "psys", COMPUTED_RATIO),
        (Cpu(INTEL, 6, 0x2D), "package", COMPUTED_RATIO),
        (Cpu(INTEL, 6, 0x3E), "package", COMPUTED_RATIO),
        (Cpu(AMD, 23, 49), "package", COMPUTED_RATIO),
        (Cpu(HYGON, 24, 1), "package", COMPUTED_RATIO),
        (Cpu("CentaurHauls", 7, 59), "package", COMPUTED_RATIO),
        (Cpu(), "package", COMPUTED_RATIO),
    ],
)
def test_only_what_is_measured_claims_the_narrow_bound(cpu: Cpu, domain: str, ratio: float) -> None:
    """A model of the processor's, DRAM, the platform and an unknown vendor get the wide one."""
    assert systematic_ratio(cpu, domain) == ratio


def test_a_tree_without_zones_is_a_lack(powercap: Powercap) -> None:
    """Who may have a counter is told how to get at it."""
    result = found(powercap)

    assert result.sources == ()
    assert "modprobe intel_rapl_msr" in result.lacks[0].fix
    assert (result.lacks[0].source, result.lacks[0].component) == ("rapl", "cpu")


def test_a_virtual_machine_is_not_told_to_load_a_module(powercap: Powercap) -> None:
    """Where CPUID says that a hypervisor is below, no command would help."""
    Proc(powercap.root).cpuinfo(cpuinfo(AMD, 26, 2, flags="fpu hypervisor lm"))

    assert [lack.fix[:9] for lack in found(powercap).lacks] == ["none here"]


def test_an_arm_processor_does_not_lack_rapl(powercap: Powercap) -> None:
    """It has never had it."""
    Proc(powercap.root).cpuinfo("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n\n")

    assert found(powercap) == Found()


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that a user without rights can reach; the test runs as such a user."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_a_counter_that_only_root_may_read_is_a_lack_with_its_remedy(unprivileged: Path) -> None:
    """Mode 0400, as since PLATYPUS: no source, no zero, and the command and udev rule that open it."""
    folder = Powercap(unprivileged).zone("0", "package-0", 10)
    (folder / "energy_uj").chmod(0o400 if os.geteuid() == 0 else 0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        result = discover(SourcesConfig(sysfs_root=str(unprivileged)))
    finally:
        if was == 0:
            os.seteuid(was)

    assert result.sources == ()
    assert "Permission denied" in result.lacks[0].what
    assert "chmod a+r /sys/class/powercap/*/energy_uj" in result.lacks[0].fix
    assert (result.lacks[0].source, result.lacks[0].component) == ("rapl", "cpu")
    assert 'SUBSYSTEM=="powercap"' in result.lacks[0].fix


def test_a_fifo_in_place_of_the_counter_does_not_hang(powercap: Powercap) -> None:
    """Opening a FIFO without a writer would block for ever; it is refused."""
    os.mkfifo(powercap.zone("0", "package-0", None) / "energy_uj")

    result = found(powercap)

    assert result.sources == ()
    assert "not a regular file" in result.lacks[0].what


@pytest.mark.parametrize("text", ["", "garbage", "N/A", "-7"])
def test_a_counter_without_a_number_is_a_lack_at_the_start(powercap: Powercap, text: str) -> None:
    """What cannot be read when it is looked for is not a device."""
    powercap.zone("0", "package-0", text)

    result = found(powercap)

    assert result.sources == ()
    assert result.lacks[0].what.startswith("cannot read the energy counter of cpu-0: the counter")


def test_a_counter_whose_text_is_empty_for_once_is_read_again(powercap: Powercap) -> None:
    """One bad text costs one sample, not the device."""
    folder = powercap.zone("0", "package-0", 10)
    source = found(powercap).sources[0]
    (folder / "energy_uj").write_text("")

    with pytest.raises(SourceRetry, match=r"cpu-0: the counter's text is not a number\n.*energy_uj"):
        source.read(0)
    (folder / "energy_uj").write_text("11")
    assert read(source, 1).counter_uj == 11


def test_a_counter_that_vanishes_ends_its_device(powercap: Powercap) -> None:
    """A removed file is gone, also while its descriptor still shows the last text; so is a closed one."""
    folder = powercap.zone("0", "package-0", 10)
    source = found(powercap).sources[0]
    (folder / "energy_uj").unlink()

    with pytest.raises(SourceGone, match="cpu-0 is gone"):
        source.read(0)
    source.close()
    with pytest.raises(SourceGone):
        source.read(1)


def test_a_zone_without_its_range_does_not_say_where_it_wraps(powercap: Powercap) -> None:
    """An unknown range is absent, never guessed."""
    folder = powercap.zone("0", "package-0", 10)
    (folder / "max_energy_range_uj").unlink()

    assert read(found(powercap).sources[0], 0).wraps_at_uj is None
