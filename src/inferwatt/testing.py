"""Public doubles for tests of code that uses inferwatt: no mocks needed."""

from collections.abc import Iterable
from threading import Event as Hang

from inferwatt.ledger.driver import MEMORY
from inferwatt.ledger.sqlite import Ledger, LedgerConfig
from inferwatt.records import Device, Reading


class FakeClock:
    """A clock that stands still until it is told to go."""

    def __init__(self, monotonic_ns: int = 1_000_000_000, unix_ns: int = 1_800_000_000_000_000_000) -> None:
        self._monotonic_ns = monotonic_ns
        self._unix_ns = unix_ns

    def monotonic_ns(self) -> int:
        """Return the fake CLOCK_MONOTONIC, nanoseconds."""
        return self._monotonic_ns

    def unix_ns(self) -> int:
        """Return the fake UTC, nanoseconds since the epoch."""
        return self._unix_ns

    def advance(self, elapsed_ns: int) -> None:
        """Let both clocks go on by `elapsed_ns` nanoseconds."""
        self._monotonic_ns += elapsed_ns
        self._unix_ns += elapsed_ns

    def step_wall(self, step_ns: int) -> None:
        """Move the wall clock alone, as NTP or an operator does."""
        self._unix_ns += step_ns


class ScriptedSource:
    """A source that answers by a script: counters in µJ, whole readings, exceptions to raise, or events to hang on.

    A `threading.Event` in the script blocks the read until the event is set, as a driver's call may, and the next
    answer follows. At the script's end the last counter stays.
    """

    name = "scripted"

    def __init__(
        self, device: Device | str, script: Iterable[int | Reading | Exception | Hang], *, period_ns: int = 0
    ) -> None:
        self.device = Device(device) if isinstance(device, str) else device
        self.period_ns = period_ns
        self.reads = 0
        self.closed = False
        self._script = iter(script)
        self._last: int | Reading = 0

    def read(self, now_ns: int) -> Reading:
        """Return the script's next answer at `now_ns`; raises what the script says."""
        self.reads += 1
        answer = next(self._script, self._last)
        if isinstance(answer, Hang):
            answer.wait()
            answer = next(self._script, self._last)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Hang):
            raise TypeError("a script cannot hang twice in one read")
        self._last = answer
        return answer if isinstance(answer, Reading) else Reading(now_ns, self.device.device, answer)

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


def memory_ledger(clock: FakeClock, config: LedgerConfig | None = None) -> Ledger:
    """Return the real ledger without a file: it ends with its process, and shares every line with the real one."""
    return Ledger.open(
        MEMORY, agent_version="test", config_hash="", boot_id="boot", clock=clock, config=config or LedgerConfig()
    )
