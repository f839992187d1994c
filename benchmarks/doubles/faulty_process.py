"""A program under a fault: heard line by line, told words, stopped by the clock; what it said of NVIDIA's GPUs."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_SECONDS = 30.0
_SAID = re.compile(
    r"\b(?:WARNING|ERROR|CRITICAL)\b(?: @ [\d:]+\])?:?\s*(.*)|^lacks: (.*)|^([\w.]*(?:Error|Exception)\w*: .*)"
)
_OF_NVIDIA = re.compile(r"^(?!.*\bAMD\b).*(?:gpu|nvml|nvidia)", re.IGNORECASE)


class Program:
    """A process that writes to files in `folder`, so that it never waits for us."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir()
        self._said = folder / "stderr"
        own = {name: value for name, value in os.environ.items() if not name.startswith("INFERWATT_")}
        with self._said.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                env=own | dict(environment),
                text=True,
            )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line)

    def line(self, seconds: float) -> str:
        """Return its next line of output; raises `queue.Empty` where there is none so soon."""
        return self._lines.get(timeout=seconds)

    def tell(self, word: str) -> None:
        """Write a line to its input."""
        with contextlib.suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.write(f"{word}\n")
                self.process.stdin.flush()

    def terminate(self) -> float | None:
        """Send SIGTERM; return how long it took to end, None where it had ended before."""
        if self.process.poll() is not None:
            return None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.ended(began)

    def ended(self, began: float) -> float:
        """Wait for its end and return how long ago `began` was."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        return time.monotonic() - began

    def words(self) -> tuple[str, ...]:
        """Return its warnings, errors and lacks, each once."""
        return words_of(self._said.read_text(errors="replace"))

    def events(self) -> Mapping[str, int]:
        """Return nothing: who counts, says so."""
        return {}

    def kill(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def words_of(said: str) -> tuple[str, ...]:
    """Return what a program's output says of NVIDIA's GPUs in its warnings, errors and lacks, each once."""
    found = (_SAID.search(line) for line in said.splitlines())
    words = [next(filter(None, one.groups()), "").strip() for one in found if one]
    return tuple(dict.fromkeys(word for word in words if _OF_NVIDIA.match(word)))
