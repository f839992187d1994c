"""What keeps an NVIDIA GPU from being read is said, each with one thing to do."""

import sys
import types
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from inferwatt.sources import SourcesConfig
from inferwatt.sources.nvml import find
from inferwatt.sources.nvml_api import Session

from .gpus import Machine, devices, machine_of, nvml_library

__all__ = ["machine_of", "nvml_library"]

pytestmark = pytest.mark.real
MachineOf = Callable[[int], Machine]


def test_a_machine_without_nvidia_hardware_lacks_nothing(machine_of: MachineOf) -> None:
    """No device node and no PCI function: the driver's library is not even opened."""
    machine = machine_of(1)
    (machine.dev / "nvidiactl").unlink()

    result = machine.find()

    assert (result.sources, result.lacks) == ((), ())
    assert machine.stand_in.page.inits == 0


def test_a_gpu_with_neither_energy_nor_power_is_a_lack(machine_of: MachineOf) -> None:
    """A virtual GPU may show nothing: it is no device at 0 W."""
    machine = machine_of(1)
    for call in ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetFieldValues", "nvmlDeviceGetPowerUsage"):
        machine.gpus[0].answer(call, pynvml.NVML_ERROR_NOT_SUPPORTED)

    result = machine.find()

    assert result.sources == ()
    assert "gpu-0: cannot be read: this GPU or driver does not report its energy or power" in result.lacks[0].what


def test_one_lost_gpu_at_the_start_is_one_lack_and_the_others_are_read(machine_of: MachineOf) -> None:
    """Seven of eight are served under their own names."""
    machine = machine_of(8)
    machine.gpus[3].lose()

    result = machine.find()

    assert [device.device for device in devices(result)] == [
        "gpu-0",
        "gpu-1",
        "gpu-2",
        *(f"gpu-{n}" for n in range(4, 8)),
    ]
    (lack,) = result.lacks
    assert lack.what == "gpu-3: cannot be read: the GPU has fallen off the bus"
    assert lack.fix == "sudo nvidia-smi --gpu-reset -i 3  # or reboot"
    assert (lack.source, lack.component) == ("nvml", "accelerator")


def test_gpus_with_the_same_trouble_are_one_lack(machine_of: MachineOf) -> None:
    """What one command repairs is said once."""
    machine = machine_of(8)
    for gpu in machine.gpus[:8]:
        gpu.answer("nvmlDeviceGetHandleByIndex_v2", pynvml.NVML_ERROR_NO_PERMISSION)

    (lack,) = machine.find().lacks

    assert lack.what.startswith("gpu-0, gpu-1, gpu-2, gpu-3, gpu-4, gpu-5, gpu-6, gpu-7: cannot be read: no permission")


def test_persistence_mode_that_is_off_is_said_with_the_command(machine_of: MachineOf) -> None:
    """The GPUs are read all the same."""
    machine = machine_of(3)
    machine.gpus[0].page.persistence = machine.gpus[2].page.persistence = 0

    result = machine.find()

    assert len(result.sources) == 3
    (lack,) = result.lacks
    assert lack.what.startswith("gpu-0, gpu-2: persistence mode is off")
    assert lack.fix == "sudo nvidia-smi -pm 1"


@pytest.mark.parametrize(
    ("code", "says", "fix"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "driver is not loaded", "sudo modprobe nvidia"),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "libnvidia-ml.so.1 is missing", "NVIDIA_DRIVER_CAPABILITIES=utility"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission", "/dev/nvidia*"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "different versions", "sudo reboot"),
        (pynvml.NVML_ERROR_UNKNOWN, "unknown error", "none needed"),
    ],
)
def test_a_driver_that_cannot_be_opened_says_why(machine_of: MachineOf, code: int, says: str, fix: str) -> None:
    """One lack, in plain words, with one thing to do."""
    machine = machine_of(8)
    machine.stand_in.page.init_status = code

    result = machine.find()

    assert result.sources == ()
    (lack,) = result.lacks
    assert says in lack.what
    assert fix in lack.fix


def test_a_version_mismatch_names_the_loaded_module(machine_of: MachineOf) -> None:
    """The operator sees which version still runs."""
    machine = machine_of(1)
    (machine.proc / "driver" / "nvidia").mkdir(parents=True)
    (machine.proc / "driver" / "nvidia" / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (dvs-builder)\n"
    )
    machine.stand_in.page.init_status = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH

    assert machine.find().lacks[0].what.endswith("the kernel module is 570.124.06")


def test_a_missing_binding_says_how_to_install_it(machine_of: MachineOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is hardware, and nothing to read it with."""
    machine = machine_of(1)
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert machine.find().lacks[0].fix == "pip install nvidia-ml-py"


def test_another_package_of_the_same_name_is_not_taken_for_the_binding(
    machine_of: MachineOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old package pynvml hides NVIDIA's."""
    machine = machine_of(1)
    monkeypatch.setitem(sys.modules, "pynvml", types.ModuleType("pynvml"))

    assert machine.find().lacks[0].fix.startswith("pip uninstall --yes pynvml")


def test_an_unopened_session_has_no_sources(tmp_path: Path) -> None:
    """A folder without device nodes and PCI functions is a machine without NVIDIA hardware."""
    result = find(SourcesConfig(sysfs_root=str(tmp_path)), Session(), dev_root=str(tmp_path))

    assert (result.sources, result.lacks) == ((), ())
