"""A process under the watch of a benchmark: its CPU time by the kernel's own clock of the whole process, its memory."""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

WAIT_SECONDS = 10.0
_CHILDREN_FIELDS = slice(13, 15)
"""cutime and cstime of proc_pid_stat(5), counted from the field after the command's name."""


class Spent(NamedTuple):
    """What a process has spent so far, by which clock, and how many readings of a device it has taken for it."""

    at_ns: int
    cpu_ns: int
    counts: Mapping[str, Any]


class Cost(NamedTuple):
    """What a process spent in one window."""

    cpu_fraction: float
    us_per_sample: float
    samples: int


class Child:
    """A process that says `"ready"`, answers each line with a line of JSON, and ends when its input does."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.pid = self._process.pid
        self.greeting: Any = json.loads(self._line())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def ask(self) -> dict[str, Any]:
        """Return what the process says of itself."""
        if self._process.stdin is None:
            raise RuntimeError("the process has no input")
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")
        return line

    def spent(self) -> Spent:
        """Return what it has spent: all its threads, ended ones too, and the children that it waited for."""
        counts = self.ask()
        clock = (~self.pid << 3) | 2  # CPUCLOCK_SCHED of a process: clock_getcpuclockid(3), in nanoseconds
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        children_ns = sum(map(int, fields[_CHILDREN_FIELDS])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        return Spent(time.monotonic_ns(), time.clock_gettime_ns(clock) + children_ns, counts)

    def rss_mb(self) -> float:
        """Return its resident memory, MiB as the kernel counts it."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def cost(before: Spent, after: Spent) -> Cost:
    """Return what was spent between two moments; one that sampled nothing is an error, not a saving.

    Raises:
        RuntimeError: nothing was sampled.
    """
    samples = after.counts["samples"] - before.counts["samples"]
    if samples <= 0:
        raise RuntimeError(f"nothing was sampled: {after.counts}")
    cpu_ns = after.cpu_ns - before.cpu_ns
    return Cost(cpu_ns / (after.at_ns - before.at_ns), cpu_ns / 1000 / samples, samples)


def median(costs: Sequence[Cost]) -> Cost:
    """Return the medians over the windows."""
    fraction, us, samples = (statistics.median(column) for column in zip(*costs, strict=True))
    return Cost(fraction, us, round(samples))


def stand_in_nvml(folder: Path) -> dict[str, str] | None:
    """Compile the stand-in NVML into `folder`; return the environment that makes peers find it, None without a cc."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "libnvidia-ml.so.1"
    source = Path(__file__).parents[2] / "tests" / "doubles" / "nvml.c"
    flags = ("-O2", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1")
    subprocess.run([compiler, *flags, "-o", str(library), str(source)], check=True)
    smi = folder / "nvidia-smi"  # CodeCarbon asks for a program of this name, and for nothing that it prints
    smi.write_text("#!/bin/sh\n")
    smi.chmod(0o755)
    (folder / "nvidiactl").touch()  # the device node that ours looks for
    return {"LD_LIBRARY_PATH": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}


def peers(folder: Path, hertz: float, open_things: ExitStack) -> tuple[dict[str, Child], str]:
    """Start the peers in the Python that `PEERS_PYTHON` names; return them, or why there are none."""
    python = os.environ.get("PEERS_PYTHON", "")
    if not python or shutil.which(python) is None:
        return {}, "peers not measured: PEERS_PYTHON names no Python"
    environment = stand_in_nvml(folder)
    if environment is None:
        return {}, "peers not measured: no C compiler (cc)"
    script = str(Path(__file__).with_name("peers.py"))
    names = ("zeus_loop", "zeus_windows", "codecarbon")
    commands = {name: [python, script, name, str(hertz)] for name in names}
    return {name: open_things.enter_context(Child(command, environment)) for name, command in commands.items()}, ""
