"""The benchmark for machines with a GPU: what it computes, and that it runs over a stand-in for the driver."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.gpu.figures import Sample, changes, compared, integrated_joules, mean_of, thinned

from tests.doubles.nvml import StandIn, built, compiler
from tests.real.conftest import missing

MS = 1_000_000
ROOT = Path(__file__).parent.parent


def polls(*milliwatts: int, each_ms: int = 5) -> list[Sample]:
    """Return samples of a GPU whose counter counts exactly what its power says."""
    energy_mj, found = 0.0, []
    for at, power_mw in enumerate(milliwatts):
        found.append(Sample(at * each_ms * MS, round(energy_mj), power_mw, None))
        energy_mj += power_mw * each_ms / 1000
    return found


def test_a_period_is_how_far_changes_are_apart() -> None:
    """Polled each millisecond, a value that changes each 20 ms has that period; one that stands still has none."""
    points = [(t * MS, t // 20) for t in range(400)]

    found = changes(points)

    assert found is not None
    assert (found["median"], found["p10"], found["p90"], found["changes"]) == (20.0, 20.0, 20.0, 19)
    assert changes([(t, 5) for t in range(9)]) is None


def test_a_slower_poll_sees_fewer_samples() -> None:
    """Of polls each 5 ms a rate of 10 Hz leaves each twentieth."""
    assert [sample.t_ns // MS for sample in thinned(polls(*[1] * 50), 10.0)] == [0, 95, 190]


def test_an_integral_is_a_line_between_samples() -> None:
    """From 100 W to 300 W in a second are 200 J."""
    assert integrated_joules([(0, 100_000), (1000 * MS, 300_000)]) == pytest.approx(200.0)


def test_steady_power_agrees_with_its_counter_and_a_short_peak_does_not() -> None:
    """The poll of 10 Hz misses most of a peak of 40 ms, that of 50 Hz less of it."""
    steady = compared(polls(*[200_000] * 401), None)
    peak = compared(polls(*[100_000] * 210, *[700_000] * 8, *[100_000] * 183), 100.0)

    assert steady["instant_10hz_error_ratio"] == pytest.approx(0.0, abs=1e-6)
    assert abs(peak["instant_10hz_error_above_idle_ratio"]) > abs(peak["instant_50hz_error_above_idle_ratio"])
    assert "average_10hz_error_ratio" not in peak


def test_repeated_loads_are_averaged_and_their_spread_is_told() -> None:
    """A figure that one of them lacks is the mean of the others."""
    merged = mean_of([{"a_ratio": 0.1, "j": 1.0}, {"a_ratio": 0.3, "j": None}])

    assert merged == {"repeats": 2, "a_ratio": 0.2, "a_spread_ratio": 0.14142, "j": 1.0}


@pytest.mark.real
def test_it_runs_on_the_real_binding_and_ends_with_a_line_of_json(tmp_path: Path) -> None:
    """Over a GPU of 300 W by the clock, without a load: the integral agrees with the counter."""
    if compiler() is None:
        missing("there is no C compiler: apt install gcc libc6-dev")
    library = built(tmp_path)
    stand_in = StandIn(tmp_path)
    stand_in.gpus[0].run(300.0, tick_ns=20 * MS)
    environment = {**os.environ, **stand_in.environment, "LD_LIBRARY_PATH": str(library.parent)}
    command = [sys.executable, "-m", "benchmarks.gpu.sampling", "--load", "none", "--quick"]

    run = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=120)

    line = json.loads(run.stdout.splitlines()[-1])
    assert line["machine"]["gpu"] == "NVIDIA H100 80GB HBM3"
    assert line["figures"]["period_ms"]["idle"]["energy"]["changes"] >= 3
    assert line["figures"]["call_us"]["total_energy"]["median"] > 0
    assert abs(line["figures"]["loads"]["0.01"]["instant_50hz_error_ratio"]) < 0.1
    assert "process_utilization" in line["figures"]["call_us"]


def test_without_a_gpu_it_says_so_and_what_to_do(tmp_path: Path) -> None:
    """No traceback: it is run by people on machines of others."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "NVML_STAND_IN": ""}
    code = (
        "import ctypes, runpy, sys; real = ctypes.CDLL;\n"
        "import pynvml; pynvml.CDLL = lambda name: real('no-such-library')\n"
        "sys.argv = ['sampling']; runpy.run_module('benchmarks.gpu.sampling', run_name='__main__')"
    )

    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=60
    )

    assert run.returncode == 1
    assert run.stderr.startswith("there is no NVIDIA GPU to measure here")
    assert "fix:   run it on a machine with one" in run.stderr
