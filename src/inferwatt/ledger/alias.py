"""What a request is called (internal id, response id, trace id), found again; and which requests were booked already.

Ids are random, so an ordinary index dirties a page per row and id: 6 to 8 µs each, more than all else together
(measured: 45,000 rows per core-second with three indexes, 300,000 without). So the newest rows are remembered in
memory, and go into the index sorted, 16,384 rows at a time. The index holds CRC-32s; each hit is compared with its row.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final
from zlib import crc32

from inferwatt.ledger.driver import Driver
from inferwatt.ledger.rows import RequestRow

TAIL_ROWS: Final = 16_384
"""About 4 MB of memory, and 0.1 s every 16,384 rows."""

Key = tuple[str, str]
"""The values of a `RequestKey`: producer, internal id."""

_SEQ_BITS = 40
_SEQ_MASK = (1 << _SEQ_BITS) - 1
_KEY = attrgetter("request.producer", "request.request")
_NAMES = attrgetter("request.request", "request.response_id", "request.trace_id")
_STORED_NAMES = "SELECT seq, request, response_id, trace_id FROM request WHERE seq > ? AND seq <= ?"


class Aliases:
    """The index, and the rows that are not in it yet. It holds what was committed, never more."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._indexed = indexed_through(driver)
        self._read_tail()

    def __contains__(self, key: Key) -> bool:
        """Tell whether a request was booked already."""
        return key in self._tail or (self._indexed > 0 and self._is_indexed(key))

    def repeated(self, keys: Sequence[Key]) -> set[Key]:
        """Return those of `keys` that were booked already."""
        found = self._tail.intersection(keys)
        if self._indexed > 0:
            crcs = [_crc(request) for _, request in keys]
            hits = self._driver.rows(
                "SELECT key FROM alias WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(crcs),)
            )
            suspects = {crc for (crc,) in hits}
            if suspects:
                pairs = zip(keys, crcs, strict=True)
                found |= {key for key, crc in pairs if crc in suspects and self._is_indexed(key)}
        return found

    def remember(self, keys: Iterable[Key], rows: Iterable[RequestRow], first_row: int) -> None:
        """Take in what was committed; call `merge` once the tail `is_full`."""
        self._tail.update(keys)
        self._entries.extend(_entries((seq, *names) for seq, names in enumerate(map(_NAMES, rows), first_row)))

    @property
    def is_full(self) -> bool:
        """Whether it is time to merge."""
        return len(self._tail) >= TAIL_ROWS

    def merge(self, last_row: int) -> None:
        """Write the tail, which ends at `last_row`, into the index, in the caller's transaction; then `merged`."""
        self._driver.many("INSERT OR IGNORE INTO alias VALUES(?, ?)", unpacked(self._entries))
        self._driver.rows("INSERT OR REPLACE INTO meta VALUES('indexed', ?)", (str(last_row),))

    def merged(self, last_row: int) -> None:
        """Forget the tail once its index is committed."""
        self._indexed = last_row
        self._tail.clear()
        self._entries.clear()

    def dropped(self, last_row: int) -> None:
        """Forget the rows up to `last_row` that retention dropped."""
        if last_row > self._indexed:
            self._read_tail()

    def _read_tail(self) -> None:
        tail = "SELECT w.producer, r.request FROM request r JOIN who w ON w.id = r.who WHERE r.seq > ?"
        self._tail: set[Key] = {(producer, request) for producer, request in self._driver.rows(tail, (self._indexed,))}
        self._entries = entries_between(self._driver, self._indexed, _SEQ_MASK)

    def _is_indexed(self, key: Key) -> bool:
        producer, request = key
        return bool(
            self._driver.rows(
                "SELECT 1 FROM alias a JOIN request r ON r.seq = a.request JOIN who w ON w.id = r.who"
                " WHERE a.key = ? AND r.request = ? AND w.producer = ? LIMIT 1",
                (_crc(request), request, producer),
            )
        )


def indexed_through(driver: Driver) -> int:
    """Return the last row that the index holds."""
    found = driver.rows("SELECT value FROM meta WHERE key = 'indexed'")
    return int(found[0][0]) if found else 0


def entries_between(driver: Driver, after_row: int, last_row: int) -> list[int]:
    """Return the index entries, packed, of the rows in the ledger after `after_row`, up to `last_row`."""
    return list(_entries(driver.rows(_STORED_NAMES, (after_row, last_row))))


def unpacked(entries: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Return entries in the index's order, as (key, row): neighbours share their pages."""
    return ((entry >> _SEQ_BITS, entry & _SEQ_MASK) for entry in sorted(entries))


def rows_named(driver: Driver, alias: str) -> list[int]:
    """Return the numbers of all rows with this internal id, response id or trace id."""
    is_it = "? IN (r.request, r.response_id, r.trace_id)"
    found = driver.rows(
        f"SELECT r.seq FROM alias a JOIN request r ON r.seq = a.request WHERE a.key = ? AND {is_it}"
        f" UNION SELECT r.seq FROM request r WHERE r.seq > ? AND {is_it}",
        (_crc(alias), alias, indexed_through(driver), alias),
    )
    return sorted(seq for (seq,) in found)


def keys_of(rows: Iterable[RequestRow]) -> list[Key]:
    """Return what names each request for good."""
    return list(map(_KEY, rows))


def _entries(named: Iterable[tuple[int, str, str, str]]) -> Iterator[int]:
    """Pack (CRC, row) into one integer each: a third of a tuple's memory, and faster to sort."""
    for seq, request, response_id, trace_id in named:
        if request:
            yield crc32(request.encode()) << _SEQ_BITS | seq
        if response_id and response_id != request:
            yield crc32(response_id.encode()) << _SEQ_BITS | seq
        if trace_id:
            yield crc32(trace_id.encode()) << _SEQ_BITS | seq


def _crc(name: str) -> int:
    return crc32(name.encode(errors="replace"))
