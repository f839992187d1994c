"""How a GPU is beside its energy."""

from collections.abc import Callable

import pynvml
import pytest

from inferwatt.records import Condition
from inferwatt.sources.nvml import NvmlGpu

from .gpus import SECOND, Machine, machine_of, nvml_library, parts

__all__ = ["machine_of", "nvml_library"]

pytestmark = pytest.mark.real
MachineOf = Callable[[int], Machine]


def condition(gpu: NvmlGpu, now_ns: int = SECOND) -> Condition:
    """Return what comes with a read at which it is due."""
    _, _, found = parts(gpu.read(now_ns))
    assert found is not None
    return found


def test_a_condition_is_in_units_of_its_own(machine_of: MachineOf) -> None:
    """Megahertz, percent and milliwatts become hertz, ratios and watts; throttled time is nanoseconds as they come."""
    machine = machine_of(1)
    for policy, throttled_ns in enumerate((10, 20, 30, 40, 50, 60)):
        machine.gpus[0].page.throttled_ns[policy] = throttled_ns

    assert condition(machine.only()) == Condition(
        SECOND,
        "gpu-0",
        utilization_ratio=0.4,
        clock_hertz=1_755_000_000,
        temperature_celsius=51.0,
        power_limit_watts=650.0,
        throttled_ns={"power": 10, "thermal": 20, "sync_boost": 30, "board_limit": 40, "reliability": 60},
    )


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("nvmlDeviceGetUtilizationRates", "utilization_ratio"),
        ("nvmlDeviceGetClockInfo", "clock_hertz"),
        ("nvmlDeviceGetEnforcedPowerLimit", "power_limit_watts"),
    ],
)
def test_what_a_gpu_does_not_say_is_absent_and_not_asked_again_for_a_minute(
    machine_of: MachineOf, call: str, name: str
) -> None:
    """The rest is there; after a minute it is asked once more."""
    machine = machine_of(1)
    machine.gpus[0].answer(call, pynvml.NVML_ERROR_NOT_SUPPORTED)
    gpu = machine.only()
    before = machine.gpus[0].calls(call)

    for second in range(1, 61):
        found = condition(gpu, second * SECOND)
        assert getattr(found, name) is None
        assert found.temperature_celsius == 51.0
    assert machine.gpus[0].calls(call) == before + 1

    machine.gpus[0].answer(call, 0)
    assert getattr(condition(gpu, 61 * SECOND), name) is not None


def test_a_temperature_by_the_old_call_where_the_new_one_is_not_there(machine_of: MachineOf) -> None:
    """A driver of before has only the one, a driver of later only the other."""
    machine = machine_of(1)
    machine.gpus[0].answer("nvmlDeviceGetTemperatureV", pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
    gpu = machine.only()
    assert condition(gpu).temperature_celsius == 51.0

    machine.gpus[0].answer("nvmlDeviceGetTemperature", pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert condition(gpu, 2 * SECOND).temperature_celsius is None


def test_a_reason_that_is_not_counted_is_absent(machine_of: MachineOf) -> None:
    """Each field has a return code of its own."""
    machine = machine_of(1)
    machine.gpus[0].page.throttled_ns[0] = 7
    for number in (75, 76, 77, 79):
        machine.gpus[0].field(number, 0, code=pynvml.NVML_ERROR_NOT_SUPPORTED)

    assert condition(machine.only()).throttled_ns == {"power": 7}


def test_throttled_time_by_the_old_call_where_no_field_has_it(machine_of: MachineOf) -> None:
    """The same reasons, in the same unit."""
    machine = machine_of(1)
    machine.gpus[0].page.throttled_ns[1] = 9
    for number in range(74, 80):
        machine.gpus[0].field(number, 0, code=pynvml.NVML_ERROR_NOT_SUPPORTED)

    assert condition(machine.only()).throttled_ns == {
        "power": 0,
        "thermal": 9,
        "sync_boost": 0,
        "board_limit": 0,
        "reliability": 0,
    }


def test_a_driver_without_any_of_it_still_has_its_energy(machine_of: MachineOf) -> None:
    """The reading is what matters; a condition of nothing says nothing."""
    machine = machine_of(1)
    for call in ("TemperatureV", "Temperature", "ClockInfo", "UtilizationRates", "EnforcedPowerLimit", "FieldValues"):
        machine.gpus[0].answer(f"nvmlDeviceGet{call}", pynvml.NVML_ERROR_UNKNOWN)
    machine.gpus[0].answer("nvmlDeviceGetViolationStatus", pynvml.NVML_ERROR_DEPRECATED)

    reading, _, found = parts(machine.only().read(SECOND))

    assert reading is not None
    assert found == Condition(SECOND, "gpu-0")
