"""The ledger on SQLite: one connection that writes and checkpoints (WAL, synchronous FULL), one that only reads.

What was committed is kept, whatever happens to the process; a full disk or an I/O error is a `LedgerRetry` that leaves
nothing half-written; a damaged file is set aside and a new one begun.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from inferwatt.clock import Clock
from inferwatt.ledger.driver import BUSY, CANNOT_OPEN, FULL, MEMORY, ClosedDriver, Connect, Driver, Trouble, connect
from inferwatt.ledger.lock import LedgerLock
from inferwatt.ledger.opening import open_file, open_reading, put_aside, retry
from inferwatt.ledger.queries import LedgerReader, Queries
from inferwatt.ledger.retention import LedgerConfig, used_bytes
from inferwatt.ledger.rows import REQUEST_ACCOUNT, Committed, DeviceState, Head, LedgerBatch, Pruned, RequestKey
from inferwatt.ledger.writer import Writer
from inferwatt.snapshot import HistogramValue, Labels
from inferwatt.units import NS_PER_SECOND

__all__ = ["Ledger", "LedgerConfig", "LedgerReader"]


@dataclass(slots=True)
class _Totals:
    """The totals as committed last, so that a new file begins with them when a damaged one was set aside."""

    counters: dict[str, dict[Labels, float]] = field(default_factory=dict)
    histograms: dict[str, dict[Labels, HistogramValue]] = field(default_factory=dict)
    states: dict[str, DeviceState] = field(default_factory=dict)

    def take(self, batch: LedgerBatch) -> None:
        for family, series in batch.counters.items():
            self.counters.setdefault(family, {}).update(series)
        for family, values in batch.histograms.items():
            self.histograms.setdefault(family, {}).update(values)
        self.states.update({state.device: state for state in batch.device_states})

    def batch(self) -> LedgerBatch:
        return LedgerBatch(
            counters=self.counters, histograms=self.histograms, device_states=tuple(self.states.values())
        )


@dataclass(frozen=True, slots=True)
class _Maker:
    """What is needed to open the file again."""

    connect: Connect
    clock: Clock
    agent_version: str
    config_hash: str
    boot_id: str

    def writer(self, driver: Driver) -> Writer:
        return Writer(driver, self.clock, self.agent_version, self.config_hash, self.boot_id)


class Ledger(Queries):
    """Made by `Ledger.open`. Questions may come from any thread; commits and prunes should come from one.

    `set_aside` counts damaged files that were renamed since the start. `lost_batches` is how many batches the last run
    had committed and the file no longer holds: SQLite drops the tail of a damaged write-ahead log without a word.
    """

    def __init__(self, path: str, maker: _Maker, config: LedgerConfig, lock: LedgerLock | None) -> None:
        super().__init__(ClosedDriver(), path)
        self._maker = maker
        self._config = config
        self._lock = lock
        self._totals = _Totals()
        self._writer: Writer | None = None
        self._write_turn = self._turn if path == MEMORY else threading.RLock()
        self.set_aside = 0
        self.lost_batches = 0

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        agent_version: str,
        config_hash: str,
        boot_id: str,
        clock: Clock,
        config: LedgerConfig,
        connect: Connect = connect,
    ) -> Self:
        """Open the ledger at `path` (`:memory:` for one without a file) and begin an epoch.

        Raises:
            Unavailable: another agent uses it, or a newer inferwatt wrote it.
            LedgerRetry: it cannot be made, read or written now.
        """
        name = str(path)
        lock: LedgerLock | None = None
        try:
            if name != MEMORY:
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                lock = LedgerLock(Path(f"{name}.lock"))
            ledger = cls(name, _Maker(connect, clock, agent_version, config_hash, boot_id), config, lock)
            ledger._start()
        except BaseException as error:
            if lock is not None:
                lock.release()
            if isinstance(error, Trouble | OSError):
                raise retry(error, name, "open") from error
            raise
        return ledger

    @property
    def head(self) -> Head | None:
        """The end of the chain: publish it, and a later `verify(head)` finds a cut tail."""
        return self._writer.head if self._writer else None

    def commit(self, batch: LedgerBatch) -> Committed:
        """Write a batch in one transaction. A request that was booked already is left out, with all its effects.

        Raises:
            LedgerRetry: nothing was written; the same batch may be handed in again, grown if need be.
            ValueError: `batch.hours` holds the request account, which is the ledger's own.
        """
        if any(key.account == REQUEST_ACCOUNT for key in batch.hours):
            raise ValueError(f"hours of the account {REQUEST_ACCOUNT!r} come from the rows")
        with self._writing("write to") as writer:
            committed = writer.commit(batch)
            self._totals.take(batch)
            self._note(writer)
        return committed

    def known(self, producer: str, request: str) -> bool:
        """Tell whether a request is booked. Raises LedgerRetry where that cannot be read."""
        with self._writing("read") as writer:
            return writer.known(RequestKey(producer, request))

    def prune(self, now_unix_ns: int | None = None) -> Pruned:
        """Drop rows and hours beyond their time or size, a short piece at a time: again soon while `more`.

        Raises:
            LedgerRetry: nothing was dropped.
        """
        now_unix_ns = self._maker.clock.unix_ns() if now_unix_ns is None else now_unix_ns
        with self._writing("prune") as writer:
            pruned = writer.prune(self._config, now_unix_ns)
            self._note(writer)
        return pruned

    def size_bytes(self) -> int:
        """Return what the ledger's tables take on disk."""
        with self._asking():
            return used_bytes(self._driver)

    def close(self) -> None:
        """Checkpoint, close, and let another agent in. Closing twice does no harm."""
        with self._write_turn:
            self._detach()
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def _start(self) -> None:
        try:
            self._attach(check=True)
        except Trouble as error:
            if not error.is_corrupt:
                raise
            self._put_aside()
            self._attach(check=True)
        noted = self._lock.noted() if self._lock else None
        if noted is not None and not self.set_aside:
            self.lost_batches = max(noted.batch - (self.head.batch if self.head else 0), 0)
        self._totals = _Totals(
            self.counters(), self.histograms(), {state.device: state for state in self.device_states()}
        )

    def _attach(self, *, check: bool) -> Writer:
        driver = open_file(self._path, self._maker.connect, check=check)
        try:
            writer = self._maker.writer(driver)
            reader = driver if self._path == MEMORY else open_reading(self._path, self._maker.connect)
        except BaseException:
            driver.close()
            raise
        with self._turn:
            self._driver = reader
        self._writer = writer
        return writer

    def _detach(self) -> None:
        with self._turn:
            reader, self._driver = self._driver, ClosedDriver()
        writer, self._writer = self._writer, None
        with suppress(Trouble):
            reader.close()
        if writer is not None:
            with suppress(Trouble):
                writer.close()

    def _put_aside(self) -> None:
        put_aside(self._path, self._maker.clock.unix_ns() // NS_PER_SECOND)
        self.set_aside += 1

    @contextmanager
    def _writing(self, doing: str) -> Iterator[Writer]:
        """Lend the writer to one caller; after trouble, see to it that a later try finds a sound connection."""
        with self._write_turn:
            try:
                yield self._writer or self._attach_again()
            except (Trouble, OSError) as error:
                if isinstance(error, Trouble):
                    self._recover(error)
                raise retry(error, self._path, doing) from error

    def _recover(self, error: Trouble) -> None:
        if error.code in {FULL, BUSY}:
            return
        self._detach()
        if error.is_corrupt:
            with suppress(OSError):
                self._put_aside()

    def _attach_again(self) -> Writer:
        if self._lock is None and self._path != MEMORY:
            raise Trouble(CANNOT_OPEN, "it was closed")
        is_new = not Path(self._path).exists()
        writer = self._attach(check=False)
        if is_new:
            writer.commit(self._totals.batch())
        return writer

    def _note(self, writer: Writer) -> None:
        if self._lock is not None and writer.head is not None:
            self._lock.note(writer.head)
