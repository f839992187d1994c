"""What the ledger keeps, and for how long. Whole batches lose their rows, oldest first; their heads stay for ever.

Pages that become free are used again: the file does not shrink, but it does not grow beyond `max_megabytes` either,
except by heads (150 bytes a batch) and hourly sums.
"""

from typing import Final

import msgspec

from inferwatt.ledger.alias import entries_between, unpacked
from inferwatt.ledger.driver import Driver
from inferwatt.ledger.queries import first_batch_since
from inferwatt.ledger.verify import dropped_through
from inferwatt.units import NS_PER_SECOND

NS_PER_DAY: Final = 86_400 * NS_PER_SECOND
PIECE_ROWS: Final = 10_000
"""What one call drops: about 0.1 s, so that the agent's loop goes on."""
_BYTES_PER_MEGABYTE = 1_000_000

_LAST_ROW_BEFORE = "SELECT last_row FROM batch WHERE seq < ? AND kind = 'rows' ORDER BY seq DESC LIMIT 1"


class LedgerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `ledger`: an empty `path` is the state folder's `ledger.sqlite`."""

    enabled: bool = True
    path: str = ""
    retention_days: int = 90
    max_megabytes: int = 1024
    hour_retention_days: int = 1100


def rows_to_drop(driver: Driver, config: LedgerConfig, now_unix_ns: int) -> tuple[int, int] | None:
    """Return the first and last row of the oldest batches that are too old, or too much, if there are any."""
    first = dropped_through(driver) + 1
    old = _last_row_before(driver, first_batch_since(driver, now_unix_ns - config.retention_days * NS_PER_DAY))
    piece = _piece_end(driver, first)
    is_full = used_bytes(driver) > config.max_megabytes * _BYTES_PER_MEGABYTE
    last = piece if is_full else min(old, piece)
    return (first, last) if last >= first else None


def drop_rows(driver: Driver, first_row: int, last_row: int) -> tuple[int, int]:
    """Drop a span of rows through the gate, inside the caller's transaction; return their number and energy, µJ."""
    span = (first_row, last_row)
    entries = entries_between(driver, first_row - 1, last_row)
    driver.many("DELETE FROM alias WHERE key = ? AND request = ?", unpacked(entries))
    count = driver.rows("SELECT count(*) FROM request WHERE seq BETWEEN ? AND ?", span)[0][0]
    sums = "SELECT coalesce(sum(prefill_uj + decode_uj), 0) FROM part WHERE request BETWEEN ? AND ?"
    sum_uj = driver.rows(sums, span)[0][0]
    driver.rows("UPDATE gate SET through = ?", (last_row,))
    driver.rows("DELETE FROM part WHERE request BETWEEN ? AND ?", span)
    driver.rows("DELETE FROM request WHERE seq BETWEEN ? AND ?", span)
    driver.rows("UPDATE gate SET through = 0")
    return count, sum_uj


def drop_hours(driver: Driver, before_unix_ns: int) -> int:
    """Drop hourly sums and clock pairs from before a moment, inside the caller's transaction; return how many hours."""
    before_unix = before_unix_ns // NS_PER_SECOND
    count = driver.rows("SELECT count(*) FROM hour WHERE hour_unix < ?", (before_unix,))[0][0]
    if count:
        driver.rows("DELETE FROM hour WHERE hour_unix < ?", (before_unix,))
    driver.rows("DELETE FROM device_hour WHERE hour_unix < ?", (before_unix,))
    driver.rows("DELETE FROM clock WHERE unix_ns < ?", (before_unix_ns,))
    return int(count)


def used_bytes(driver: Driver) -> int:
    """Return what the ledger's tables take, without pages that are free to be used again."""
    pages = driver.rows("SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count")[0][0]
    return int(pages * driver.rows("PRAGMA page_size")[0][0])


def _piece_end(driver: Driver, first_row: int) -> int:
    """Return the end of the last whole batch within a piece, or of the first batch where that is longer."""
    found = driver.rows("SELECT batch FROM request WHERE seq >= ? ORDER BY seq LIMIT 1", (first_row + PIECE_ROWS,))
    if not found:
        last = driver.rows("SELECT last_row FROM batch WHERE kind = 'rows' ORDER BY seq DESC LIMIT 1")
        return int(last[0][0]) if last else 0
    last_row = _last_row_before(driver, found[0][0])
    return last_row if last_row >= first_row else _last_row_before(driver, found[0][0] + 1)


def _last_row_before(driver: Driver, batch: int) -> int:
    found = driver.rows(_LAST_ROW_BEFORE, (batch,))
    return int(found[0][0]) if found else 0
