"""What a request is called (internal id, response id, trace id), found again; and which requests were booked already.

Ids are random, so an ordinary index dirties a page per row and id: 6 to 8 µs each, more than all else together
(measured: 45,000 rows per core-second with three indexes, 300,000 without). So the newest rows are remembered in
memory, and go into the index sorted, 16,384 rows at a time. The index holds CRC-32s; each hit is compared with its row.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Final
from zlib import crc32

from inferwatt.ledger.driver import Driver
from inferwatt.ledger.rows import RequestKey, RequestRow

TAIL_ROWS: Final = 16_384
"""About 3 MB of memory, and 0.1 s every 16,384 rows."""

_NAMES = "SELECT seq, request, response_id, trace_id FROM request WHERE seq > ? AND seq <= ?"


class Aliases:
    """The index, and the rows that are not in it yet. It holds what was committed, never more."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._indexed = indexed_through(driver)
        self._tail = self._read_tail()

    def __contains__(self, key: RequestKey) -> bool:
        """Tell whether a request was booked already."""
        if key in self._tail:
            return True
        return self._indexed > 0 and self._is_indexed(key)

    def repeated(self, keys: Sequence[RequestKey]) -> set[RequestKey]:
        """Return those of `keys` that were booked already."""
        found = {key for key in keys if key in self._tail}
        if self._indexed > 0:
            crcs = [crc32(key.request.encode(errors="replace")) for key in keys]
            hits = self._driver.rows(
                "SELECT key FROM alias WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(crcs),)
            )
            suspects = {crc for (crc,) in hits}
            found |= {key for key, crc in zip(keys, crcs, strict=True) if crc in suspects and self._is_indexed(key)}
        return found

    def remember(self, keys: Iterable[RequestKey]) -> None:
        """Take in what was committed; call `merge` once the tail `is_full`."""
        self._tail.update(keys)

    @property
    def is_full(self) -> bool:
        """Whether it is time to merge."""
        return len(self._tail) >= TAIL_ROWS

    def merge(self, last_row: int) -> None:
        """Write the tail up to `last_row` into the index, inside the caller's transaction; then call `merged`."""
        entries = sorted(names(self._driver, self._indexed, last_row))
        self._driver.many("INSERT OR IGNORE INTO alias VALUES(?, ?)", entries)
        self._driver.rows("INSERT OR REPLACE INTO meta VALUES('indexed', ?)", (str(last_row),))

    def merged(self, last_row: int) -> None:
        """Forget the tail once its index is committed."""
        self._indexed = last_row
        self._tail.clear()

    def dropped(self, last_row: int) -> None:
        """Forget the rows up to `last_row` that retention dropped."""
        if last_row > self._indexed:
            self._tail = self._read_tail()

    def _read_tail(self) -> set[tuple[str, str]]:
        tail = "SELECT w.producer, r.request FROM request r JOIN who w ON w.id = r.who WHERE r.seq > ?"
        return {(producer, request) for producer, request in self._driver.rows(tail, (self._indexed,))}

    def _is_indexed(self, key: RequestKey) -> bool:
        return bool(
            self._driver.rows(
                "SELECT 1 FROM alias a JOIN request r ON r.seq = a.request JOIN who w ON w.id = r.who"
                " WHERE a.key = ? AND r.request = ? AND w.producer = ? LIMIT 1",
                (crc32(key.request.encode(errors="replace")), key.request, key.producer),
            )
        )


def indexed_through(driver: Driver) -> int:
    """Return the last row that the index holds."""
    found = driver.rows("SELECT value FROM meta WHERE key = 'indexed'")
    return int(found[0][0]) if found else 0


def names(driver: Driver, after_row: int, last_row: int) -> set[tuple[int, int]]:
    """Return the index entries of a range of rows."""
    return {
        (crc32(name.encode()), seq)
        for seq, *aliases in driver.rows(_NAMES, (after_row, last_row))
        for name in aliases
        if name
    }


def rows_named(driver: Driver, alias: str) -> list[int]:
    """Return the numbers of all rows with this internal id, response id or trace id."""
    is_it = "? IN (r.request, r.response_id, r.trace_id)"
    found = driver.rows(
        f"SELECT r.seq FROM alias a JOIN request r ON r.seq = a.request WHERE a.key = ? AND {is_it}"
        f" UNION SELECT r.seq FROM request r WHERE r.seq > ? AND {is_it}",
        (crc32(alias.encode(errors="replace")), alias, indexed_through(driver), alias),
    )
    return sorted(seq for (seq,) in found)


def keys_of(rows: Iterable[RequestRow]) -> list[RequestKey]:
    """Return what names each request for good."""
    return [RequestKey(row.request.producer, row.request.request) for row in rows]
