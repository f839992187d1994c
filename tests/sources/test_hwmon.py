"""Power rails over fake trees with real files.

Grace: the figures that jpwr's README prints of a GH200 node. Jetson: labels of tegra234-p3701.dtsi and -p3767.dtsi, and
voltages and currents as users of an AGX Orin print them.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Component, Provenance, Reading
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.choice import choose
from inferwatt.sources.hwmon import SAMPLED_RATIO, discover
from inferwatt.sources.hwmon_rails import CHIPS, RAILS, rail_of
from inferwatt.sources.rapl import COMPUTED_RATIO
from inferwatt.units import NS_PER_MS, NS_PER_SECOND

from .trees import Dmi, Hwmon, Proc, read

GRACE_CPUINFO = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n\n"
UNKNOWN_UW = 0xFFFFFFFF * 1000
"""PWR_METER_ERR_RETURN of the firmware, in mW, as the kernel shows it in µW."""


@pytest.fixture
def hwmon(tmp_path: Path) -> Hwmon:
    """A machine without a chip."""
    return Hwmon(tmp_path)


def found(tree: Hwmon) -> Found:
    """Return what is found in the tree."""
    return discover(SourcesConfig(sysfs_root=str(tree.root), proc_root=str(tree.root)))


def names(result: Found) -> list[str]:
    """Return the devices' names."""
    return [source.device.device for source in result.sources]


def test_of_the_four_meters_of_a_grace_socket_one_is_read(hwmon: Hwmon) -> None:
    """Grace contains its rails, and the firmware answers for a second meter with the first one's figure."""
    meters = {"Module": 165_627_000, "Grace": 36_714_000, "CPU": 35_134_000, "SysIO": 171_000}
    for socket in (0, 1):
        for number, (meter, power_uw) in enumerate(meters.items(), start=4 * socket):
            hwmon.grace(number, f"{meter} Power Socket {socket}", power_uw + socket)

    result = found(hwmon)

    assert names(result) == ["cpu-0", "cpu-1"]
    assert [read(source, 7) for source in result.sources] == [
        Reading(7, "cpu-0", power_mw=36_714),
        Reading(7, "cpu-1", power_mw=36_714),
    ]
    device = result.sources[0].device
    assert (device.component, device.domain, device.provenance) == (Component.CPU, "socket", Provenance.SAMPLED)
    assert (device.model, device.systematic_ratio) == ("Grace Power Socket 0", SAMPLED_RATIO)
    assert result.lacks == ()


def test_a_socket_without_that_meter_is_read_by_its_cpu_rail_alone(hwmon: Hwmon) -> None:
    """SysIO beside it would be answered from memory; the module contains the GPU."""
    for number, meter in enumerate(("Module", "CPU", "SysIO")):
        hwmon.grace(number, f"{meter} Power Socket 2", 10_000_000 + number)

    result = found(hwmon)

    assert [(s.device.device, s.device.domain) for s in result.sources] == [("cpu-2", "rail")]


@pytest.mark.parametrize(("interval_ms", "period_ms"), [(50, 50), (1000, 1000), (1, 50), (0, 50)])
def test_a_meter_is_read_as_often_as_its_mean_is_long(hwmon: Hwmon, interval_ms: int, period_ms: int) -> None:
    """Between, it shows the same; and never within the 50 ms in which the firmware answers from memory."""
    hwmon.grace(0, "Grace Power Socket 0", 36_714_000, interval_ms=interval_ms)

    assert found(hwmon).sources[0].period_ns == period_ms * NS_PER_MS


@pytest.mark.parametrize("text", [UNKNOWN_UW, 0, -5_000_000, "", "N/A"])
def test_what_the_firmware_does_not_know_is_a_lost_sample_and_never_a_power(hwmon: Hwmon, text: int | str) -> None:
    """4.3 MW, nothing at all and a text are its words for unknown; the next figure is taken again."""
    files = hwmon.grace(0, "Grace Power Socket 0", 36_714_000)
    source = found(hwmon).sources[0]
    (files / "power1_average").write_text(f"{text}\n")

    with pytest.raises(SourceRetry, match=r"cannot read the rail of cpu-0: .*\n.*power1_average"):
        source.read(0)
    (files / "power1_average").write_text("41000400\n")
    assert read(source, 1).power_mw == 41_000


def test_a_meter_without_a_figure_at_the_start_is_a_lack(hwmon: Hwmon) -> None:
    """Else it would stand in the way of a model, and say nothing."""
    hwmon.grace(0, "Grace Power Socket 0", UNKNOWN_UW)

    result = found(hwmon)

    assert result.sources == ()
    assert [(lack.source, lack.component) for lack in result.lacks] == [("hwmon", "cpu")]


def test_a_chip_is_found_again_under_another_number(hwmon: Hwmon) -> None:
    """Numbers change from boot to boot; the label and the device behind it do not."""
    hwmon.grace(5, "Grace Power Socket 0", 36_714_000)
    before = found(hwmon).sources[0].device
    with tempfile.TemporaryDirectory() as folder:
        other = Hwmon(Path(folder))
        files = other.chip(2, "power_meter", "ACPI000D:05", with_device=True)
        for name, text in (("power1_oem_info", "Grace Power Socket 0"), ("power1_average", "1000000")):
            (files / name).write_text(text)

        after = found(other).sources[0].device

    assert after == before
    assert after.uuid == "power_meter:ACPI000D:05:1"


def test_a_servers_own_meter_and_other_chips_are_not_read(hwmon: Hwmon) -> None:
    """A meter without such a label is the BMC's; a GPU has a source of its own; a battery is no load."""
    hwmon.grace(0, "", 412_000_000)
    gpu = hwmon.chip(1, "amdgpu", "0000:03:00.0")
    (gpu / "power1_average").write_text("25000000")
    (gpu / "power1_label").write_text("PPT")
    (hwmon.chip(2, "BAT0", "PNP0C0A:00") / "power1_input").write_text("9000000")

    assert found(hwmon) == Found()


def test_grace_without_meters_is_told_which_module_shows_them(hwmon: Hwmon) -> None:
    """The processor is known by its part number."""
    Proc(hwmon.root).cpuinfo(GRACE_CPUINFO)

    assert [lack.fix for lack in found(hwmon).lacks] == ["sudo modprobe acpi_power_meter"]


def test_the_same_core_in_a_cloud_lacks_nothing(hwmon: Hwmon) -> None:
    """Graviton4 has it too, and no meter."""
    Proc(hwmon.root).cpuinfo(GRACE_CPUINFO)
    Dmi(hwmon.root).says(sys_vendor="Amazon EC2", product_name="m8g.large")

    assert found(hwmon) == Found()


def test_a_jetson_module_is_read_as_a_whole_where_it_has_one_rail_for_all(hwmon: Hwmon) -> None:
    """Orin NX and Nano: VDD_IN contains the other two, and nothing of the host may stand beside it."""
    rails = {1: ("VDD_IN", 5_000, 1_200), 2: ("VDD_CPU_GPU_CV", 5_000, 400), 3: ("VDD_SOC", 5_000, 300)}
    hwmon.ina3221(3, "1-0040", rails)

    result = found(hwmon)

    assert names(result) == ["gpu-0"]
    assert read(result.sources[0], 0).power_mw == 6_000
    assert (result.sources[0].device.component, result.sources[0].device.domain) == (Component.ACCELERATOR, "module")
    assert result.sources[0].device.uuid == ""  # a chip's name is not how NVML knows the GPU: it goes by gpu-0


def test_a_jetson_agx_orin_is_read_by_its_three_disjoint_rails(hwmon: Hwmon) -> None:
    """The memory's rail is a part of VIN_SYS_5V0; the sum of shunts is no rail."""
    rails = {1: ("VDD_GPU_SOC", 4_968, 677), 2: ("VDD_CPU_CV", 4_968, 97), 3: ("VIN_SYS_5V0", 4_968, 980)}
    hwmon.ina3221(3, "1-0040", rails)
    hwmon.ina3221(4, "1-0041", {1: ("NC", 0, 0), 2: ("VDDQ_VDD2_1V8AO", 4_968, 80)})

    result = found(hwmon)

    assert {s.device.device: (s.device.component, read(s, 0).power_mw) for s in result.sources} == {
        "gpu-0": (Component.ACCELERATOR, 3_363),
        "cpu-0": (Component.CPU, 482),
        "board-0": (Component.OVERHEAD, 4_869),
    }
    assert choose(result.sources).passed_over == ()
    assert {source.period_ns for source in result.sources} == {100 * NS_PER_MS}


@pytest.mark.parametrize(("milliamperes", "power_mw"), [(-78, 0), (0, 0), (1, 5)])
def test_a_current_below_the_sensors_offset_is_no_negative_power(
    hwmon: Hwmon, milliamperes: int, power_mw: int
) -> None:
    """An idle rail may show a little less than nothing (a Thor's GPU does: -392 mW); an unused one shows 0."""
    hwmon.ina3221(3, "1-0040", {1: ("VDD_GPU", 5_024, milliamperes)})

    assert read(found(hwmon).sources[0], 0).power_mw == power_mw


def test_the_updates_of_a_slow_monitor_set_its_period(hwmon: Hwmon) -> None:
    """With much averaging it has a new value less than ten times a second."""
    files = hwmon.ina3221(3, "1-0040", {1: ("VDD_GPU", 5_000, 10)})
    (files / "update_interval").write_text("1690\n")

    assert found(hwmon).sources[0].period_ns == 1_690 * NS_PER_MS


def test_a_channel_that_is_switched_off_is_a_lack(hwmon: Hwmon) -> None:
    """The kernel says "no data" for it; a file that is not there stands for it here."""
    files = hwmon.ina3221(3, "1-0040", {1: ("VDD_GPU_SOC", 5_000, 10), 2: ("VDD_CPU_CV", 5_000, 10)})
    (files / "curr2_input").unlink()

    result = found(hwmon)

    assert names(result) == ["gpu-0"]
    assert [lack.what for lack in result.lacks] == ["cannot read the rail VDD_CPU_CV: No such file or directory"]


def test_amd_energy_counts_sockets_and_not_their_cores(hwmon: Hwmon) -> None:
    """A counter in µJ that the driver keeps from wrapping; a model of the processor's, as RAPL on AMD is."""
    files = hwmon.chip(0, "amd_energy", "amd_energy.0")
    for number, (label, energy_uj) in enumerate(
        (("Ecore000", 5), ("Ecore001", 6), ("Esocket0", 700), ("Esocket1", 800))
    ):
        (files / f"energy{number + 1}_label").write_text(f"{label}\n")
        (files / f"energy{number + 1}_input").write_text(f"{energy_uj}\n")

    result = found(hwmon)

    assert [read(source, 3) for source in result.sources] == [Reading(3, "cpu-0", 700), Reading(3, "cpu-1", 800)]
    device = result.sources[0].device
    assert (device.provenance, device.systematic_ratio) == (Provenance.MEASURED, COMPUTED_RATIO)


@pytest.fixture
def unprivileged() -> Iterator[Hwmon]:
    """A tree that a user without rights can reach; the test runs as such a user."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Hwmon(Path(folder))


def test_amd_energy_that_only_root_may_read_is_one_lack_with_its_remedy(unprivileged: Hwmon) -> None:
    """Labels and counters are closed alike since CVE-2020-12912."""
    files = unprivileged.chip(0, "amd_energy", "amd_energy.0")
    for number in (1, 2):
        for name, text in (("label", f"Esocket{number}"), ("input", "5")):
            file = files / f"energy{number}_{name}"
            file.write_text(text)
            file.chmod(0o400 if os.geteuid() == 0 else 0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        result = found(unprivileged)
    finally:
        if was == 0:
            os.seteuid(was)

    assert result.sources == ()
    assert len(result.lacks) == 1
    assert "Permission denied" in result.lacks[0].what
    assert 'ATTR{name}=="amd_energy"' in result.lacks[0].fix


def test_a_fifo_in_place_of_a_value_does_not_hang(hwmon: Hwmon) -> None:
    """Opening a FIFO without a writer would block for ever; it is refused."""
    files = hwmon.grace(0, "Grace Power Socket 0", 5)
    (files / "power1_average").unlink()
    os.mkfifo(files / "power1_average")

    assert "not a regular file" in found(hwmon).lacks[0].what


def test_a_chip_that_is_removed_ends_its_device(hwmon: Hwmon) -> None:
    """Once its files are closed and gone there is nothing to try again; a second close does nothing."""
    hwmon.grace(0, "Grace Power Socket 0", 5_000_000)
    source = found(hwmon).sources[0]
    source.close()
    source.close()

    with pytest.raises(SourceGone, match="cpu-0 is gone"):
        source.read(NS_PER_SECOND)


@pytest.mark.parametrize("rail", RAILS, ids=lambda rail: rail.label)
def test_every_row_is_of_a_known_chip_and_is_found_by_its_label(rail: object) -> None:
    """A label of the table leads to its row, with the socket's number where it has one."""
    entry = next(row for row in RAILS if row is rail)
    label = entry.label.format(7)

    assert entry.chip in CHIPS
    assert rail_of(entry.chip, label) == (entry, "7" if "{}" in entry.label else "")
    assert rail_of("another", label) is None
    assert entry.within == "" or rail_of(entry.chip, entry.within.format(7)) is not None
