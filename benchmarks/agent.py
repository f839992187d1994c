"""What the agent costs: CPU and memory of its process, beside Zeus and CodeCarbon at the same rate in the same run.

The real agent with all its rooms runs in a process of its own: eight replayed devices, ledger, page, scraper, inbox.
Prometheus' part is played by a reader of `/metrics` every 15 s. Ends with one JSON line.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.doubles.child import Child, Cost, Spent, cost, median, peers

WARM_UP_SECONDS = 3.0
SCRAPE_SECONDS = 15.0
REQUESTS_PER_SECOND = 100.0
HERTZ = 10.0
FAST_HERTZ = 50.0
ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
AIMS = {
    "agent_cpu_fraction": 0.005,
    "agent_cpu_fraction_50hz": 0.01,
    "agent_cpu_fraction_100rps": 0.03,
    "agent_rss_mb": 60.0,
}


class Plan(NamedTuple):
    """How long is measured: the warm-up, then some windows of so many seconds each."""

    seconds: float
    windows: int


class Met(NamedTuple):
    """What one process cost: the medians over the windows, and its memory at the end."""

    cost: Cost
    rss_mb: float


def watched(children: Mapping[str, Child], plan: Plan) -> dict[str, Met]:
    """Return the cost of each process, all at once."""
    time.sleep(WARM_UP_SECONDS)
    costs: dict[str, list[Cost]] = {name: [] for name in children}
    before = {name: child.spent() for name, child in children.items()}
    for _ in range(plan.windows):
        time.sleep(plan.seconds)
        after = {name: child.spent() for name, child in children.items()}
        for name in children:
            costs[name].append(cost(before[name], after[name]))
        before = after
    return {name: Met(median(costs[name]), child.rss_mb()) for name, child in children.items()}


@contextmanager
def agent(hertz: float, requests_per_second: float = 0.0) -> Iterator[Child]:
    """Run the agent with its stand-in server and a reader of its metrics."""
    with tempfile.TemporaryDirectory(prefix="inferwatt-bench-") as folder, ExitStack() as open_things:
        socket = {"INFERWATT_SOCKET": f"{folder}/agent.sock"}
        here = [sys.executable, "-m"]
        load = open_things.enter_context(
            Child([*here, "benchmarks.doubles.load", str(requests_per_second)], environment=socket)
        )
        child = Child([*here, "benchmarks.doubles.meter", folder, str(hertz), load.greeting])
        open_things.enter_context(child)
        while child.ask()["servers"] != ["up"]:
            time.sleep(0.1)
        load.ask()  # begin
        stop = threading.Event()
        reader = threading.Thread(
            target=_read_metrics, args=(child.greeting.rstrip("/") + "/metrics", stop), daemon=True
        )
        reader.start()
        open_things.callback(reader.join)
        open_things.callback(stop.set)
        yield child


def _read_metrics(url: str, stop: threading.Event) -> None:
    while not stop.wait(SCRAPE_SECONDS):
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": ACCEPT}), timeout=10) as answer:
            answer.read()


def idle(plan: Plan, hertz: float, others: Mapping[str, Child]) -> dict[str, Met]:
    """Measure the agent without requests, and `others` in the same windows."""
    with agent(hertz) as child:
        met = watched({"agent": child, **others}, plan)
        _check(child.ask())
    return met


def loaded(plan: Plan) -> Met:
    """Measure the agent beside an engine of 100 requests a second.

    Raises:
        RuntimeError: the agent did not meter these requests.
    """
    with agent(HERTZ, REQUESTS_PER_SECOND) as child:
        began: Spent = child.spent()
        met = watched({"agent": child}, plan)["agent"]
        ended = child.spent()
        _check(ended.counts)
        requests = ended.counts["requests"] - began.counts["requests"]
        expected = REQUESTS_PER_SECOND * (ended.at_ns - began.at_ns) / 1e9
        if not 0.5 * expected < requests < 1.5 * expected or not ended.counts["request_uj"]:
            raise RuntimeError(f"{requests} requests were metered, not about {expected:.0f}: {ended.counts}")
    return met


def _check(counts: Mapping[str, Any]) -> None:
    if counts["ledger_error"] or counts["dropped"] or counts["errors"]:
        raise RuntimeError(f"the agent was not well: {counts}")


def with_peers(plan: Plan) -> tuple[dict[str, Met], str]:
    """Measure agent and peers at 10 Hz; say why where the peers cannot run."""
    with tempfile.TemporaryDirectory(prefix="inferwatt-nvml-") as folder, ExitStack() as open_things:
        others, lack = peers(Path(folder), HERTZ, open_things)
        return idle(plan, HERTZ, others), lack


def figures_of(base: Mapping[str, Met], fast: Met, busy: Met) -> dict[str, float]:
    """Return the figures by their names in the JSON line."""
    figures = {
        "agent_cpu_fraction": base["agent"].cost.cpu_fraction,
        "agent_cpu_fraction_50hz": fast.cost.cpu_fraction,
        "agent_cpu_fraction_100rps": busy.cost.cpu_fraction,
        "agent_rss_mb": max(base["agent"].rss_mb, fast.rss_mb, busy.rss_mb),
        "agent_us_per_device_sample": base["agent"].cost.us_per_sample,
        "agent_us_per_device_sample_50hz": fast.cost.us_per_sample,
    }
    if len(base) > 1:
        zeus = min((base["zeus_loop"], base["zeus_windows"]), key=lambda met: met.cost.cpu_fraction)
        figures |= {
            "zeus_cpu_fraction": zeus.cost.cpu_fraction,
            "codecarbon_cpu_fraction": base["codecarbon"].cost.cpu_fraction,
            "zeus_us_per_device_sample": zeus.cost.us_per_sample,
            "codecarbon_us_per_device_sample": base["codecarbon"].cost.us_per_sample,
            "zeus_windows_cpu_fraction": base["zeus_windows"].cost.cpu_fraction,
            "zeus_rss_mb": zeus.rss_mb,
            "codecarbon_rss_mb": base["codecarbon"].rss_mb,
        }
    return {name: float(f"{value:.3g}") for name, value in figures.items()}


def main() -> None:
    """Measure and print the JSON line."""
    parser = argparse.ArgumentParser(prog="make bench-agent")
    parser.add_argument("--seconds", type=float, default=30.0, help="of one window")
    parser.add_argument("--windows", type=int, default=3, help="the median of so many")
    arguments = parser.parse_args()
    plan = Plan(arguments.seconds, arguments.windows)
    load_before = os.getloadavg()[0]
    base, lack = with_peers(plan)
    fast = idle(plan, FAST_HERTZ, {})["agent"]
    figures = figures_of(base, fast, loaded(plan))
    for name, aim in AIMS.items():
        print(f"{name}: {figures[name]} (aim: at most {aim}){'' if figures[name] <= aim else ' MISSED'}")
    notes = (
        f"median of {plan.windows} windows of {plan.seconds:g} s after {WARM_UP_SECONDS:g} s; CPU time of the whole "
        f"process by the kernel; 8 replayed devices, idle and active rate both set to the one named (10 Hz with the "
        f"requests too); page, ledger, inbox, scraper, use of the CPU by processes: all on; /metrics read every "
        f"{SCRAPE_SECONDS:g} s; server and requests are stand-ins, told by the real SDK; peers unmodified on "
        f"a stand-in NVML of ours without driver cost, Zeus by its cheapest path (its plain loop); RSS: the largest "
        f"of the three runs, MiB; no search for other servers; "
        f"load of the machine {load_before:.1f} before and {os.getloadavg()[0]:.1f} after"
    )
    line = {"bench": "agent", "machine": machine(), "figures": figures, "notes": f"{lack}; {notes}".lstrip("; ")}
    print(json.dumps(line))


def machine() -> dict[str, Any]:
    """Return what was measured on."""
    python = os.environ.get("PEERS_PYTHON", "")
    code = "from importlib.metadata import version as v; print(v('zeus'), v('codecarbon'))"
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False) if python else None
    versions = asked.stdout.split() if asked and asked.returncode == 0 else []
    return {
        "cpus": os.cpu_count(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        **dict(zip(("zeus", "codecarbon"), versions, strict=False)),
    }


if __name__ == "__main__":
    main()
