from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.ledger.chain import content_bytes, link_hash
from inferwatt.ledger.queries import LedgerReader
from inferwatt.ledger.retention import LedgerConfig
from inferwatt.ledger.rows import Batch, Epoch, Head
from inferwatt.ledger.sqlite import Ledger
from inferwatt.testing import FakeClock, memory_ledger
from tests.ledger.books import batch, open_ledger, row, sql

columns = st.lists(st.lists(st.text(max_size=4), min_size=2, max_size=2), min_size=1, max_size=3)

FORGERIES = {
    "a token": ("UPDATE request SET output_tokens = output_tokens + 1 WHERE seq = 6", 2, "rows were changed"),
    "an absent number": ("UPDATE request SET wasted_tokens = NULL WHERE seq = 6", 2, "rows were changed"),
    "a microjoule": ("UPDATE part SET decode_uj = decode_uj - 1 WHERE request = 6", 2, "rows were changed"),
    "a bound": ("UPDATE part SET systematic_ppm = 1 WHERE request = 6", 2, "rows were changed"),
    "a type": ("UPDATE request SET request = x'00ff' WHERE seq = 6", 2, "rows were changed"),
    "a real": ("UPDATE part SET decode_uj = 900.5 WHERE request = 6", 2, "rows were changed"),
    "a tenant": ("UPDATE who SET tenant = 'rival'", 1, "rows were changed"),
    "a pod": ("UPDATE who SET pod = 'chat-1'", 1, "rows were changed"),
    "a fit": ("UPDATE fit SET fit = 'm/8'", 1, "rows were changed"),
    "a removed fit": ("DELETE FROM fit", 1, "has 0 rows"),
    "a unit of work": ("UPDATE request SET units = '{\"images\":3}' WHERE seq = 6", 2, "rows were changed"),
    "a version": ("UPDATE epoch SET version = '2'", 1, "head was changed"),
    "an epoch": ("DELETE FROM epoch", 1, "epoch 1 is missing"),
    "a removed row": ("DELETE FROM request WHERE seq = 6", 2, "has 4 rows"),
    "a removed part": ("DELETE FROM part WHERE request = 6", 2, "rows were changed"),
    "an added part": (
        "INSERT INTO part SELECT request, 7, component, provenance, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0 FROM part"
        " WHERE request = 6", 2, "rows were changed",
    ),
    "an added row": ("INSERT INTO request(seq, batch, who, fit, request, response_id, trace_id, outcome, ending, tier,"
                     " units) VALUES(99, 3, 1, 1, 'x', '', '', '', '', '', '')", 4, "belong to no batch"),
    "a head": ("UPDATE batch SET sum_uj = sum_uj + 1 WHERE seq = 2", 2, "head was changed"),
    "a time": ("UPDATE batch SET unix_ns = 0 WHERE seq = 2", 2, "head was changed"),
    "a link": ("UPDATE batch SET hash = zeroblob(32) WHERE seq = 2", 2, "head was changed"),
    "a removed head": ("DELETE FROM batch WHERE seq = 2", 2, "batch 2 is missing"),
    "a moved row": ("UPDATE request SET batch = 1 WHERE seq = 6", 2, "rows were changed"),
    "a removed start": ("DELETE FROM batch WHERE seq = 1", 1, "batch 1 is missing"),
}  # fmt: skip


def three_batches(path: Path) -> Head:
    """Make a ledger of three batches of five rows; return its head."""
    ledger = open_ledger(path)
    for first in (0, 5, 10):
        ledger.commit(batch(*range(first, first + 5)))
    assert ledger.head is not None
    head = ledger.head
    ledger.close()
    return head


def forge(path: Path, statement: str) -> None:
    """Do what a forger does: drop the triggers, change, put them back."""
    triggers = sql(path, "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    for name, _ in triggers:
        sql(path, f"DROP TRIGGER {name}")
    sql(path, statement)
    for _, text in triggers:
        sql(path, text)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_batch_is_found_and_named(tmp_path: Path, forgery: str) -> None:
    """Whatever is changed, removed or added, the walk names the first batch that does not hold."""
    statement, number, reason = FORGERIES[forgery]
    head = three_batches(tmp_path / "l")
    forge(tmp_path / "l", statement)
    result = LedgerReader.open(tmp_path / "l").verify(head)

    assert not result.ok
    assert (result.broken_batch, reason in result.reason) == (number, True), result.reason


def test_a_batch_that_was_written_anew_breaks_the_next(tmp_path: Path) -> None:
    """A forger who also makes the batch's own hash anew is found by the batch after it."""
    three_batches(tmp_path / "l")
    first = Batch(*sql(tmp_path / "l", "SELECT * FROM batch WHERE seq = 1")[0])
    epoch = Epoch(*sql(tmp_path / "l", "SELECT * FROM epoch")[0])
    anew = link_hash(first._replace(unix_ns=7), epoch).hex()
    forge(tmp_path / "l", f"UPDATE batch SET unix_ns = 7, hash = x'{anew}' WHERE seq = 1")
    result = LedgerReader.open(tmp_path / "l").verify()

    assert (result.broken_batch, "does not name the hash" in result.reason) == (2, True)


def test_a_sound_chain_holds(tmp_path: Path) -> None:
    """Nothing was done to it: every batch and row is counted."""
    head = three_batches(tmp_path / "l")
    result = LedgerReader.open(tmp_path / "l").verify(head)

    assert (result.ok, result.batches, result.rows, result.head) == (True, 3, 15, head)


def test_a_cut_tail_is_found_by_who_knows_the_head(tmp_path: Path) -> None:
    """A tail that was cut cleanly leaves a sound chain; the published head tells."""
    head = three_batches(tmp_path / "l")
    for statement in (
        "DELETE FROM part WHERE request > 10", "DELETE FROM request WHERE seq > 10", "DELETE FROM batch WHERE seq = 3",
    ):  # fmt: skip
        forge(tmp_path / "l", statement)
    reader = LedgerReader.open(tmp_path / "l")

    assert reader.verify().ok
    assert "ends at batch 2, before batch 3" in reader.verify(head).reason


def test_a_chain_built_anew_is_found_by_who_knows_the_head(tmp_path: Path) -> None:
    """Who owns the file can write another sound chain; its head is not the one that was published."""
    head = three_batches(tmp_path / "l")
    other = open_ledger(tmp_path / "other")
    for first in (0, 5, 10):
        other.commit(batch(*range(first, first + 5), energy_uj=1))

    assert other.verify().ok
    assert "not the batch that was published" in other.verify(head).reason


@given(columns, columns)
def test_columns_have_one_reading(first: list[list[str]], second: list[list[str]]) -> None:
    """Different columns never have the same bytes."""
    assert (first == second) == (content_bytes(first, []) == content_bytes(second, []))


def aged(days: int, config: LedgerConfig) -> tuple[Ledger, FakeClock]:
    """Return a ledger with ten rows a day."""
    clock = FakeClock()
    ledger = memory_ledger(clock, config)
    for day in range(days):
        rows = batch(*range(10 * day, 10 * day + 10), unix=clock.unix_ns() / 1e9)
        ledger.commit(rows)
        clock.advance(86_400 * 10**9)
    return ledger, clock


def test_retention_by_age_keeps_heads_and_the_chain_holds() -> None:
    """Rows older than their days go, with the names that led to them; heads and hours stay; verify still holds."""
    ledger, _ = aged(10, LedgerConfig(retention_days=3))
    before = ledger.head
    pruned = ledger.prune()
    result = ledger.verify(before)

    assert (pruned.rows, pruned.more, ledger.prune().rows) == (70, True, 0)
    assert (result.ok, result.batches, result.rows, result.dropped_rows) == (True, 11, 30, 70)
    assert len(ledger.requests(200)) == 30
    assert (ledger.find("r5"), ledger.known("p", "r5"), ledger.known("p", "r95")) == ([], False, True)
    assert sum(tenant.requests for tenant in ledger.tenants(0, 1e12)) == 100
    assert ledger.commit(batch(1000)).rows == 1
    assert ledger.verify().ok


def test_hours_go_after_a_longer_time() -> None:
    """Roll-ups have an age of their own."""
    ledger, _ = aged(10, LedgerConfig(retention_days=3, hour_retention_days=5))

    assert ledger.prune().hours == 5
    assert sum(tenant.requests for tenant in ledger.tenants(0, 1e12)) == 50


def test_retention_by_size_drops_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its megabytes a ledger drops whole batches, oldest first, a piece at a time, until it fits."""
    monkeypatch.setattr("inferwatt.ledger.retention.PIECE_ROWS", 700)
    ledger = memory_ledger(FakeClock(), LedgerConfig(max_megabytes=1))
    for first in range(0, 8000, 250):
        ledger.commit(batch(*range(first, first + 250)))
    pieces = []
    while (pruned := ledger.prune()).more:
        pieces.append(pruned.rows)
    left = ledger.requests(9999)

    assert set(pieces) == {500}
    assert ledger.size_bytes() <= 1_000_000
    assert [one.seq for one in left] == list(range(8000, sum(pieces), -1))
    assert ledger.verify().ok


def test_a_dropped_row_cannot_be_feigned(tmp_path: Path) -> None:
    """Rows that are gone without a link that says so break the chain, whatever the gate says."""
    three_batches(tmp_path / "l")
    for statement in ("UPDATE gate SET through = 5", "DELETE FROM part WHERE request <= 5",
                      "DELETE FROM request WHERE seq <= 5", "UPDATE gate SET through = 0"):  # fmt: skip
        sql(tmp_path / "l", statement)
    result = LedgerReader.open(tmp_path / "l").verify()

    assert (result.ok, result.broken_batch) == (False, 1)


def test_the_index_forgets_what_retention_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of dropped rows leave the index with them."""
    monkeypatch.setattr("inferwatt.ledger.alias.TAIL_ROWS", 5)
    ledger, _ = aged(4, LedgerConfig(retention_days=1))
    ledger.prune()

    assert len(ledger._driver.rows("SELECT DISTINCT request FROM alias")) == len(ledger.requests(99)) == 10
    assert ledger.commit(batch(3)).rows == 1
    assert not ledger.commit(batch(3)).rows


def test_a_correction_of_a_dropped_row_is_refused() -> None:
    """What is gone cannot be corrected."""
    ledger, _ = aged(4, LedgerConfig(retention_days=1))
    ledger.prune()
    corrected = replace(row(3), corrects=4)

    assert len(ledger.commit(replace(batch(), rows=[corrected])).rejected) == 1
