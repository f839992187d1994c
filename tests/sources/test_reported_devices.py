"""Which devices a page tells of, and what they are called."""

from inferwatt.sources.coefficients import INTEL, Cpu
from inferwatt.sources.reported_devices import MOST_DEVICES, Names, named
from inferwatt.sources.reported_page import heard
from inferwatt.sources.reported_table import exporters
from tests.sources import exporters as pages
from tests.sources.exporters import ENERGY, FIRST, POWER, SECOND, dcgm


def names_of(kind: str, page: str, cpu: Cpu | None = None) -> Names:
    """Read a page of one kind, and name its devices."""
    return named(heard(page.encode(), exporters()[kind]).rows, exporters()[kind], cpu or Cpu())


def uuids(names: Names) -> dict[str, str]:
    """Return the UUID of each device."""
    return {each.device.device: each.device.uuid for each in names.devices}


def test_the_instances_of_a_mig_gpu_are_one_gpu() -> None:
    """Each instance repeats the whole GPU: it is counted once, by its UUID, at the newest of the counters."""
    names = names_of("dcgm", pages.DCGM_MIG)

    assert uuids(names) == {"gpu-0": FIRST, "gpu-1": SECOND}


def test_one_socket_by_two_roads_is_one_device() -> None:
    """RAPL and amd_energy show the same socket: RAPL is read."""
    assert uuids(names_of("node", pages.NODE + pages.HWMON))["cpu-0"] == "intel-rapl:0"


def test_a_rail_without_a_name_is_read_only_where_nothing_else_is() -> None:
    """The one rail of a CPU beside two packages would count their joules again."""
    xgene = """\
node_hwmon_chip_names{chip="x",chip_name="apm_xgene"} 1
node_hwmon_sensor_label{chip="x",label="CPU power",sensor="power1"} 1
node_hwmon_power_watt{chip="x",sensor="power1"} 85
"""

    assert list(uuids(names_of("node", xgene))) == ["cpu"]
    assert uuids(names_of("node", pages.NODE + xgene)) == uuids(names_of("node", pages.NODE))


def test_several_power_meters_are_none() -> None:
    """Grace has one for each rail, and the page does not tell the module from the CPU in it: none is read."""
    page = pages.HWMON.replace('watt{chip="c"', 'watt{chip="lnxsybus:00_acpi000d:01"')
    names = names_of("node", page)

    assert list(uuids(names)) == ["cpu-0"]
    assert names.left_out == ("2 figures of a server, which the page does not tell apart",)


def test_gpus_without_numbers_go_by_their_uuids() -> None:
    """Triton gives none: the order of the UUIDs is the same at each start."""
    names = names_of("triton", pages.TRITON)
    again = names_of("triton", "\n".join(sorted(pages.TRITON.splitlines(), reverse=True)) + "\n")

    assert uuids(names) == {"gpu-0": FIRST, "gpu-1": SECOND}
    assert again == names


def test_two_gpus_of_one_number_are_two() -> None:
    """Where two UUIDs have one number, the second gets the next that is free."""
    page = dcgm((ENERGY, 0, FIRST, "", "7"), (ENERGY, 0, SECOND, "", "8"))

    assert uuids(names_of("dcgm", page)) == {"gpu-0": FIRST, "gpu-1": SECOND}


def test_a_uuid_is_written_as_the_driver_does() -> None:
    """nvidia_gpu_exporter leaves GPU- off: without it the same GPU would be counted twice beside NVML."""
    names = names_of("nvidia_gpu_exporter", pages.NVIDIA_SMI)
    device = names.devices[0].device

    assert (device.uuid, device.kind, device.source) == (FIRST, "NVIDIA H200", "nvidia_gpu_exporter")


def test_a_bound_is_that_of_the_hardware() -> None:
    """A GPU's by its board and by how it is read, a package's by its processor, the worst where it is not known."""
    gpus = names_of("dcgm", pages.DCGM_MIG)
    watts = names_of("dcgm", dcgm((POWER, 0, FIRST, "", "52.6")))
    unknown = names_of("node", pages.NODE)
    intel = names_of("node", pages.NODE, Cpu(INTEL, 6, 0x8F, 8, "Xeon"))

    assert [gpus.devices[0].device.systematic_ratio, watts.devices[0].device.systematic_ratio] == [0.06, 0.07]
    assert [unknown.devices[0].device.systematic_ratio, intel.devices[0].device.systematic_ratio] == [0.20, 0.05]


def test_a_page_of_ten_thousand_gpus_makes_256_devices() -> None:
    """What a page says never grows us without bound, and it is told that something was left out."""
    page = dcgm(*((ENERGY, number, f"GPU-{number}", "", "7") for number in range(10_000)))
    names = names_of("dcgm", page)

    assert len(names.devices) == MOST_DEVICES
    assert names.left_out == ("9744 devices beyond the first 256",)


def test_a_superchip_s_counter_covers_its_module_and_its_power_the_gpu() -> None:
    """On Grace Hopper the counter has the CPU's joules in it; the power has not, nor has another GPU's counter."""
    energy = 'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="0",UUID="GPU-1",modelName="{}"}} {}\n'
    power = 'DCGM_FI_DEV_POWER_USAGE{{gpu="0",UUID="GPU-1",modelName="{}"}} 300\n'

    def domain(page: str) -> str:
        return names_of("dcgm", page).devices[0].device.domain

    for model in ("NVIDIA GH200 480GB", "NVIDIA GB200"):
        assert domain(energy.format(model, 1000) + power.format(model)) == "module"
        assert domain(energy.format(model, 0) + power.format(model)) == "gpu"
    assert domain(energy.format("NVIDIA H200", 1000)) == "gpu"
