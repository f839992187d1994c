"""What the benchmarks say of a process; what they measure is not tested here."""

import ctypes
import shutil
import sys
from pathlib import Path

import pytest
from benchmarks.doubles.child import Child, Cost, Spent, cost, median, stand_in_nvml

SPINNER = """
import sys
print('"ready"', flush=True)
for line in sys.stdin:
    print('{"samples": %d}' % sum(range(200_000)), flush=True)
"""


def test_a_cost_is_told_by_second_and_by_sample() -> None:
    """10 ms of CPU in a second are 1% of a core, and 100 µs for each of a hundred samples."""
    before = Spent(0, 5_000_000, {"samples": 20})
    after = Spent(1_000_000_000, 15_000_000, {"samples": 120})

    assert cost(before, after) == Cost(0.01, 100.0, 100)


def test_what_sampled_nothing_has_no_cost() -> None:
    """A process that stood still is an error, not a cheap one."""
    with pytest.raises(RuntimeError, match="nothing was sampled"):
        cost(Spent(0, 0, {"samples": 3}), Spent(1, 0, {"samples": 3}))


def test_the_median_is_taken_of_each_figure() -> None:
    """One disturbed window does not move the figures."""
    assert median([Cost(0.1, 9.0, 8), Cost(0.2, 7.0, 9), Cost(9.9, 99.0, 8)]) == Cost(0.2, 9.0, 8)


@pytest.mark.skipif(sys.platform != "linux", reason="the process clock of another process is Linux's")
def test_the_clock_of_a_process_counts_its_work() -> None:
    """What a process did between two questions is in its CPU time."""
    with Child([sys.executable, "-c", SPINNER]) as child:
        before = child.spent()
        after = child.spent()

        assert after.cpu_ns > before.cpu_ns
        assert child.rss_mb() > 1


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_stand_in_counts_energy_and_its_readings(tmp_path: Path) -> None:
    """Eight devices, each with a counter that does not fall, and each reading of it counted."""
    assert stand_in_nvml(tmp_path) is not None
    nvml = ctypes.CDLL(str(tmp_path / "libnvidia-ml.so.1"))
    count, device, first, second = ctypes.c_uint(), ctypes.c_void_p(), ctypes.c_ulonglong(), ctypes.c_ulonglong()

    assert nvml.nvmlInit_v2() == 0
    assert nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0
    assert nvml.nvmlDeviceGetHandleByIndex_v2(7, ctypes.byref(device)) == 0
    for energy_mj in (first, second):
        assert nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(energy_mj)) == 0

    assert count.value == 8
    assert 0 < first.value <= second.value
    assert nvml.stand_in_energy_reads() == 2
