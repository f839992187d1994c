"""The scraper: what each server counted between two looks at its metrics page, once a second.

One daemon thread asks all servers in turn; `step` is the same without the thread, for a simulated clock and
server. What is emitted: `EngineSeen` when a server is found or changes, `Event` when its model comes and goes,
`Sums` for what it did meanwhile. A server that is away is looked for again, at growing intervals.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from inferwatt.clock import Clock
from inferwatt.engines.fetch import Fetch, HttpFetch
from inferwatt.engines.networks import pids_behind
from inferwatt.engines.places import Places
from inferwatt.engines.servers import EnginesConfig, Target
from inferwatt.engines.sglang_reader import PassesHealth, PassReader
from inferwatt.engines.watch import Emitted, EngineSeen, ServerWatch, TargetHealth, fetch_of
from inferwatt.records import Place
from inferwatt.units import nanoseconds, seconds

__all__ = ["Emitted", "EngineSeen", "Scraper", "ScraperHealth", "TargetHealth"]

_LONGEST_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ScraperHealth:
    """How the scraper is: each of its servers, and how often a step of it failed in a way nobody foresaw."""

    targets: tuple[TargetHealth, ...]
    unforeseen_errors: int
    passes: tuple[PassesHealth, ...] = ()


class Scraper:
    """Scrape `targets`; see the module's head. `emit` is called from the scraper's thread and must not block."""

    def __init__(
        self,
        targets: Iterable[Target],
        clock: Clock,
        emit: Callable[[Emitted], None],
        settings: EnginesConfig | None = None,
        *,
        fetch: Callable[[str, float], Fetch] = HttpFetch,
        find_pids: Callable[[str], frozenset[int]] = pids_behind,
        find_place: Callable[[frozenset[int]], Place] | None = None,
    ) -> None:
        self._settings = settings or EnginesConfig()
        self._clock = clock
        self._emit = emit
        self._fetch = fetch
        self._find_pids = find_pids
        self._find_place = find_place or Places(self._settings.kubernetes, clock=clock).find
        self._passes = PassReader(clock, emit, find_pids=find_pids)
        self._watches: dict[str, ServerWatch] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._unforeseen_errors = 0
        for target in targets:
            self.add(target)

    def add(self, target: Target) -> None:
        """Scrape one more server from now on; one that is already scraped under that name is left as it is."""
        with self._lock:
            if target.name not in self._watches:
                asks = fetch_of(target, self._settings.timeout_seconds, self._fetch)
                period_ns = nanoseconds(self._settings.scrape_seconds)
                kind = self._settings.kinds[target.kind]
                watch = ServerWatch(target, kind, asks, self._emit, period_ns, self._find_pids, self._find_place)
                self._watches = {**self._watches, target.name: watch}
                self._passes.add(target)

    def step(self, now_ns: int) -> int:
        """Ask every server that is due at `now_ns` (monotonic), and return when the next one is due."""
        for watch in self._watches.values():
            if watch.due_ns <= now_ns:
                watch.look(max(now_ns, self._clock.monotonic_ns()))  # the one before may have taken its time
        longest_ns = now_ns + nanoseconds(_LONGEST_WAIT_SECONDS)
        return min((watch.due_ns for watch in self._watches.values()), default=longest_ns)

    def start(self) -> None:
        """Start the thread; once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="inferwatt-scraper", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the question it is at, and close the connections."""
        self._stopping.set()
        self._passes.stop()
        if self._thread is not None:
            self._thread.join(timeout=2 * self._settings.timeout_seconds + 0.5)
        for watch in self._watches.values():
            watch.close()

    def health(self) -> ScraperHealth:
        """Return how each server is, as an immutable record."""
        targets = tuple(watch.health() for watch in self._watches.values())
        return ScraperHealth(targets, self._unforeseen_errors + self._passes.errors, self._passes.health())

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                due_ns = self.step(self._clock.monotonic_ns())
                self._passes.look(self._clock.monotonic_ns())
                wait_seconds = min(seconds(due_ns - self._clock.monotonic_ns()), _LONGEST_WAIT_SECONDS)
            except Exception:  # noqa: BLE001 - the thread's border: a server's answer must not end the meter
                self._unforeseen_errors += 1
                wait_seconds = _LONGEST_WAIT_SECONDS
            self._stopping.wait(max(wait_seconds, 0.0))
