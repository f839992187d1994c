"""On a machine with an NVIDIA GPU: how often its counters move, what a call costs, how far integrated power is off.

    python -m benchmarks.gpu.sampling > result.json

Needs nvidia-ml-py, and torch for a load; without torch it measures the GPU as it is (`--load none`). It changes nothing
on the machine. Nothing else should run on the GPU meanwhile. Ends with one JSON line:

- ``call_us``: time and CPU time of each call that the NVIDIA source makes, median and 99th percentile;
- ``period_ms``: how often the energy counter and the power fields change, by polling them as fast as they answer;
- ``loads``: for loads of 10 ms to 10 s the energy by the counter and by integrating power, polled at 10 and 50 Hz: the
  whole window, and what is above idle.

It needs nothing of inferwatt: this folder, the binding and Python.
"""

import argparse
import importlib
import json
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from benchmarks.gpu.figures import NS, Sample, changes, compared, counted_joules, mean_of

LOADS_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LEAD_SECONDS, TAIL_SECONDS = 0.3, 1.5
"""Around each load, so that a mean of the last second and a counter's tick are in the window."""
INSTANT, AVERAGE = 186, 185
NOT_FOUND = 6
"""Nobody used the GPU: an answer, not a failure."""


def costs(call: Callable[[], object], count: int) -> dict[str, float]:
    """Return what one call takes: time and CPU time, µs."""
    times_us = []
    cpu_ns = time.thread_time_ns()
    for _ in range(count):
        began_ns = time.perf_counter_ns()
        call()
        times_us.append((time.perf_counter_ns() - began_ns) / 1000)
    cpu_us = (time.thread_time_ns() - cpu_ns) / 1000 / count
    times_us.sort()
    return {
        "median": round(statistics.median(times_us), 2),
        "p99": round(times_us[count * 99 // 100], 2),
        "cpu": round(cpu_us, 2),
    }


class Gpu:
    """One GPU by the binding."""

    def __init__(self, nvml: Any, index: int) -> None:  # noqa: ANN401 - the binding is untyped
        self.nvml = nvml
        self.handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def answer(self, name: str, *arguments: object) -> Any:  # noqa: ANN401 - the binding is untyped
        """Return what a call answers, None where it fails."""
        try:
            return getattr(self.nvml, name)(self.handle, *arguments)
        except self.nvml.NVMLError:
            return None

    def has(self, name: str, *arguments: object) -> bool:
        """Tell whether the GPU answers a call at all."""
        try:
            getattr(self.nvml, name)(self.handle, *arguments)
        except self.nvml.NVMLError as exc:
            return bool(exc.value == NOT_FOUND)
        return True

    def field_mw(self, number: int) -> int | None:
        """Return a power field, None where it has no answer; a field has a return code of its own."""
        values = self.answer("nvmlDeviceGetFieldValues", [(number, 0)])
        return None if values is None or values[0].nvmlReturn else int(values[0].value.uiVal)

    def sample(self) -> Sample:
        """Poll once."""
        energy_mj = self.answer("nvmlDeviceGetTotalEnergyConsumption")
        return Sample(time.monotonic_ns(), energy_mj, self.field_mw(INSTANT), self.field_mw(AVERAGE))

    def calls(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield the calls that the NVIDIA source makes, and this GPU answers."""
        simple: dict[str, tuple[str, tuple[object, ...]]] = {
            "total_energy": ("nvmlDeviceGetTotalEnergyConsumption", ()),
            "power_usage": ("nvmlDeviceGetPowerUsage", ()),
            "field_power_instant": ("nvmlDeviceGetFieldValues", ([(INSTANT, 0)],)),
            "fields_throttled": ("nvmlDeviceGetFieldValues", ([74, 75, 76, 77, 79],)),
            "temperature": ("nvmlDeviceGetTemperature", (0,)),
            "clock_sm": ("nvmlDeviceGetClockInfo", (1,)),
            "utilization": ("nvmlDeviceGetUtilizationRates", ()),
            "enforced_limit": ("nvmlDeviceGetEnforcedPowerLimit", ()),
            "compute_processes": ("nvmlDeviceGetComputeRunningProcesses", ()),
            "graphics_processes": ("nvmlDeviceGetGraphicsRunningProcesses", ()),
            "process_utilization": ("nvmlDeviceGetProcessUtilization", (0,)),
            "mig_mode": ("nvmlDeviceGetMigMode", ()),
        }
        for label, (name, arguments) in simple.items():
            if self.has(name, *arguments):
                yield label, partial(self.answer, name, *arguments)


class Recorder:
    """Polls a GPU in a thread, about 200 times a second, until it is closed."""

    def __init__(self, gpu: Gpu) -> None:
        self.samples: list[Sample] = []
        self._gpu = gpu
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.005):
            self.samples.append(self._gpu.sample())

    def close(self) -> list[Sample]:
        """Stop, and return the samples."""
        self._ended.set()
        self._thread.join()
        return self.samples


def torch_load(index: int) -> Callable[[float], None]:
    """Return what keeps a GPU busy for some seconds: products of half-precision matrices."""
    torch = importlib.import_module("torch")
    device = torch.device(f"cuda:{index}")
    matrix = torch.randn(8192, 8192, device=device, dtype=torch.float16)
    small = torch.randn(2048, 2048, device=device, dtype=torch.float16)

    def run(seconds: float) -> None:
        until = time.monotonic() + seconds
        factor = matrix if seconds >= 0.3 else small  # a product of the large one takes some ms
        while time.monotonic() < until:
            factor @ factor
            torch.cuda.synchronize(device)

    run(1.0)
    return run


def measured_periods(gpu: Gpu, seconds: float) -> dict[str, Any]:
    """Poll each value as fast as it answers; return how often it changes."""
    found: dict[str, Any] = {}
    asks: dict[str, Callable[[], int | None]] = {
        "energy": lambda: gpu.answer("nvmlDeviceGetTotalEnergyConsumption"),
        "power_instant": lambda: gpu.field_mw(INSTANT),
        "power_average": lambda: gpu.field_mw(AVERAGE),
        "power_usage": lambda: gpu.answer("nvmlDeviceGetPowerUsage"),
    }
    for name, ask in asks.items():
        points, until = [], time.monotonic() + seconds
        while time.monotonic() < until and (value := ask()) is not None:
            points.append((time.monotonic_ns(), value))
        found[name] = changes(points) if len(points) > 2 else None
    return found


def window(gpu: Gpu, load: Callable[[float], None], seconds: float, *, quick: bool) -> list[Sample]:
    """Record one load with what is around it."""
    recorder = Recorder(gpu)
    time.sleep(0.05 if quick else LEAD_SECONDS)
    load(seconds)
    time.sleep(0.15 if quick else TAIL_SECONDS)
    return recorder.close()


def measure(gpu: Gpu, load: Callable[[float], None], loads: Sequence[float], *, quick: bool) -> dict[str, Any]:
    """Measure everything; `quick` only shows that it runs."""
    say("what each call costs")
    calls = {label: costs(call, 50 if quick else 1000) for label, call in gpu.calls()}
    say("how often each value changes, idle")
    periods = {"idle": measured_periods(gpu, 0.1 if quick else 5.0)}
    busy = threading.Thread(target=load, args=(0.5 if quick else 25.0,), daemon=True)
    busy.start()
    say("how often each value changes, under load")
    periods["load"] = measured_periods(gpu, 0.1 if quick else 5.0)
    busy.join()
    time.sleep(0.1 if quick else 5.0)
    idle = window(gpu, time.sleep, 0.2 if quick else 5.0, quick=quick)
    joules, seconds = counted_joules(idle), (idle[-1].t_ns - idle[0].t_ns) / NS
    idle_watts = None if joules is None else joules / seconds
    rows = {}
    for length in loads:
        say(f"a load of {length:g} s")
        repeats = 1 if quick else max(1, min(10, round(5 / length)))
        rows[f"{length:g}"] = mean_of(
            [compared(window(gpu, load, length, quick=quick), idle_watts) for _ in range(repeats)]
        )
    return {
        "call_us": calls,
        "period_ms": periods,
        "idle_watts": idle_watts,
        "idle": compared(idle, None),
        "loads": rows,
    }


def say(what: str) -> None:
    """Tell a person how far it is."""
    print(f"gpu sampling: {what}", file=sys.stderr, flush=True)


def opened() -> Any:  # noqa: ANN401 - the binding is untyped
    """Return the binding with NVML open.

    Raises:
        SystemExit: there is none, in words that say what to do.
    """
    try:
        import pynvml  # its absence has words of its own
    except ImportError:
        raise SystemExit("nvidia-ml-py is not installed\n  fix:   pip install nvidia-ml-py") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as exc:
        raise SystemExit(
            f"there is no NVIDIA GPU to measure here: {exc}\n  fix:   run it on a machine with one"
        ) from None
    return pynvml


def chosen_load(wanted: str, index: int) -> tuple[str, Callable[[float], None]]:
    """Return the load and its name: torch where it is wanted and works, else none."""
    if wanted != "none":
        try:
            return "torch", torch_load(index)
        except Exception as exc:
            if wanted == "torch":
                raise SystemExit(
                    f"torch cannot load the GPU: {exc}\n  fix:   pip install torch, or --load none"
                ) from exc
            say(f"no load ({type(exc).__name__}: {exc}); pip install torch")
    return "none", time.sleep


def main() -> None:
    """Measure and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", type=int, default=0, help="which GPU, by the driver's index")
    parser.add_argument("--load", choices=("auto", "torch", "none"), default="auto")
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    arguments = parser.parse_args()
    nvml = opened()
    gpu = Gpu(nvml, arguments.device)
    name, load = chosen_load(arguments.load, arguments.device)
    loads = LOADS_SECONDS[:2] if arguments.quick else LOADS_SECONDS
    figures = measure(gpu, load, loads, quick=arguments.quick)
    machine = {
        "gpu": gpu.answer("nvmlDeviceGetName"),
        "gpus": nvml.nvmlDeviceGetCount(),
        "driver": nvml.nvmlSystemGetDriverVersion(),
        "mig": gpu.answer("nvmlDeviceGetMigMode"),
        "persistence": gpu.answer("nvmlDeviceGetPersistenceMode"),
        "limit_mw": gpu.answer("nvmlDeviceGetEnforcedPowerLimit"),
        "python": platform.python_version(),
        "arch": platform.machine(),
    }
    notes = f"load: {name}{'; quick: shows that it runs, and no figure' if arguments.quick else ''}"
    print(json.dumps({"bench": "gpu_sampling", "machine": machine, "figures": figures, "notes": notes}))


if __name__ == "__main__":
    main()
