"""Walk the chain: hash every row that is there again, and say which batch is the first that does not hold."""

import struct
from dataclasses import dataclass

from inferwatt.ledger.chain import GENESIS, broken
from inferwatt.ledger.driver import Driver
from inferwatt.ledger.rows import Batch, BatchKind, Epoch, Head, VerifyResult
from inferwatt.ledger.schema import SELECT_PARTS, SELECT_ROWS, stored_hash

_PAGE_BATCHES = 1000
_BATCHES = (
    "SELECT seq, epoch, kind, first_row, last_row, count, sum_uj, content_hash, prev_hash, hash, unix_ns FROM batch "
)


@dataclass(slots=True)
class _Walk:
    """Where a walk is: the last link that held, the last row added by then, and what it counted."""

    epochs: dict[int, Epoch]
    dropped_through: int
    hash: bytes = GENESIS
    seq: int = 0
    row: int = 0
    rows: int = 0
    reason: str = ""


def verify(driver: Driver, expected: Head | None = None) -> VerifyResult:
    """Walk all links from the first, then ask whether the chain is whole up to `expected`."""
    driver.rows("BEGIN")  # one moment of the ledger, also while the agent goes on
    try:
        walk = _Walk(_epochs(driver), dropped_through(driver))
        while not walk.reason and (page := _page(driver, walk.seq)):
            for batch in page:
                walk.reason = _follow(driver, walk, batch)
                if walk.reason:
                    break
                if expected is not None and batch.seq == expected.batch and batch.hash != expected.hash:
                    walk.reason = "it is not the batch that was published under this number"
                    break
        walk.reason = walk.reason or _loose_ends(driver, walk, expected)
    finally:
        driver.rows("ROLLBACK")
    head = Head(walk.seq, walk.hash) if walk.seq else None
    if not walk.reason:
        return VerifyResult(True, walk.seq, walk.rows, walk.dropped_through, head)
    return VerifyResult(False, walk.seq, walk.rows, walk.dropped_through, head, walk.seq + 1, walk.reason)


def check_end(driver: Driver) -> tuple[Batch | None, int, str]:
    """Return the last link, the last row ever added, and why the end of the chain does not hold (or nothing)."""
    found = driver.rows(_BATCHES + "ORDER BY seq DESC LIMIT 2")
    batches = [Batch(*row) for row in found]
    last_row = driver.rows("SELECT last_row FROM batch WHERE kind = 'rows' ORDER BY seq DESC LIMIT 1")
    walk = _Walk(_epochs(driver), dropped_through(driver), row=last_row[0][0] if last_row else 0)
    if not batches:
        return None, 0, _loose_ends(driver, walk, None)
    before = batches[1] if len(batches) > 1 else None
    walk.hash, walk.seq = (before.hash, before.seq) if before else (GENESIS, 0)
    if batches[0].kind == BatchKind.ROWS:
        walk.row = batches[0].first_row - 1
    reason = _follow(driver, walk, batches[0]) or _loose_ends(driver, walk, None)
    return batches[0], walk.row, reason


def dropped_through(driver: Driver) -> int:
    """Return the last row that retention dropped: a link of the chain says so."""
    found = driver.rows("SELECT last_row FROM batch WHERE kind = 'retention' ORDER BY seq DESC LIMIT 1")
    return int(found[0][0]) if found else 0


def _page(driver: Driver, after: int) -> list[Batch]:
    return [Batch(*row) for row in driver.rows(_BATCHES + "WHERE seq > ? ORDER BY seq LIMIT ?", (after, _PAGE_BATCHES))]


def _epochs(driver: Driver) -> dict[int, Epoch]:
    columns = "id, agent, boot_id, version, config_hash, unix_ns, monotonic_ns"
    return {row[0]: Epoch(*row) for row in driver.rows(f"SELECT {columns} FROM epoch")}


def _follow(driver: Driver, walk: _Walk, batch: Batch) -> str:
    """Take one step, or say why not."""
    if batch.seq != walk.seq + 1:
        return f"batch {walk.seq + 1} is missing"
    reason = broken(batch, walk.epochs.get(batch.epoch), walk.hash, walk.row)
    if not reason and batch.kind == BatchKind.ROWS:
        reason = _content(driver, walk, batch)
    if reason:
        return reason
    walk.seq, walk.hash = batch.seq, batch.hash
    if batch.kind == BatchKind.ROWS:
        walk.row = batch.last_row
    return ""


def _content(driver: Driver, walk: _Walk, batch: Batch) -> str:
    if batch.last_row <= walk.dropped_through:
        return ""
    span = (batch.first_row, batch.last_row)
    rows = driver.rows(SELECT_ROWS + "WHERE r.seq BETWEEN ? AND ? ORDER BY r.seq", span)
    parts = driver.rows(SELECT_PARTS + "WHERE request BETWEEN ? AND ? ORDER BY request, position", span)
    if len(rows) != batch.rows:
        return f"it has {len(rows)} rows where its head counts {batch.rows}"
    try:
        same = stored_hash(rows, parts) == batch.content_hash
    except (TypeError, ValueError, struct.error):  # a column holds another type than was written
        same = False
    if not same:
        return "its rows were changed"
    walk.rows += len(rows)
    return ""


def _loose_ends(driver: Driver, walk: _Walk, expected: Head | None) -> str:
    """Look for rows that no link holds, and for links that are gone from the end."""
    loose = driver.rows(
        "SELECT count(*) FROM (SELECT seq FROM request WHERE seq > ? OR seq <= ? UNION ALL"
        " SELECT request FROM part WHERE request > ? OR request <= ?)",
        (walk.row, walk.dropped_through, walk.row, walk.dropped_through),
    )[0][0]
    if loose:
        return f"{loose} rows belong to no batch"
    if expected is not None and expected.batch > walk.seq:
        return f"the chain ends at batch {walk.seq}, before batch {expected.batch} that was published"
    return ""
