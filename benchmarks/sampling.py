"""What one sample of one GPU costs in CPU time: our sampler, Zeus and CodeCarbon, each in a process of its own.

All read the same stand-in NVML by the same binding, at the same time, at the same rate, eight GPUs. Ends with one JSON
line.
"""

import argparse
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.agent import HERTZ, Plan, machine, watched
from benchmarks.doubles.child import Child, peers, stand_in_nvml

OURS = [sys.executable, "-m", "benchmarks.doubles.sampler"]


def ours(folder: Path, open_things: ExitStack) -> dict[str, Child]:
    """Start our sampler, whole and bare.

    Raises:
        SystemExit: there is no C compiler for the stand-in.
    """
    environment = stand_in_nvml(folder)
    if environment is None:
        raise SystemExit("there is no C compiler (cc) for the stand-in NVML\n  fix:   apt install gcc libc6-dev")
    return {
        name: open_things.enter_context(Child([*OURS, str(HERTZ), str(folder), *words], environment))
        for name, words in (("sampler", ()), ("bare", ("bare",)))
    }


def main() -> None:
    """Measure and print the JSON line."""
    parser = argparse.ArgumentParser(prog="make bench-sampling")
    parser.add_argument("--seconds", type=float, default=20.0, help="of one window")
    parser.add_argument("--windows", type=int, default=3, help="the median of so many")
    arguments = parser.parse_args()
    plan = Plan(arguments.seconds, arguments.windows)
    with tempfile.TemporaryDirectory(prefix="inferwatt-nvml-") as folder, ExitStack() as open_things:
        children, lack = peers(Path(folder), HERTZ, open_things)
        met = watched({**ours(Path(folder), open_things), **children}, plan)
    figures = {
        "cpu_us_per_sample": met["sampler"].cost.us_per_sample,
        "cpu_us_per_energy_sample": met["bare"].cost.us_per_sample,
    }
    if children:
        zeus = min(met["zeus_loop"].cost.us_per_sample, met["zeus_windows"].cost.us_per_sample)
        figures |= {
            "zeus_cpu_us_per_sample": zeus,
            "zeus_windows_cpu_us_per_sample": met["zeus_windows"].cost.us_per_sample,
            "codecarbon_cpu_us_per_sample": met["codecarbon"].cost.us_per_sample,
        }
        ours_us = figures["cpu_us_per_energy_sample"]
        missed = "" if ours_us < zeus else " MISSED"
        print(f"cpu_us_per_energy_sample: {ours_us:.2f} (aim: below Zeus, {zeus:.2f}){missed}")
    notes = (
        f"median of {plan.windows} windows of {plan.seconds:g} s, CPU time of the process by device and beat at "
        f"{HERTZ:g} Hz, 8 GPUs of one stand-in NVML of ours without driver cost. Ours is the agent's sampler with the "
        f"NVIDIA source: energy counters, who uses each GPU up to 5 times a second, temperature, clock, limit and "
        f"throttling once a second; cpu_us_per_energy_sample is the same with the counters alone, as Zeus's plain loop "
        f"reads them; load of the machine {os.getloadavg()[0]:.1f}"
    )
    rounded = {name: round(value, 2) for name, value in figures.items()}
    line = {"bench": "sampling", "machine": machine(), "figures": rounded, "notes": f"{lack}; {notes}".lstrip("; ")}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
