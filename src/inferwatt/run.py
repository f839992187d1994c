"""`inferwatt run -- CMD ARGS`: the energy of any command, which always runs.

Whatever fails here fails around the command, never instead of it: its standard streams are its own, its exit status
is ours (128 + N when signal N ended it, 127 and 126 where a shell says so), and signals sent to us reach it.
Afterwards two figures, never one: what the devices used in that time, and the command's share (`run_meter` has the
rule), each with bounds and provenance; joules of different provenance are not added (`run_report` words them).
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from inferwatt.snapshot import Lack
from inferwatt.units import NS_PER_SECOND

if TYPE_CHECKING:
    from inferwatt.run_meter import DeviceFigures, RunMeter
    from inferwatt.sources import Source

NOT_FOUND = 127
NOT_EXECUTABLE = 126
BY_SIGNAL = 128

_FORWARDED = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP")
_FROM_THE_TERMINAL = ("SIGINT", "SIGQUIT")


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to say after the command ended."""

    command: Sequence[str]
    exit_status: int
    duration_seconds: float
    cpu_seconds: float
    devices: Sequence["DeviceFigures"]
    lacks: Sequence[Lack]


def run(command: Sequence[str], *, interval_seconds: float = 0.1, sources: "Sequence[Source] | None" = None) -> Report:
    """Run `command` to its end and return what was measured.

    Args:
        command: the program and its arguments.
        interval_seconds: time between two readings while it runs (RAPL counters wrap within minutes at full load).
        sources: what to read; found on this machine when None.
    """
    lacks: list[Lack] = []
    meter = _open_meter(sources, interval_seconds, lacks)
    start_ns = time.monotonic_ns()
    exit_status, cpu_seconds = _run_to_the_end(command)
    duration_seconds = (time.monotonic_ns() - start_ns) / NS_PER_SECOND
    devices: list[DeviceFigures] = []
    if meter is not None:
        try:
            devices = meter.stop(cpu_seconds)
            lacks += meter.lacks
        except Exception as exc:  # noqa: BLE001 - the command's exit status comes first
            lacks.append(_broken(exc))
    return Report(command, exit_status, duration_seconds, cpu_seconds, devices, lacks)


def _open_meter(sources: "Sequence[Source] | None", interval_seconds: float, lacks: list[Lack]) -> "RunMeter | None":
    """Return a meter that has begun, or None with the reason in `lacks`."""
    try:
        from inferwatt.run_meter import RunMeter

        if sources is None:
            from inferwatt.sources import SourcesConfig, discover_all

            found = discover_all(SourcesConfig())
            sources = found.sources
            lacks += found.lacks
        if not sources:
            lacks.append(Lack("no device of this machine can be read", "inferwatt.sources", "inferwatt sources"))
            return None
        meter = RunMeter(sources, time.monotonic_ns, interval_seconds)
        meter.start()
    except Exception as exc:  # noqa: BLE001 - the command runs whatever is broken here, an import included
        lacks.append(_broken(exc))
        return None
    return meter


def _broken(exc: Exception) -> Lack:
    return Lack(f"the meter failed: {type(exc).__name__}: {exc}", "inferwatt run", "inferwatt sources")


def _run_to_the_end(command: Sequence[str]) -> tuple[int, float]:
    """Return the command's exit status as a shell tells it, and the CPU time of it and its ended children, seconds."""
    with _forwarded_signals() as target:
        try:
            process = subprocess.Popen(command)
        except OSError as exc:
            with contextlib.suppress(OSError):
                sys.stderr.write(f"inferwatt run: cannot run {command[0]}: {exc.strerror}\n")
            return (NOT_FOUND if isinstance(exc, FileNotFoundError) else NOT_EXECUTABLE), 0.0
        target.reached(process.pid)
        _, status, used = os.wait4(process.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        process.returncode = code  # it was waited for here, because only wait4 tells its CPU time
    return (code if code >= 0 else BY_SIGNAL - code), used.ru_utime + used.ru_stime


class _Target:
    """The process that signals go to; those that come before it runs are kept for it."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._early: list[int] = []

    def reached(self, pid: int) -> None:
        self._pid = pid
        for number in self._early:
            self._send(number)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if self._pid is None:
            self._early.append(number)
        elif not (signal.Signals(number).name in _FROM_THE_TERMINAL and _in_foreground()):
            self._send(number)

    def _send(self, number: int) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)


def _in_foreground() -> bool:
    """Tell whether the terminal sends its Ctrl-C to our process group, and so to the command without our help."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


@contextlib.contextmanager
def _forwarded_signals() -> Iterator[_Target]:
    """Send on what comes while the command runs; a signal that was ignored (nohup) stays ignored, for it too."""
    target = _Target()
    numbers = [getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    taken = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, target.handle)
    try:
        yield target
    finally:
        for number in taken:
            signal.signal(number, before[number])


def tell(report: Report, *, as_json: bool, output: str | None) -> None:
    """Say what was measured; a summary that fails never takes the command's exit status away."""
    try:
        from inferwatt import run_report

        run_report.write(report, as_json=as_json, output=output)
    except Exception as exc:  # noqa: BLE001 - the command has run, and its exit status comes first
        with contextlib.suppress(OSError):
            sys.stderr.write(f"inferwatt run: no summary: {type(exc).__name__}: {exc}\n")
