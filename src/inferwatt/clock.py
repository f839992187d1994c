"""The clock as a seam: the agent hands one in everywhere, so that a test can run the whole agent on a fake one."""

import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC, nanoseconds: the only time inside the meter."""
        ...

    def unix_ns(self) -> int:
        """Return UTC since the epoch, nanoseconds: only for placing rows on the wall clock."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC, nanoseconds."""
        return time.monotonic_ns()

    def unix_ns(self) -> int:
        """Return UTC since the epoch, nanoseconds."""
        return time.time_ns()


def boot_id() -> str:
    """Return what names this boot of the machine: monotonic times of two boots are never compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"boot-{(time.time_ns() - time.monotonic_ns()) // 60_000_000_000}"
