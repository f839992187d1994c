"""The whole server's power by IPMI: ``ipmitool dcmi power reading``, run only where the user says so.

DCMI 1.5, "Get Power Reading": a 16-bit power in watts, and whether it is being measured. A thread of its own runs the
program (slow.py), with the user's words before ours: options for a host and an account, or ``sudo -n`` in front. A run
that takes too long is killed with all that it started; one that cannot be killed (a driver that hangs) is left, and no
second one is started beside it.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from inferwatt.errors import SourceRetry
from inferwatt.records import Component
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.server import NoFigure, power_mw, server_device
from inferwatt.sources.settings import IpmiConfig
from inferwatt.sources.slow import Postponed, Sample, slow_source
from inferwatt.units import NS_PER_SECOND, nanoseconds

NAME = "ipmi"
READING = ("dcmi", "power", "reading")
MAX_OUTPUT_BYTES = 65536
_KILL_SECONDS = 1.0
_WHERE = "sources.ipmi.command"
_WATTS = re.compile(r"^\s*Instantaneous power reading:\s+([0-9]{1,5}) Watts\s*$", re.MULTILINE)
_STATE = re.compile(r"^\s*Power reading state is:\s+(activated|deactivated)\s*$", re.MULTILINE)
_NOT_AVAILABLE_WATTS = 0xFFFF

_TROUBLES: tuple[tuple[str, str, str, int], ...] = (
    ("Permission denied", "may not open the device", 'sources.ipmi.command = ["sudo", "-n", "ipmitool"]', 0),
    ("Could not open device", "finds no IPMI device", "sudo modprobe -a ipmi_si ipmi_devintf", 0),
    ("a password is required", "may not run as root", "allow it in sudoers: NOPASSWD for ipmitool", 600),
    ("Insufficient privilege", "is refused by the BMC", "give the account the level User or better", 600),
    ("Invalid command", "asks a BMC without DCMI power readings", "none: use Redfish if the BMC has it", 600),
    ("Unable to establish", "gets no session with the BMC", "the host, the account, the password after -f", 60),
)
"""What ipmitool (1.8.19) prints, what it means, what to do, and for how many seconds it is better not to try again:
a wrong password locks an account after a few tries, and ipmitool does not tell it from a BMC that is not there."""


class Ipmitool:
    """Runs the user's ipmitool and reads what it prints."""

    def __init__(self, config: IpmiConfig) -> None:
        self._command = (*config.command, *READING)
        self._timeout_seconds = config.timeout_seconds
        self._left: subprocess.Popen[bytes] | None = None

    def poll(self) -> Sample:
        """Return what the server draws now.

        Raises:
            SourceRetry: the program fails, takes too long, or says nothing that can be.
        """
        status, text = self._run()
        if status != 0:
            raise _failure(status, text)
        try:
            return Sample(power_mw=figure_mw(text))
        except NoFigure as exc:
            raise SourceRetry(
                f"the BMC does not say what the server draws: its power reading {exc}",
                where=_WHERE,
                fix="none needed while the server starts; else use Redfish if the BMC has it",
            ) from exc

    def _run(self) -> tuple[int, str]:
        """Run it once and return its exit status and all that it printed."""
        if self._left is not None and self._left.poll() is None:
            raise _trouble("still hangs since an earlier poll", "look at the IPMI driver: sudo dmesg")
        deadline = time.monotonic() + self._timeout_seconds
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C"},
            )
        except OSError as exc:
            raise _trouble(f"cannot be run: {exc.strerror}", "name the program by its whole path") from exc
        try:
            output = _output(process, deadline)
            return process.wait(max(0.0, deadline - time.monotonic())), output.decode("utf-8", "replace")
        except (TimeoutError, subprocess.TimeoutExpired) as exc:
            self._end(process)
            seconds = self._timeout_seconds
            raise _trouble(
                f"did not end within {seconds:g} s", "sources.ipmi.timeout_seconds, if the BMC is slow"
            ) from exc
        except NoFigure as exc:
            self._end(process)
            raise _trouble(f"{exc}", "name ipmitool itself, not something that prints more") from exc

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill it and all that it started; note it where even that does not help."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout is not None:
            process.stdout.close()
        try:
            process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._left = process


def figure_mw(text: str) -> int:
    """Return the power in what ``ipmitool dcmi power reading`` prints, milliwatts.

    Raises:
        NoFigure: it says none: it is not being measured, it is zero, or this is other text.
    """
    watts, states = _WATTS.findall(text), _STATE.findall(text)
    if len(watts) != 1 or len(states) != 1:
        raise NoFigure("is not what ipmitool prints")
    if states[0] != "activated":
        raise NoFigure("is deactivated")
    if int(watts[0]) == _NOT_AVAILABLE_WATTS:
        raise NoFigure("is not available")
    return power_mw(int(watts[0]))


def discover(settings: SourcesConfig) -> Found:
    """Return the server as ipmitool reads it, where the user allows that; else the setting that would allow it."""
    config = settings.ipmi
    if not config.enabled:
        has_bmc = any((Path(settings.sysfs_root) / "class" / "ipmi").glob("ipmi*"))
        return Found(lacks=(_not_allowed(),) if has_bmc and not settings.redfish else ())
    if lack := _unusable(config.command):
        return Found(lacks=(lack,))
    tool = Ipmitool(config)
    return Found((slow_source(NAME, server_device(NAME), tool.poll, nanoseconds(config.poll_seconds)),))


def _unusable(command: Sequence[str]) -> Lack | None:
    """Return why a command cannot be used, before it is run."""
    if not command or shutil.which(command[0]) is None:
        named = command[0] if command else "nothing"
        return _lack(f"{named} is no program that can be run", _WHERE, "sudo apt-get install ipmitool")
    ours = next((n for n, word in enumerate(command) if Path(word).name == "ipmitool"), len(command))
    if any(word.startswith("-P") for word in command[ours + 1 :]):
        what = "the password stands in the command line, where every user of the machine can see it"
        return _lack(what, _WHERE, "-f FILE in place of -P PASSWORD (chmod 600 FILE)")
    return None


def _not_allowed() -> Lack:
    install = "" if shutil.which("ipmitool") else "sudo apt-get install ipmitool, and "
    return _lack(
        "the BMC may know what the whole server draws, and is not asked",
        "/dev/ipmi0",
        f"{install}sources.ipmi.enabled = true  # runs ipmitool every 10 s",
    )


def _lack(what: str, where: str, fix: str) -> Lack:
    return Lack(what, where, fix, source=NAME, component=Component.OVERHEAD.value)


def _output(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Read all that a process prints, but not for ever and not without end."""
    if process.stdout is None:
        return b""
    with process.stdout as pipe:
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        output = b""
        while len(output) <= MAX_OUTPUT_BYTES:
            left_seconds = deadline - time.monotonic()
            if left_seconds <= 0 or not waiting.poll(left_seconds * 1000):
                raise TimeoutError
            more = os.read(pipe.fileno(), MAX_OUTPUT_BYTES)
            if not more:
                return output
            output += more
    raise NoFigure("prints without end")


def _failure(status: int, text: str) -> SourceRetry:
    """Return what it means that ipmitool ended with an error."""
    for said, what, fix, pause_seconds in _TROUBLES:
        if said in text:
            return _trouble(what, fix, pause_seconds * NS_PER_SECOND)
    last = "".join(mark for mark in text.strip().rpartition("\n")[2] if mark.isprintable())[:120]
    return _trouble(
        f"ended with status {status}" + (f": {last}" if last else ""), f"run it by hand: {' '.join(READING)}"
    )


def _trouble(what: str, fix: str, after_ns: int = 0) -> SourceRetry:
    if after_ns:
        return Postponed(f"ipmitool {what}", where=_WHERE, fix=fix, after_ns=after_ns)
    return SourceRetry(f"ipmitool {what}", where=_WHERE, fix=fix)
