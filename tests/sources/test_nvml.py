"""NVIDIA GPUs, by the real binding over a stand-in for the driver's library."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from inferwatt.records import Component, Provenance, Reading

from .gpus import MS, Machine, devices, machine_of, nvml_library, parts
from .trees import read

__all__ = ["machine_of", "nvml_library"]

pytestmark = pytest.mark.real
MachineOf = Callable[[int], Machine]


def test_ten_gpus_are_ten_devices_in_the_drivers_order(machine_of: MachineOf) -> None:
    """Each is named by its index and known by its UUID; there is no limit of eight."""
    result = machine_of(10).find()

    assert [device.device for device in devices(result)] == [f"gpu-{index}" for index in range(10)]
    assert [device.uuid[-2:] for device in devices(result)] == [f"{index:02}" for index in range(10)]
    assert result.lacks == ()


def test_a_device_says_what_it_is_and_how_far_it_can_be_trusted(machine_of: MachineOf) -> None:
    """Name, driver, limit, and the datasheet's rates; the counter is measured, and its sensor has a published bound."""
    (device,) = devices(machine_of(1).find())

    assert (device.kind, device.vendor, device.model) == ("NVIDIA H100 80GB HBM3", "NVIDIA", "H100 80GB HBM3")
    assert (device.domain, device.component) == ("gpu", Component.ACCELERATOR)
    assert (device.provenance, device.systematic_ratio) == (Provenance.MEASURED, 0.08)
    assert (device.driver, device.source, device.max_watts) == ("580.95.05", "nvml", 700.0)
    assert (device.peak_flops, device.peak_bytes_per_second) == (989.5e12, 3350e9)


def test_a_reading_is_the_drivers_counter(machine_of: MachineOf) -> None:
    """Millijoules become microjoules, and nothing else is done to them: up, down and standing still are passed on."""
    machine = machine_of(2)
    gpu = machine.open()[1]
    readings = []
    for energy_mj in (5, 7, 7, 0, 2**53):
        machine.gpus[1].energy_mj = energy_mj
        readings.append(read(gpu, 3))

    assert readings == [Reading(3, "gpu-1", energy_mj * 1000) for energy_mj in (5, 7, 7, 0, 2**53)]


@pytest.mark.parametrize(
    ("refused", "expected_mw"),
    [((), 310_000), ((186,), 300_000), ((186, 185), 300_000)],
    ids=["instant", "average", "usage"],
)
def test_a_gpu_without_a_counter_is_read_by_its_power(
    machine_of: MachineOf, refused: tuple[int, ...], expected_mw: int
) -> None:
    """Instant power before the mean of a second, before the old call; a 0 beside a code is no power."""
    machine = machine_of(1)
    machine.gpus[0].answer("nvmlDeviceGetTotalEnergyConsumption", pynvml.NVML_ERROR_NOT_SUPPORTED)
    for number in refused:
        machine.gpus[0].field(number, 0, code=pynvml.NVML_ERROR_NOT_SUPPORTED)

    gpu = machine.only()

    assert read(gpu, 7) == Reading(7, "gpu-0", None, expected_mw)
    assert gpu.device.provenance is Provenance.SAMPLED
    assert gpu.device.systematic_ratio == 0.09
    asked = machine.gpus[0].calls("nvmlDeviceGetPowerUsage")
    assert (asked > 0) == (len(refused) == 2)


def test_a_gpu_that_shares_a_module_with_its_cpu_says_so(machine_of: MachineOf) -> None:
    """Where the module has no counter beside it, the superchip's counter is taken for the module's."""
    machine = machine_of(1)
    machine.gpus[0].page.c2c = 1
    machine.gpus[0].field(188, 1_000_000, scope=1, kind=1)

    (device,) = devices(machine.find())

    assert (device.domain, device.max_watts) == ("module", 1000.0)


@pytest.mark.parametrize(
    ("total_mj", "own_mj", "module_mj", "domain", "read_mj"),
    [
        (1_000_000, 1_000_000, 1_000_050, "module", 1_000_000),
        (1_000_000, 700_000, 1_000_050, "gpu", 700_000),
        (700_000, 700_000, 1_000_000, "gpu", 700_000),
    ],
    ids=["one-counter-for-all", "gpu-field-is-its-own", "total-is-its-own"],
)
def test_the_gpu_of_a_superchip_is_read_alone_where_a_counter_is_its_own(
    machine_of: MachineOf, total_mj: int, own_mj: int, module_mj: int, domain: str, read_mj: int
) -> None:
    """A counter that is clearly below the module's is the GPU's; one that ticks with it is the module's."""
    machine = machine_of(1)
    machine.gpus[0].page.c2c = 1
    machine.gpus[0].energy_mj = total_mj
    machine.gpus[0].field(191, own_mj, scope=0)
    machine.gpus[0].field(191, module_mj, scope=1)

    gpu = machine.only()

    assert gpu.device.domain == domain
    assert gpu.device.provenance is Provenance.MEASURED
    assert read(gpu, 0).counter_uj == read_mj * 1000


def test_the_last_device_that_is_closed_closes_nvml(machine_of: MachineOf) -> None:
    """A second close does nothing, and NVML of other code in the process stays open."""
    machine = machine_of(2)
    pynvml.nvmlInit()
    first, second = machine.open()

    first.close()
    first.close()
    assert read(second, 0).counter_uj is not None
    second.close()

    assert machine.stand_in.page.shutdowns == 1
    assert pynvml.nvmlDeviceGetCount() == 2


def test_the_plain_process_finds_the_gpus_by_the_librarys_name(nvml_library: Path, tmp_path: Path) -> None:
    """Nothing is prepared but the loader's path: the installed entry point finds and reads them."""
    machine = Machine(tmp_path, 2)
    pci = tmp_path / "sys" / "bus" / "pci" / "devices" / "0000:01:00.0"
    pci.mkdir(parents=True)
    (pci / "vendor").write_text("0x10de\n")
    (pci / "class").write_text("0x030200\n")
    script = (
        "from inferwatt.sources import SourcesConfig, discover_all, reading_in\n"
        f"config = SourcesConfig(sysfs_root={str(tmp_path / 'sys')!r}, cloud_metadata=False)\n"
        "for source in discover_all(config).sources:\n"
        "    if source.name == 'nvml': print(source.device.device, reading_in(source.read(0)).counter_uj)\n"
    )
    environment = {**os.environ, **machine.stand_in.environment, "LD_LIBRARY_PATH": str(nvml_library.parent)}

    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True, timeout=60
    )

    assert run.stdout.split() == ["gpu-0", "1000000000", "gpu-1", "2000000000"]


def test_what_comes_with_a_reading_comes_when_it_is_due(machine_of: MachineOf) -> None:
    """Shares of processes at most five times a second, the condition once."""
    machine = machine_of(2)
    gpus = machine.open()
    usages, conditions = [0, 0], [[], []]  # type: tuple[list[int], list[list[int]]]
    for beat in range(200):
        now_ns = 1 + beat * 20 * MS
        machine.gpus[0].page.sample_count = machine.gpus[1].page.sample_count = 0
        for number, gpu in enumerate(gpus):
            machine.gpus[number].sampled(10_000_000 + beat * 20_000, {77: 50})
            reading, usage, condition = parts(gpu.read(now_ns))
            assert reading is not None
            usages[number] += usage is not None
            if condition is not None:
                conditions[number].append(beat)

    assert all(18 <= count <= 20 for count in usages)
    assert conditions == [[0, 50, 100, 150], [0, 50, 100, 150]]
