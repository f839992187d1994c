"""What can be asked of a ledger. The agent asks through its own connection, everybody else through a read-only one."""

import json
import threading
from collections import defaultdict
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Self

from inferwatt.errors import LedgerRetry, Unavailable
from inferwatt.ledger.alias import rows_named
from inferwatt.ledger.driver import Connect, Driver, Row, Trouble, Value, connect
from inferwatt.ledger.opening import open_reading
from inferwatt.ledger.rows import (
    REQUEST_ACCOUNT,
    DeviceHourKey,
    DeviceState,
    Head,
    HourKey,
    HourValue,
    ProvenanceSum,
    RequestRow,
    TenantSum,
    VerifyResult,
)
from inferwatt.ledger.schema import SELECT_PARTS, SELECT_ROWS, row_record
from inferwatt.ledger.verify import verify
from inferwatt.snapshot import HistogramValue, Labels
from inferwatt.units import NS_PER_SECOND

_FILTERS = {
    "before": "r.seq < ?",
    "tenant": "w.tenant = ?",
    "model": "w.model = ?",
    "since": "r.end_unix_ns >= ?",
    "first": "r.seq >= ?",
}
_STANDS = "NOT EXISTS (SELECT 1 FROM request c WHERE c.corrects = r.seq)"
_TENANTS = (
    "SELECT tenant, provenance, sum(energy_uj), sum(prefill_uj), sum(split_uj2), sum(systematic_uj), sum(requests),"
    " sum(prompt_tokens), sum(cached_tokens), sum(output_tokens) FROM hour WHERE hour_unix >= ? AND hour_unix < ?"
    " AND account = ? GROUP BY tenant, provenance ORDER BY tenant, provenance"
)
_HOURS = "SELECT * FROM hour WHERE hour_unix >= ? AND hour_unix < ?"
_DEVICE_HOURS = "SELECT * FROM device_hour WHERE hour_unix >= ? AND hour_unix < ?"


class Queries:
    """Questions to one connection; all values are bound, none is ever part of the SQL text."""

    def __init__(self, driver: Driver, path: str) -> None:
        self._driver = driver
        self._path = path
        self._turn = threading.RLock()

    def requests(
        self,
        limit: int,
        *,
        before_seq: int | None = None,
        tenant: str | None = None,
        model: str | None = None,
        since_unix: float | None = None,
    ) -> list[RequestRow]:
        """Return at most `limit` rows, newest first; page on with `before_seq`. `since_unix` bounds the end, seconds.

        Of a request that was corrected only the correction is there.

        A tenant with few rows makes this read far back: give `since_unix`.
        """
        since_ns = None if since_unix is None else int(since_unix * NS_PER_SECOND)
        with self._asking():
            first = None if since_ns is None else _first_row_since(self._driver, since_ns)
            asked = {"before": before_seq, "tenant": tenant, "model": model, "since": since_ns, "first": first}
            wanted = {name: value for name, value in asked.items() if value is not None}
            where = "WHERE " + " AND ".join([_STANDS, *(_FILTERS[name] for name in wanted)])
            order = " ORDER BY r.seq DESC LIMIT ?"
            return self._records(self._driver.rows(SELECT_ROWS + where + order, (*wanted.values(), limit)))

    def find(self, alias: str) -> list[RequestRow]:
        """Return every row with this internal id, response id or trace id, oldest first (corrections among them)."""
        with self._asking():
            seqs = json.dumps(rows_named(self._driver, alias))
            where = "WHERE r.seq IN (SELECT value FROM json_each(?)) ORDER BY r.seq"
            return self._records(self._driver.rows(SELECT_ROWS + where, (seqs,)))

    def tenants(self, since_unix: float, until_unix: float) -> list[TenantSum]:
        """Return each tenant's requests, tokens and joules over the hours that start within the span."""
        found: dict[str, list[Row]] = defaultdict(list)
        for tenant, *sums in self._ask(_TENANTS, (since_unix, until_unix, REQUEST_ACCOUNT)):
            found[tenant].append(tuple(sums))
        return [_tenant_sum(tenant, rows) for tenant, rows in found.items()]

    def hours(self, since_unix: float, until_unix: float) -> dict[HourKey, HourValue]:
        """Return the roll-up of the hours that start within the span."""
        return {HourKey(*row[:7]): HourValue(*row[7:]) for row in self._ask(_HOURS, (since_unix, until_unix))}

    def device_hours(self, since_unix: float, until_unix: float) -> dict[DeviceHourKey, int]:
        """Return the devices' energy, µJ, of the hours that start within the span."""
        return {DeviceHourKey(*row[:4]): row[4] for row in self._ask(_DEVICE_HOURS, (since_unix, until_unix))}

    def counters(self) -> dict[str, dict[Labels, float]]:
        """Return every counter as it was committed last: where a restarted agent goes on."""
        families: dict[str, dict[Labels, float]] = defaultdict(dict)
        for family, labels, value in self._ask("SELECT family, labels, value FROM counter"):
            families[family][tuple(json.loads(labels))] = value
        return dict(families)

    def histograms(self) -> dict[str, dict[Labels, HistogramValue]]:
        """Return every histogram as it was committed last, without exemplars."""
        families: dict[str, dict[Labels, HistogramValue]] = defaultdict(dict)
        for family, labels, counts, total in self._ask("SELECT family, labels, counts, sum FROM histogram"):
            families[family][tuple(json.loads(labels))] = HistogramValue(tuple(json.loads(counts)), total, {})
        return dict(families)

    def device_states(self) -> list[DeviceState]:
        """Return the last counter that was committed of each device."""
        return [DeviceState(*row) for row in self._ask("SELECT * FROM device_state ORDER BY device")]

    def verify(self, expected: Head | None = None) -> VerifyResult:
        """Walk the whole chain and hash all rows that are there again; `expected` is a head kept elsewhere."""
        with self._asking():
            return verify(self._driver, expected)

    def _ask(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        with self._asking():
            return self._driver.rows(sql, values)

    def _records(self, rows: list[Row]) -> list[RequestRow]:
        parts: dict[int, list[Row]] = defaultdict(list)
        seqs = json.dumps([row[0] for row in rows])
        where = "WHERE request IN (SELECT value FROM json_each(?)) ORDER BY request, position"
        for part in self._driver.rows(SELECT_PARTS + where, (seqs,)):
            parts[part[0]].append(part)
        return [row_record(row, parts[row[0]]) for row in rows]

    def _asking(self) -> "_Asking":
        return _Asking(self._turn, self._path)


class _Asking:
    """One question at a time; SQLite's trouble is put into words."""

    def __init__(self, turn: threading.RLock, path: str) -> None:
        self._turn = turn
        self._path = path

    def __enter__(self) -> None:
        self._turn.acquire()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._turn.release()
        if isinstance(error, Trouble):
            raise LedgerRetry(
                f"cannot read the ledger: {error}", where=self._path, fix="look at the disk; try again"
            ) from error


class LedgerReader(Queries):
    """A read-only connection for any thread or process: it can neither write nor checkpoint."""

    @classmethod
    def open(cls, path: str | Path, *, connect: Connect = connect) -> Self:
        """Open an existing ledger for reading.

        Raises:
            Unavailable: there is none, or it cannot be read.
        """
        try:
            if not Path(path).is_file():
                raise Unavailable("there is no ledger yet", where=path, fix="start one: inferwatt agent")
            driver = open_reading(str(path), connect)
        except (OSError, Trouble) as error:
            raise Unavailable(f"cannot read the ledger: {error}", where=path, fix="see that you may read it") from error
        return cls(driver, str(path))

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            self._driver.close()


def first_batch_since(driver: Driver, unix_ns: int) -> int:
    """Return the first batch committed at `unix_ns` or later, by bisection (heads are never dropped)."""
    found = driver.rows("SELECT max(seq) FROM batch")
    low, high = 1, (found[0][0] or 0) + 1
    while low < high:
        middle = (low + high) // 2
        if driver.rows("SELECT unix_ns FROM batch WHERE seq = ?", (middle,))[0][0] < unix_ns:
            low = middle + 1
        else:
            high = middle
    return low


def _first_row_since(driver: Driver, unix_ns: int) -> int:
    batch = first_batch_since(driver, unix_ns)
    found = driver.rows(
        "SELECT last_row FROM batch WHERE seq < ? AND kind = 'rows' ORDER BY seq DESC LIMIT 1", (batch,)
    )
    return found[0][0] + 1 if found else 0


def _tenant_sum(tenant: str, rows: list[Row]) -> TenantSum:
    energies = tuple(ProvenanceSum(row[0], row[1], row[2], sqrt(max(row[3], 0.0)), row[4]) for row in rows if row[0])
    requests, prompt, cached, output = (sum(row[place] for row in rows) for place in range(5, 9))
    return TenantSum(tenant, requests, prompt, cached, output, energies)
