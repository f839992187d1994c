"""The demo's children: each dies with its parent, and is ended in order, so that nothing is left behind."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from inferwatt.errors import Unavailable

_PR_SET_PDEATHSIG = 1
_KILL_SECONDS = 2.0
_LOG_TAIL_BYTES = 2000


class Child:
    """One child process, in a process group of its own: a terminal's Ctrl-C reaches the parent alone, which ends all.

    Args:
        name: what it is called in messages, and in the name of its log.
        command: the program and its arguments.
        folder: where its log is written.
        environment: its whole environment.
        at_parents_death: the signal that the kernel sends it if the parent is killed (Linux).
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        at_parents_death: int = signal.SIGKILL,
    ) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environment),
                process_group=0,
                preexec_fn=_die_with_parent(at_parents_death),  # no thread of ours runs yet when children start
            )

    @property
    def output(self) -> IO[bytes]:
        """What it writes to its standard output."""
        if self.process.stdout is None:  # never: it is a pipe
            raise Unavailable(f"the {self.name} has no output", where=self._log, fix="report this")
        return self.process.stdout

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.process.poll() is not None

    def check(self) -> None:
        """Raise `Unavailable` with the end of its log if it has ended."""
        if self.has_ended:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - _LOG_TAIL_BYTES))
                tail = log.read().decode(errors="replace").strip()
            status = self.process.returncode
            raise Unavailable(f"the demo's {self.name} ended with status {status}", where=tail, fix="run it again")

    def ask_to_end(self) -> None:
        """Send SIGTERM, if it still runs."""
        if not self.has_ended:
            self.process.terminate()

    def end(self, timeout_seconds: float) -> None:
        """Ask it to end, wait, and kill it if it does not."""
        self.ask_to_end()
        try:
            self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(_KILL_SECONDS)
        finally:
            self.output.close()


def _die_with_parent(number: int) -> Callable[[], None] | None:
    """Return what a child does between fork and exec, or None where the kernel has no such thing."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: after the fork nothing may be loaded
    parent = os.getpid()

    def ask_the_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask_the_kernel
