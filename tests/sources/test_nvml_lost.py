"""NVIDIA GPUs that fail, fall off the bus, and come back."""

import threading
from collections.abc import Callable

import pynvml
import pytest

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.sources.nvml import LASTING, NvmlGpu
from inferwatt.sources.nvml_errors import known, meaning

from .gpus import SECOND, Machine, machine_of, nvml_library
from .trees import read

__all__ = ["machine_of", "nvml_library"]

pytestmark = pytest.mark.real
MachineOf = Callable[[int], Machine]


def test_a_power_field_that_fails_for_once_is_a_lost_sample(machine_of: MachineOf) -> None:
    """The call succeeds and its field does not: no 0 W is made of it."""
    machine = machine_of(1)
    machine.gpus[0].answer("nvmlDeviceGetTotalEnergyConsumption", pynvml.NVML_ERROR_NOT_SUPPORTED)
    gpu = machine.only()
    machine.gpus[0].field(186, 0, code=pynvml.NVML_ERROR_TIMEOUT)

    with pytest.raises(SourceRetry, match="gpu-0: the driver did not answer in time"):
        gpu.read(0)


def test_every_code_of_the_binding_has_its_meaning() -> None:
    """A code that NVIDIA adds is noticed here; until then it is an error that may pass."""
    codes = {value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}

    assert codes - known() == set()
    assert not meaning(12_345).gone


@pytest.mark.parametrize("code", [1, 2, 3, 4, 9, 12, 15, 16, 18])
def test_a_code_that_does_not_pass_ends_the_device(machine_of: MachineOf, code: int) -> None:
    """It is dropped, and looked for again."""
    machine = machine_of(1)
    gpu = machine.only()
    machine.gpus[0].lose(code)

    with pytest.raises(SourceGone, match="cannot read gpu-0"):
        gpu.read(0)


@pytest.mark.parametrize("code", [10, 19, 27, 999])
def test_a_code_that_may_pass_costs_one_sample_until_it_has_not_passed(machine_of: MachineOf, code: int) -> None:
    """The device is dropped only after many in a row; one good read forgets them."""
    machine = machine_of(1)
    gpu = machine.only()
    for _ in range(2):
        machine.gpus[0].lose(code)
        for _ in range(LASTING - 1):
            with pytest.raises(SourceRetry):
                gpu.read(0)
        machine.gpus[0].come_back()
        gpu.read(0)

    machine.gpus[0].lose(code)
    for _ in range(LASTING - 1):
        with pytest.raises(SourceRetry):
            gpu.read(0)
    with pytest.raises(SourceGone):
        gpu.read(0)


def gone(gpu: NvmlGpu) -> None:
    """Let a GPU be found gone, as the sampler finds it: it is closed."""
    with pytest.raises(SourceGone):
        gpu.read(0)
    gpu.close()


def named(gpus: list[NvmlGpu], name: str) -> NvmlGpu:
    """Return the GPU of this name, and close the others as the search does."""
    for gpu in gpus:
        if gpu.device.device != name:
            gpu.close()
    return next(gpu for gpu in gpus if gpu.device.device == name)


def test_a_gpu_that_comes_back_is_found_under_its_name(machine_of: MachineOf) -> None:
    """The others were read all the while, and NVML stayed open; the search closes what it opened beside."""
    machine = machine_of(8)
    gpus = machine.open()
    machine.gpus[3].lose()
    gone(gpus.pop(3))
    machine.gpus[3].come_back()
    inits = machine.stand_in.page.inits

    found = named(machine.open(), "gpu-3")

    assert machine.stand_in.page.inits == inits
    assert found.device.uuid.endswith("03")
    assert [read(gpu, 0).counter_uj for gpu in (*gpus, found)] == [
        1_000_000_000 * (number + 1) for number in (0, 1, 2, 4, 5, 6, 7, 3)
    ]


def test_a_gpu_that_the_library_must_be_opened_anew_for_is_found(machine_of: MachineOf) -> None:
    """It is not enumerated any more, so indices move: each GPU is known by its UUID, and gets a new handle."""
    machine = machine_of(4)
    gpus = machine.open()
    machine.gpus[1].lose()
    gone(gpus.pop(1))
    machine.gpus[1].page.absent = 1

    without = machine.open()
    assert [gpu.device.device for gpu in without] == ["gpu-0", "gpu-2", "gpu-3"]
    for gpu in without:
        gpu.close()
    assert [read(gpu, 0).counter_uj for gpu in gpus] == [1_000_000_000, 3_000_000_000, 4_000_000_000]

    machine.gpus[1].come_back()
    found = named(machine.open(), "gpu-1")
    assert [read(gpu, 0).counter_uj for gpu in (*gpus, found)] == [10**9 * n for n in (1, 3, 4, 2)]
    assert machine.stand_in.page.inits == 3

    for gpu in (*gpus, found):
        gpu.close()
    with pytest.raises(pynvml.NVMLError_Uninitialized):  # whoever was opened by a search was closed by it
        pynvml.nvmlDeviceGetCount()


def test_nvml_is_opened_anew_ever_more_seldom(machine_of: MachineOf) -> None:
    """A GPU that stays away does not hold up the others at each search."""
    machine = machine_of(2)
    gpus = machine.open()
    machine.gpus[1].lose()
    gone(gpus.pop(1))
    for _ in range(64):
        for gpu in machine.open():
            gpu.close()

    assert machine.stand_in.page.inits == 1 + 7  # at the 1st, 2nd, 4th, ... 64th search
    assert read(gpus[0], 0).counter_uj == 10**9


def test_a_driver_that_was_loaded_anew_is_opened_anew(machine_of: MachineOf) -> None:
    """Every call answers an unknown error until then, so every GPU is gone; one search brings all of them back."""
    machine = machine_of(3)
    gpus = machine.open()
    machine.stand_in.reload_driver()
    for gpu in gpus:
        for _ in range(LASTING - 1):
            with pytest.raises(SourceRetry, match="unknown error"):
                gpu.read(0)
        gone(gpu)

    assert [read(gpu, 0).counter_uj for gpu in machine.open()] == [0, 0, 0]


def test_nvml_is_not_opened_anew_while_a_call_hangs(machine_of: MachineOf) -> None:
    """A shutdown under a call in flight could end the process; once it has come back, it is done."""
    machine = machine_of(2)
    first, second = machine.open()
    machine.gpus[0].hang("nvmlDeviceGetTemperatureV")
    hung = threading.Thread(target=first.read, args=(SECOND,), daemon=True)
    hung.start()
    while not machine.gpus[0].calls("nvmlDeviceGetTemperatureV"):
        pass  # until the call is in the library
    machine.gpus[1].lose()
    gone(second)

    for gpu in machine.open():
        gpu.close()
    assert machine.stand_in.page.inits == 1

    machine.gpus[0].release()
    hung.join(10)
    for gpu in machine.open():
        gpu.close()
    assert machine.stand_in.page.inits == 2


def test_nvml_that_does_not_open_again_ends_every_gpu_and_is_tried_again(machine_of: MachineOf) -> None:
    """The driver is half gone: no GPU is served from a closed library, and none is forgotten."""
    machine = machine_of(2)
    gpus = machine.open()
    machine.gpus[1].lose()
    gone(gpus.pop(1))
    machine.stand_in.page.init_status = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    assert machine.open() == []
    gone(gpus.pop(0))

    machine.stand_in.page.init_status = 0
    machine.gpus[1].come_back()

    assert [gpu.device.device for gpu in machine.open()] == ["gpu-0", "gpu-1"]


def test_another_gpu_in_the_place_of_one_gets_a_name_of_its_own(machine_of: MachineOf) -> None:
    """A repair in a running machine: joules of two boards never come under one name."""
    machine = machine_of(2)
    gpus = machine.open()
    machine.gpus[1].lose()
    gone(gpus.pop(1))
    machine.gpus[1].come_back()
    machine.gpus[1].page.uuid = b"GPU-of-the-repair"

    found = machine.open()

    assert [(gpu.device.device, gpu.device.uuid) for gpu in found][1] == ("gpu-2", "GPU-of-the-repair")
