"""What one sample of one device costs in CPU time: our sampler, Zeus and CodeCarbon, each in a process of its own.

Ends with one JSON line. All run at the same time, at the same rate, on eight devices.
"""

import argparse
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.agent import HERTZ, Plan, machine, watched
from benchmarks.doubles.child import Child, peers

OURS = [sys.executable, "-m", "benchmarks.doubles.sampler", str(HERTZ)]


def main() -> None:
    """Measure and print the JSON line."""
    parser = argparse.ArgumentParser(prog="make bench-sampling")
    parser.add_argument("--seconds", type=float, default=20.0, help="of one window")
    parser.add_argument("--windows", type=int, default=3, help="the median of so many")
    arguments = parser.parse_args()
    plan = Plan(arguments.seconds, arguments.windows)
    with tempfile.TemporaryDirectory(prefix="inferwatt-nvml-") as folder, ExitStack() as open_things:
        children, lack = peers(Path(folder), HERTZ, open_things)
        met = watched({"sampler": open_things.enter_context(Child(OURS)), **children}, plan)
    figures = {"cpu_us_per_sample": met["sampler"].cost.us_per_sample}
    if children:
        zeus = min(met["zeus_loop"].cost.us_per_sample, met["zeus_windows"].cost.us_per_sample)
        figures |= {
            "zeus_cpu_us_per_sample": zeus,
            "zeus_windows_cpu_us_per_sample": met["zeus_windows"].cost.us_per_sample,
            "codecarbon_cpu_us_per_sample": met["codecarbon"].cost.us_per_sample,
        }
    notes = (
        f"median of {plan.windows} windows of {plan.seconds:g} s, CPU time of the process by device and beat at "
        f"{HERTZ:g} Hz. Ours is the sampler's thread with 8 replayed devices and no NVML: that source does not exist "
        f"yet: ours lacks the binding's call, which the peers make (to a stand-in NVML of ours without driver cost). "
        f"Zeus by its plain loop; load of the machine {os.getloadavg()[0]:.1f}"
    )
    rounded = {name: round(value, 2) for name, value in figures.items()}
    line = {"bench": "sampling", "machine": machine(), "figures": rounded, "notes": f"{lack}; {notes}".lstrip("; ")}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
