"""One exporter's thread: a queue with a bound, patience with a limit, and a count of what was lost.

Each exporter has one of its own, so that the outage of one never touches another, nor the meter: `offer` never waits.
Snapshots need no queue: the newest replaces all before it, and counters only grow. Requests wait, and when there are
too many the oldest go. A batch that was not taken is tried again with growing pauses, each drawn at random, so that
many agents do not come back at once. What waits meanwhile is kept on disk, too (unsent.py).
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Final

from inferwatt.export.exporter import Batch, Exporter, ExportRefused, ExportRetry, OutletHealth
from inferwatt.export.unsent import Unsent
from inferwatt.ledger.rows import RequestRow
from inferwatt.snapshot import Snapshot
from inferwatt.units import nanoseconds

log = logging.getLogger("inferwatt")

MOST_REQUESTS: Final = 10_000
"""What may wait, about 1 kB each."""
BATCH_REQUESTS: Final = 1_000
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
LONGEST_ASKED_SECONDS: Final = 600.0
"""How long the other side may ask us to wait."""
BUG: Final = "error"
"""The reason of a failure that the exporter did not foresee."""
OVERFLOW: Final = "overflow"
LATE: Final = "late"


class Outlet:
    """Runs an exporter in a thread of its own.

    Args:
        exporter: what is run.
        snapshot: the newest snapshot; called from this thread.
        random: where the jitter comes from.
        folder: where requests are kept that wait when the agent ends; None keeps none.
    """

    def __init__(
        self,
        exporter: Exporter,
        snapshot: Callable[[], Snapshot],
        random: Random | None = None,
        folder: Path | None = None,
    ) -> None:
        self._exporter = exporter
        self._snapshot = snapshot
        self._unsent = Unsent(folder, exporter.name)
        self._random = random or Random()
        self._lock = threading.Lock()
        self._queue: deque[RequestRow] = deque()
        self._woken = threading.Event()
        self._stopping = False
        self._attempt = 0
        self._exports = 0
        self._failures: dict[str, int] = {}
        self._dropped: dict[str, int] = {}
        self._last_success: float | None = None
        self._error = ""
        self._retry_after: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"inferwatt-export-{exporter.name}", daemon=True)

    def start(self) -> None:
        """Start the thread, with what the last agent could not send."""
        rows, late = self._unsent.load(time.time_ns())
        self.offer(rows)
        if late:
            self._drop(LATE, late)
        self._thread.start()

    def offer(self, rows: Iterable[RequestRow]) -> None:
        """Hand in requests that have ended; never waits for the exporter."""
        if not self._exporter.wants_requests:
            return
        with self._lock:
            self._queue.extend(rows)
            excess = len(self._queue) - MOST_REQUESTS
            for _ in range(excess):
                self._queue.popleft()
        if excess > 0:
            self._drop(OVERFLOW, excess)

    def ask_to_stop(self) -> None:
        """Let the thread send what there is, once, and end."""
        self._stopping = True
        self._woken.set()

    def join(self, seconds: float) -> None:
        """Wait for the thread's end; what it has not sent by then is kept for the next agent, and told in the log."""
        self._thread.join(max(seconds, 0.0))
        rows = self._all()
        if rows:
            then = "the next agent will" if self._unsent.keep(rows) else "the ledger has them"
            log.warning("export to %s: %d requests were not sent: %s", self._exporter.name, len(rows), then)

    def health(self) -> OutletHealth:
        """Return how it goes."""
        return OutletHealth(
            self._exporter.name,
            self._exports,
            dict(self._failures),
            dict(self._dropped),
            len(self._queue),
            self._last_success,
            self._error,
        )

    # In the thread.

    def _run(self) -> None:
        while not self._stopping:
            pause_seconds = self._once()
            self._woken.wait(pause_seconds)
        self._flush()
        with contextlib.suppress(Exception):
            self._exporter.close()

    def _once(self) -> float:
        """Send one batch; return how long to wait before the next."""
        rows = self._waiting()
        if not self._send(rows):
            if waiting := self._all():
                self._unsent.keep(waiting)
            return self._pause()
        return 0.0 if self._queue and len(rows) == BATCH_REQUESTS else self._exporter.period_seconds

    def _flush(self) -> None:
        """Send what there is: the last snapshot, and all requests, until one batch fails."""
        while True:
            rows = self._waiting()
            if not self._send(rows) or not self._queue:
                return

    def _all(self) -> list[RequestRow]:
        with self._lock:
            return list(self._queue)

    def _waiting(self) -> Sequence[RequestRow]:
        with self._lock:
            return [self._queue[place] for place in range(min(len(self._queue), BATCH_REQUESTS))]

    def _send(self, rows: Sequence[RequestRow]) -> bool:
        try:
            has_more = BATCH_REQUESTS == len(rows) < len(self._queue)
            refused = self._exporter.export(Batch(time.time_ns(), self._snapshot(), rows, has_more))
        except ExportRetry as exc:
            self._failed(exc.reason, str(exc))
            self._retry_after = exc.retry_after_seconds
            return False
        except ExportRefused as exc:
            self._failed(exc.reason, str(exc))
            self._drop(exc.reason, max(len(rows), 1))
        except Exception as exc:
            log.exception("the exporter %s failed at a batch; it is left out", self._exporter.name)
            self._failed(BUG, f"{type(exc).__name__}: {exc}")
            self._drop(BUG, max(len(rows), 1))
        else:
            self._succeeded(refused)
        self._take(rows)
        return True

    def _succeeded(self, refused: int) -> None:
        self._exports += 1
        self._attempt = 0
        self._error = ""
        self._last_success = time.time()
        if refused:
            self._drop("refused", refused)

    def _failed(self, reason: str, error: str) -> None:
        if error.partition("\n")[0] != self._error.partition("\n")[0]:
            log.warning("export to %s: %s", self._exporter.name, error)
        self._error = error
        self._failures[reason] = self._failures.get(reason, 0) + 1

    def _drop(self, reason: str, count: int) -> None:
        with self._lock:
            self._dropped[reason] = self._dropped.get(reason, 0) + count

    def _take(self, rows: Sequence[RequestRow]) -> None:
        """Forget requests that were sent; the oldest may have gone meanwhile."""
        sent = {id(row) for row in rows}
        with self._lock:
            while self._queue and id(self._queue[0]) in sent:
                self._queue.popleft()
            is_done = not self._queue
        if is_done:
            self._unsent.forget()

    def _pause(self) -> float:
        self._attempt += 1
        return pause_seconds(self._attempt, self._retry_after, self._random)


def pause_seconds(attempt: int, retry_after_seconds: float | None, random: Random) -> float:
    """Return how long to wait after so many failures in a row.

    It is what the other side asks for, else between half and all of a time that doubles with each failure.
    """
    if retry_after_seconds is not None:
        return min(max(retry_after_seconds, 0.0), LONGEST_ASKED_SECONDS)
    longest = min(FIRST_PAUSE_SECONDS * 2 ** min(attempt - 1, 16), LONGEST_PAUSE_SECONDS)
    return random.uniform(longest / 2, longest)


class Outlets:
    """All exporters, each in its thread."""

    def __init__(
        self, exporters: Iterable[Exporter], snapshot: Callable[[], Snapshot], folder: Path | None = None
    ) -> None:
        self._outlets = [Outlet(exporter, snapshot, folder=folder) for exporter in exporters]

    def start(self) -> None:
        """Start them."""
        for outlet in self._outlets:
            outlet.start()

    def offer(self, rows: Sequence[RequestRow]) -> None:
        """Hand requests to each that wants them; never waits."""
        for outlet in self._outlets:
            outlet.offer(rows)

    def health(self) -> tuple[OutletHealth, ...]:
        """Return how each goes."""
        return tuple(outlet.health() for outlet in self._outlets)

    def stop(self, seconds: float) -> None:
        """Let all of them send what they have at the same time, for so long together; then leave them to their fate."""
        deadline_ns = time.monotonic_ns() + nanoseconds(seconds)
        for outlet in self._outlets:
            outlet.ask_to_stop()
        for outlet in self._outlets:
            outlet.join((deadline_ns - time.monotonic_ns()) / 1e9)
