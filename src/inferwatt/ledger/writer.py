"""Write batches into an open ledger: what is new, its link in the chain, the roll-ups and the totals, in one go."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

from inferwatt.clock import Clock
from inferwatt.ledger.alias import Aliases, Key, keys_of
from inferwatt.ledger.chain import GENESIS, content_hash, link_hash
from inferwatt.ledger.driver import Driver, Trouble
from inferwatt.ledger.opening import transaction
from inferwatt.ledger.retention import NS_PER_DAY, LedgerConfig, drop_hours, drop_rows, rows_to_drop
from inferwatt.ledger.rows import (
    Batch,
    BatchKind,
    Committed,
    Epoch,
    Head,
    LedgerBatch,
    Pruned,
    RequestKey,
    RequestRow,
)
from inferwatt.ledger.schema import (
    ADD_DEVICE_HOUR,
    ADD_HOUR,
    INSERT_BATCH,
    INSERT_FIT,
    INSERT_PART,
    INSERT_REQUEST,
    INSERT_WHO,
    SELECT_FIT,
    SELECT_PARTS,
    SELECT_ROWS,
    SELECT_WHO,
    SET_COUNTER,
    SET_DEVICE_STATE,
    SET_HISTOGRAM,
    Encoded,
    HourSums,
    encode,
    labels_text,
    roll_up,
    row_record,
)
from inferwatt.ledger.verify import check_end

_NUMBERS_CACHED = 4096

_Numbers = dict[tuple[str, ...], int]


@dataclass(slots=True)
class _Sorted:
    """A batch's rows, told apart: to be written, booked already, cannot be stored; `replaced` are corrected by some."""

    rows: list[RequestRow]
    keys: list[Key]
    duplicates: list[Key]
    rejected: list[Key]
    replaced: list[RequestRow]


class Writer:
    """The one connection that writes. What it remembers changes only after a commit."""

    def __init__(self, driver: Driver, clock: Clock, agent_version: str, config_hash: str, boot_id: str) -> None:
        self._driver = driver
        self._clock = clock
        last, self._last_row, _ = check_end(driver)
        self.head = Head(last.seq, last.hash) if last else None
        self._aliases = Aliases(driver)
        self._who: _Numbers = {}
        self._fit: _Numbers = {}
        self._epoch = self._begin_epoch(agent_version, config_hash, boot_id)

    def known(self, key: RequestKey) -> bool:
        """Tell whether a request was booked already."""
        return key in self._aliases

    def commit(self, batch: LedgerBatch) -> Committed:
        """Write everything in one transaction, or nothing (Trouble)."""
        link: Batch | None = None
        try:
            with transaction(self._driver):
                told = self._tell_apart(batch.rows)
                sums, encoded = self._prepare(told)
                if encoded is not None:
                    link = self._write_rows(told.rows, encoded)
                self._write_totals(batch, sums)
        except BaseException:
            self._who.clear()
            self._fit.clear()
            raise
        if link is not None:
            self._took(link, link.last_row)
            self._aliases.remember(told.keys, told.rows, link.first_row)
            self._merge_aliases()
        seq = link.seq if link else None
        return Committed(seq, len(told.rows), _keys(told.duplicates), _keys(told.rejected))

    def prune(self, config: LedgerConfig, now_unix_ns: int) -> Pruned:
        """Drop what is too old or too much, a short piece at a time; a link of the chain says which rows went."""
        link: Batch | None = None
        with transaction(self._driver):
            hours = drop_hours(self._driver, now_unix_ns - config.hour_retention_days * NS_PER_DAY)
            span = rows_to_drop(self._driver, config, now_unix_ns)
            if span is not None:
                count, sum_uj = drop_rows(self._driver, *span)
                link = self._link(BatchKind.RETENTION, *span, count, sum_uj, content_hash(b""))
        if link is None:
            return Pruned(0, hours, more=False)
        self._took(link, self._last_row)
        self._aliases.dropped(link.last_row)
        return Pruned(link.rows, hours, more=True)

    def close(self) -> None:
        """Close the connection: SQLite checkpoints."""
        self._driver.close()

    def _begin_epoch(self, agent_version: str, config_hash: str, boot_id: str) -> Epoch:
        agent = self._driver.rows("SELECT value FROM meta WHERE key = 'agent'")[0][0]
        last = self._driver.rows("SELECT coalesce(max(id), 0) FROM epoch")[0][0]
        times = (self._clock.unix_ns(), self._clock.monotonic_ns())
        epoch = Epoch(last + 1, agent, boot_id, agent_version, config_hash, *times)
        with transaction(self._driver):
            self._driver.rows("INSERT INTO epoch VALUES(?, ?, ?, ?, ?, ?, ?)", epoch)
        return epoch

    # Which rows are new.

    def _tell_apart(self, rows: Sequence[RequestRow]) -> _Sorted:
        keys = keys_of(rows)
        repeated = self._aliases.repeated(keys) if keys else set()
        told = _Sorted(list(rows), keys, [], [], [])
        if repeated or len(set(keys)) < len(keys) or any(row.corrects is not None for row in rows):
            told.rows, told.keys = [], []
            for key, row in zip(keys, rows, strict=True):
                if row.corrects is not None:
                    self._tell_correction(told, key, row)
                elif key in repeated:
                    told.duplicates.append(key)
                else:
                    repeated.add(key)
                    told.rows.append(row)
                    told.keys.append(key)
        return told

    def _tell_correction(self, told: _Sorted, key: Key, row: RequestRow) -> None:
        done = any(row.corrects == other.corrects for other in told.rows)
        if done or self._driver.rows("SELECT 1 FROM request WHERE corrects = ?", (row.corrects,)):
            told.duplicates.append(key)
            return
        found = self._driver.rows(SELECT_ROWS + "WHERE r.seq = ?", (row.corrects,))
        if not found or not _is_storable(row):
            told.rejected.append(key)
            return
        parts = self._driver.rows(SELECT_PARTS + "WHERE request = ? ORDER BY position", (row.corrects,))
        told.replaced.append(row_record(found[0], parts))
        told.rows.append(row)
        told.keys.append(key)

    def _prepare(self, told: _Sorted) -> tuple[HourSums, Encoded | None]:
        """Roll up and encode; rows that cannot be stored are taken out first, so that they do not block the others."""
        try:
            return self._try_prepare(told)
        except (ValueError, OverflowError, struct.error):
            storable = [_is_storable(row) for row in told.rows]
            pairs = list(zip(told.rows, told.keys, storable, strict=True))
            told.rejected += [key for _, key, can in pairs if not can]
            told.rows = [row for row, _, can in pairs if can]
            told.keys = [key for _, key, can in pairs if can]
            return self._try_prepare(told)

    def _try_prepare(self, told: _Sorted) -> tuple[HourSums, Encoded | None]:
        sums: HourSums = {}
        for row in told.rows:
            roll_up(sums, row)
        for row in told.replaced:
            roll_up(sums, row, -1)
        seq = self.head.batch + 1 if self.head else 1
        return sums, encode(told.rows, self._last_row + 1, seq) if told.rows else None

    # Writing.

    def _write_rows(self, rows: Sequence[RequestRow], encoded: Encoded) -> Batch:
        first, last = self._last_row + 1, self._last_row + len(rows)
        link = self._link(BatchKind.ROWS, first, last, len(rows), encoded.sum_uj, encoded.content_hash)
        whos = self._numbers(self._who, encoded.whos, INSERT_WHO, SELECT_WHO)
        fits = self._numbers(self._fit, encoded.fits, INSERT_FIT, SELECT_FIT)
        columns = (range(first, last + 1), repeat(link.seq, len(rows)), whos, fits, *encoded.texts, *encoded.ints)
        self._driver.many(INSERT_REQUEST, zip(*columns, strict=True))
        self._driver.many(INSERT_PART, encoded.parts)
        return link

    def _link(self, kind: BatchKind, first: int, last: int, count: int, sum_uj: int, content: bytes) -> Batch:
        seq, prev = (self.head.batch + 1, self.head.hash) if self.head else (1, GENESIS)
        times = self._clock.unix_ns()
        open_link = Batch(seq, self._epoch.id, kind.value, first, last, count, sum_uj, content, prev, b"", times)
        link = open_link._replace(hash=link_hash(open_link, self._epoch))
        self._driver.rows(INSERT_BATCH, link)
        return link

    def _numbers(self, cache: _Numbers, texts: list[tuple[str, ...]], insert: str, select: str) -> list[int]:
        """Return the numbers of texts that are stored once, those that are new among them."""
        if len(cache) > _NUMBERS_CACHED:
            cache.clear()
        missing = {text for text in texts if text not in cache}
        for text in sorted(missing):
            self._driver.rows(insert, text)
            cache[text] = self._driver.rows(select, text)[0][0]
        return [cache[text] for text in texts]

    def _write_totals(self, batch: LedgerBatch, sums: HourSums) -> None:
        write = self._driver.many
        write(ADD_HOUR, ((*key, *values) for key, values in sorted(sums.items())))
        write(ADD_HOUR, ((*key, *values) for key, values in batch.hours.items()))
        write(ADD_DEVICE_HOUR, ((*key, energy_uj) for key, energy_uj in batch.device_hours.items()))
        write(SET_COUNTER, (
            (family, labels_text(labels), value)
            for family, series in batch.counters.items() for labels, value in series.items()
        ))  # fmt: skip
        write(SET_HISTOGRAM, (
            (family, labels_text(labels), labels_text(value.counts), value.sum)
            for family, series in batch.histograms.items() for labels, value in series.items()
        ))  # fmt: skip
        write(SET_DEVICE_STATE, (
            (state.device, state.boot_id, state.counter_uj, state.t_ns, state.wraps_at_uj)
            for state in batch.device_states
        ))  # fmt: skip
        if batch.clock_pair is not None:
            pair = batch.clock_pair
            values = (self._epoch.id, pair.monotonic_ns, pair.unix_ns, pair.note)
            self._driver.rows("INSERT INTO clock VALUES(?, ?, ?, ?)", values)

    # After a commit.

    def _took(self, link: Batch, last_row: int) -> None:
        self.head = Head(link.seq, link.hash)
        self._last_row = last_row

    def _merge_aliases(self) -> None:
        """Index the newest rows once there are enough; what fails is tried again with the next commit."""
        if not self._aliases.is_full:
            return
        try:
            with transaction(self._driver):
                self._aliases.merge(self._last_row)
        except Trouble:
            return
        self._aliases.merged(self._last_row)


def _keys(keys: list[Key]) -> tuple[RequestKey, ...]:
    return tuple(RequestKey(*key) for key in keys)


def _is_storable(row: RequestRow) -> bool:
    try:
        roll_up({}, row)
        encode([row], 1, 1)
    except (ValueError, OverflowError, struct.error):
        return False
    return True
