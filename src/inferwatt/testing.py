"""Public doubles for tests of code that uses inferwatt: no mocks needed."""


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
