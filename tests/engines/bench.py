"""A scraper at work on a scripted server, driven by a fake clock."""

from dataclasses import dataclass, field

import pytest

from inferwatt.engines.scrape import Emitted, Scraper, TargetHealth
from inferwatt.engines.servers import EnginesConfig, Target
from inferwatt.records import Event, EventKind, Sums
from inferwatt.testing import FakeClock
from inferwatt.units import NS_PER_SECOND
from tests.engines.servers import FakeLlama

TARGET = Target("llamacpp:8080", "http://127.0.0.1:8080")


@dataclass
class Bench:
    """A scraper of one fake server on a fake clock, and all that it emitted."""

    server: FakeLlama = field(default_factory=FakeLlama)
    clock: FakeClock = field(default_factory=FakeClock)
    emitted: list[Emitted] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scraper = Scraper(
            [TARGET],
            self.clock,
            self.emitted.append,
            EnginesConfig(),
            fetch=lambda _url, _timeout: self.server,
            find_pids=lambda _url: frozenset({4242}),
        )

    def second(self, count: int = 1) -> list[Emitted]:
        """Let seconds pass, and return what was emitted in them."""
        before = len(self.emitted)
        for _ in range(count):
            self.scraper.step(self.clock.monotonic_ns())
            self.clock.advance(NS_PER_SECOND)
        return self.emitted[before:]

    def of(self, kind: type[Emitted]) -> list[Emitted]:
        """Return what was emitted of one kind."""
        return [item for item in self.emitted if isinstance(item, kind)]

    @property
    def health(self) -> TargetHealth:
        """How the only server is."""
        return self.scraper.health().targets[0]

    @property
    def events(self) -> list[EventKind]:
        """The kinds of events so far."""
        return [item.kind for item in self.emitted if isinstance(item, Event)]

    def tokens(self) -> tuple[int, int, int]:
        """All computed, cached and output tokens so far."""
        sums = [item for item in self.emitted if isinstance(item, Sums)]
        return (
            sum(item.prompt_tokens or 0 for item in sums),
            sum(item.cached_tokens or 0 for item in sums),
            sum(item.output_tokens or 0 for item in sums),
        )


@pytest.fixture
def bench() -> Bench:
    """A scraper of one fake server."""
    return Bench()
