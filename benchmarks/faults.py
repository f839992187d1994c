"""What a GPU that fails does to the figures of all: ours beside Zeus, CodeCarbon and nvitop's exporter, in one run.

All four read one stand-in for NVIDIA's library at the same time, each unmodified and in a process of its own. Eight
GPUs at 300 W; number 3 falls ill. What was really used is known from the stand-in. Ends with one JSON line; `--write`
puts the tables into docs/sources/faults.md.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests.doubles.nvml import StandIn, built, compiler

from benchmarks.doubles.faulty_page import page
from benchmarks.doubles.faulty_rows import (
    GPUS,
    ILL,
    MOVED,
    OTHER_WATTS,
    REST_WATTS,
    TICK_SECONDS,
    WATTS,
    Figures,
    Scene,
    Seen,
    figures_of,
    sentence,
)
from benchmarks.doubles.faulty_tools import Exporter, Ours, Peer, Tool, lack_of

Answer = TypeVar("Answer")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "sources" / "faults.md"
TICK_NS = round(TICK_SECONDS * 1e9)
COUNTER_MJ = 1_000_000_000
"""Where the counters begin: 1 MJ, a GPU that has run for an hour."""
GPU_LOST, LIBRARY_MISMATCH = 15, 18
BEFORE_SECONDS, FIRST_LOOK_SECONDS, APART_SECONDS = 2.0, 1.5, 2.5
SETTLE_SECONDS = 3.0
HANG_SECONDS = 6.0
PEERS = {"Zeus": "zeus", "CodeCarbon": "codecarbon", "nvitop-exporter": "nvitop-exporter"}


class Fault(NamedTuple):
    """One fault: what happens before the tools start, in mid-window, and how long the window goes on after it ended."""

    key: str
    title: str
    before: Callable[["Machine"], None] = lambda _: None
    strike: Callable[["Machine"], None] | None = None
    heal: Callable[["Machine"], None] = lambda _: None
    after_seconds: float = 0.5


class Machine:
    """Eight GPUs of the stand-in, and the true joules of each since `begin`."""

    def __init__(self, folder: Path) -> None:
        self.stand_in = StandIn(folder, GPUS)
        self.gpus = self.stand_in.gpus[:GPUS]
        self._forgotten_mj = dict.fromkeys(range(GPUS), 0)
        self._began_mj = dict.fromkeys(range(GPUS), 0)
        for gpu in self.gpus:
            gpu.energy_mj = COUNTER_MJ
        self.run(REST_WATTS)

    def run(self, watts: float, gpus: Sequence[int] = range(GPUS)) -> None:
        """Let GPUs draw so much from now on."""
        for gpu in gpus:
            self.gpus[gpu].run(watts, tick_ns=TICK_NS)

    def begin(self) -> None:
        """Count the truth from now on."""
        self.run(WATTS)
        self._began_mj = {gpu: self.gpus[gpu].energy_mj for gpu in range(GPUS)}

    def joules(self) -> dict[int, float]:
        """Return the true joules of each GPU until its power last changed."""
        counted = {gpu: self.gpus[gpu].energy_mj + self._forgotten_mj[gpu] for gpu in range(GPUS)}
        return {gpu: (counted[gpu] - self._began_mj[gpu]) / 1000 for gpu in range(GPUS)}

    def reset(self, gpu: int) -> None:
        """Let a counter begin anew at zero; the truth remembers."""
        self.run(WATTS, [gpu])
        self._forgotten_mj[gpu] += self.gpus[gpu].energy_mj
        self.gpus[gpu].energy_mj = 0
        self.run(WATTS, [gpu])

    def mismatch(self) -> None:
        """Let the library be of another version than the driver: no process can begin to use it."""
        self.stand_in.page.init_status = LIBRARY_MISMATCH


FAULTS = (
    Fault("lost_at_start", "Lost before the start", before=lambda machine: machine.gpus[ILL].lose(GPU_LOST)),
    Fault(
        "lost_and_back",
        "Lost in mid-window, then back",
        strike=lambda machine: machine.gpus[ILL].lose(GPU_LOST),
        heal=lambda machine: machine.gpus[ILL].come_back(),
        after_seconds=13.0,
    ),
    Fault("reset", "Counter reset to zero in mid-window", strike=lambda machine: machine.reset(ILL)),
    Fault("hang", "A call hangs in mid-window", strike=lambda machine: machine.gpus[ILL].hang()),
    Fault("mismatch", "Driver and library of different versions at the start", before=Machine.mismatch),
)


def scene(fault: Fault, library: Path, folder: Path, python: str) -> Scene:
    """Play one fault before all tools at once, and return what was seen."""
    folder.mkdir()
    machine = Machine(folder)
    fault.before(machine)
    path = f"{library.parent}:{os.environ['PATH']}"
    environment = {"LD_LIBRARY_PATH": str(library.parent), "PATH": path, **machine.stand_in.environment}
    with ExitStack() as open_things:
        open_things.callback(machine.gpus[ILL].release)
        tools, lacking = opened(environment, folder, python, open_things)
        failed = dict(zip(tools, _each(tools, lambda tool: tool.start()), strict=True))
        at_work = [tool for tool in tools if not failed[tool]]
        machine.begin()
        time.sleep(BEFORE_SECONDS)
        machine.run(WATTS)
        until_ill = machine.joules()[ILL] if fault.strike else None
        if fault.strike:
            fault.strike(machine)
        time.sleep(FIRST_LOOK_SECONDS)
        began = time.monotonic()
        first = _each(at_work, lambda tool: tool.look())
        machine.run(OTHER_WATTS, [MOVED])
        time.sleep(APART_SECONDS)
        apart = time.monotonic() - began
        second = _each(at_work, lambda tool: tool.look())
        fault.heal(machine)
        time.sleep(fault.after_seconds)
        machine.run(REST_WATTS)
        truth = machine.joules()
        time.sleep(SETTLE_SECONDS)
        timer = threading.Timer(HANG_SECONDS, machine.gpus[ILL].release)
        timer.start()
        open_things.callback(timer.cancel)
        ended = _each(at_work, _ended)
    met = {tool: Met(first[at], second[at], ended[at]) for at, tool in enumerate(at_work)}
    return Scene(
        fault.title, truth, until_ill, [*lacking, *(_seen(tool, failed[tool], met.get(tool), apart) for tool in tools)]
    )


class Met(NamedTuple):
    """What came of a tool that was at work: two looks at it, its end with how long that took, and what it counted."""

    first: Figures
    second: Figures
    ended: tuple[Figures, Mapping[str, int], float | None]


def _each(tools: Sequence[Tool], ask: Callable[[Tool], Answer]) -> list[Answer]:
    """Ask all of them at once."""
    with ThreadPoolExecutor(max(len(tools), 1)) as pool:
        return list(pool.map(ask, tools))


def _ended(tool: Tool) -> tuple[Figures, Mapping[str, int], float | None]:
    end, events = tool.end(), tool.events()
    return end, events, tool.stop()


def _seen(tool: Tool, failed: str, met: Met | None, apart: float) -> Seen:
    if met is None:
        return Seen(tool.name, failed_start=failed, words=tool.words())
    end, events, stop_seconds = met.ended
    return Seen(tool.name, "", "", met.first, met.second, apart, end, stop_seconds, events, tool.words())


def _in_order(seen: Sequence[Seen]) -> list[Seen]:
    """Put ours first, then the peers, there or not."""
    names = [Ours.name, *PEERS]
    return sorted(seen, key=lambda one: names.index(one.tool))


def opened(
    environment: Mapping[str, str], folder: Path, python: str, open_things: ExitStack
) -> tuple[list[Tool], list[Seen]]:
    """Begin to start each tool; return them, and what is to be said of those that cannot run."""
    tools: list[Tool] = [Ours(folder / "ours", environment)]
    lacking = []
    for name, package in PEERS.items():
        lack = lack_of(python, package)
        if lack:
            lacking.append(Seen(name, lack=lack))
        elif name == Exporter.name:
            tools.append(Exporter(python, folder / name, environment))
        else:
            tools.append(Peer(name, python, folder / name, environment))
    for tool in tools:
        open_things.callback(tool.kill)
    return tools, lacking


def played(python: str) -> dict[str, Scene]:
    """Play all faults, one after the other.

    Raises:
        SystemExit: there is no C compiler for the stand-in.
    """
    if compiler() is None:
        raise SystemExit("there is no C compiler (cc) for the stand-in\n  fix:   apt install gcc libc6-dev")
    scenes = {}
    with tempfile.TemporaryDirectory(prefix="inferwatt-faults-") as name:
        library = built(Path(name))
        smi = library.with_name("nvidia-smi")  # CodeCarbon asks for a program of this name, and for nothing it prints
        smi.write_text("#!/bin/sh\n")
        smi.chmod(0o755)
        for fault in FAULTS:
            scenes[fault.key] = met = scene(fault, library, Path(name) / fault.key, python)
            for seen in met.seen:
                print(f"{fault.title}: {seen.tool}: {sentence(seen, met).replace('**', '')}", flush=True)
    return scenes


def machine_of(python: str) -> dict[str, Any]:
    """Return what this ran on, and the versions of all."""
    code = "import sys; from importlib.metadata import version as v; print(*map(v, sys.argv[1:]))"
    names = [*PEERS.values(), "nvidia-ml-py"]
    asked = subprocess.run([python or "false", "-c", code, *names], capture_output=True, text=True, check=False)
    return {
        "cpus": os.cpu_count(),
        "arch": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "inferwatt": version("inferwatt"),
        "nvidia-ml-py (ours)": version("nvidia-ml-py"),
        **dict(zip(names, asked.stdout.split() if asked.returncode == 0 else [], strict=False)),
    }


def main() -> None:
    """Play, print the JSON line, and write the page where that is asked for."""
    parser = argparse.ArgumentParser(prog="make bench-faults")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    python, began = os.environ.get("PEERS_PYTHON", ""), time.monotonic()
    load_before = os.getloadavg()[0]
    scenes = played(python)
    machine = machine_of(python) | {"load": f"{load_before:.1f} before and {os.getloadavg()[0]:.1f} after"}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    if arguments.write:
        PAGE.write_text(page(list(scenes.values()), machine, today), encoding="utf-8")
    notes = (
        f"8 GPUs of one stand-in for NVIDIA's library at {WATTS:g} W, ticks of {TICK_NS // 10**6} ms, GPU {ILL} ill; "
        f"ratios are joules told by joules used, absent where none were told; all tools at once, each in a process of "
        f"its own; took {time.monotonic() - began:.0f} s"
    )
    print(json.dumps({"bench": "faults", "machine": machine, "figures": figures_of(scenes), "notes": notes}))


if __name__ == "__main__":
    main()
