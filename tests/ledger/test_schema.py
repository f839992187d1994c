from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.ledger.rows import LedgerBatch, RequestKey, RequestRow
from inferwatt.ledger.schema import HourSums, encode, roll_up, tags_text, units_text
from inferwatt.records import Request, RequestEnergy
from inferwatt.testing import FakeClock, memory_ledger
from tests.ledger.books import HOUR, amounts, batch, open_ledger, row, rows, sql, texts, units

INJECTIONS = ("'; DROP TABLE request; --", '"', "' OR '1'='1", "x\x00y", "%_\\", "é𝄞", "?1", ":a", "[]{}")


TEXTS = ("request", "response_id", "trace_id", "model", "tenant", "producer", "namespace", "pod", "container")


def changed(request: Request, /, **changes: Any) -> Request:
    """Return the request with other values in some fields, whatever their types."""
    return replace(request, **changes)


@given(st.lists(rows(), max_size=5, unique_by=lambda one: (one.request.producer, one.request.request)))
def test_what_was_handed_in_comes_back(handed_in: list[RequestRow]) -> None:
    """Every record reads back as it was written, in whatever batch it came."""
    ledger = memory_ledger(FakeClock())
    ledger.commit(LedgerBatch(rows=handed_in))
    read = ledger.requests(10)[::-1]

    assert [replace(one, seq=number) for number, one in enumerate(handed_in, 1)] == read
    assert ledger.verify().ok


@given(st.lists(rows(), min_size=1, max_size=8))
def test_the_roll_up_is_the_sum_of_the_rows(handed_in: list[RequestRow]) -> None:
    """Energy, requests and tokens of the hours are those of the rows, to the microjoule."""
    sums: HourSums = {}
    for one in handed_in:
        roll_up(sums, one)

    assert sum(one.energy.energy_uj for one in handed_in if one.energy) == sum(value[0] for value in sums.values())
    assert len(handed_in) == sum(value[4] for value in sums.values())
    assert sum(one.request.output_tokens or 0 for one in handed_in) == sum(value[7] for value in sums.values())


@given(rows(), st.sampled_from(TEXTS), st.text())
def test_a_hash_holds_every_text(one: RequestRow, field: str, text: str) -> None:
    """Two rows have one hash only if their texts are equal."""
    other = replace(one, request=changed(one.request, **{field: text}))
    same = getattr(one.request, field) == text

    assert same == (encode([one], 1, 1).content_hash == encode([other], 1, 1).content_hash)


@given(rows(), st.sampled_from(["prompt_tokens", "cached_tokens", "end_ns"]), st.none() | amounts)
def test_a_hash_holds_every_number(one: RequestRow, field: str, value: int | None) -> None:
    """Two rows have one hash only if their numbers are equal; an unknown is not a zero."""
    other = replace(one, request=changed(one.request, **{field: value}))
    same = getattr(one.request, field) == value

    assert same == (encode([one], 1, 1).content_hash == encode([other], 1, 1).content_hash)


@given(rows(), texts, units)
def test_a_hash_holds_the_fit_and_the_units(one: RequestRow, fit: str, counts: dict[str, int]) -> None:
    """Two rows have one hash only if one fit made their figures and their work is equal, whatever its order."""
    others = (replace(one, fit=fit), replace(one, request=replace(one.request, units=counts)))
    same = [one.fit == fit, one.request.units == counts]

    assert same == [encode([one], 1, 1).content_hash == encode([other], 1, 1).content_hash for other in others]


def test_texts_cannot_flow_into_their_neighbours() -> None:
    """Moving a character from one row's id to the next changes the hash."""
    first, second = row(1), row(2)

    def renamed(*ids: str) -> bytes:
        pair = zip((first, second), ids, strict=True)
        return encode(
            [replace(one, request=replace(one.request, request=name)) for one, name in pair], 1, 1
        ).content_hash

    assert renamed("ab", "c") != renamed("a", "bc")


def test_equal_tags_have_equal_text() -> None:
    """The order in which tags and units were given does not matter."""
    assert tags_text({"a": "1", "b": "2"}) == tags_text({"b": "2", "a": "1"})
    assert units_text({"a": 1, "b": 2}) == units_text({"b": 2, "a": 1})


def test_what_repeats_is_stored_once(tmp_path: Path) -> None:
    """Rows of one place and one fit share them; a new fit adds a line to its own table only."""
    ledger = open_ledger(tmp_path / "l")
    ledger.commit(batch(*range(10)))
    ledger.commit(batch(*range(10, 20), fit="m/8"))

    assert sql(tmp_path / "l", "SELECT count(*) FROM who") == [(1,)]
    assert sql(tmp_path / "l", "SELECT fit FROM fit ORDER BY id") == [("m/7",), ("m/8",)]
    assert [one.fit for one in ledger.requests(20)] == ["m/8"] * 10 + ["m/7"] * 10


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_a_text_is_text(text: str) -> None:
    """Quotes, statements and placeholders in any field are kept and found as they are."""
    ledger = memory_ledger(FakeClock())
    request = changed(row(1).request, tags={text: text}, units={text: 1}, **dict.fromkeys((*TEXTS, "engine"), text))
    ledger.commit(
        LedgerBatch(
            rows=[replace(row(1), request=request, server=text, fit=text, energy=None)],
            counters={text: {(text,): 1}},
        )
    )

    for found in (ledger.find(text), ledger.requests(1, tenant=text, model=text)):
        assert [(request, text, text)] == [(one.request, one.server, one.fit) for one in found]
    assert {text: {(text,): 1}} == ledger.counters()
    assert ledger.known(text, text)


def test_an_unknown_energy_is_absent() -> None:
    """A request without joules is kept and counted, and adds no zero to any provenance."""
    ledger = memory_ledger(FakeClock())
    ledger.commit(LedgerBatch(rows=[replace(row(1), energy=None)]))
    (tenant,) = ledger.tenants(0, 2 * HOUR)

    assert (tenant.requests, tenant.energies) == (1, ())
    assert ledger.requests(1)[0].energy is None


@pytest.mark.parametrize("bad", ["tenant", "units", "fit", "tokens", "end", "joules"])
def test_a_row_that_cannot_be_stored_does_not_block_the_others(bad: str) -> None:
    """A lone surrogate or a number beyond 64 bits is left out and told; its neighbours are committed."""
    one = row(1)
    broken = {
        "tenant": replace(one, request=replace(one.request, tenant="\ud800")),
        "units": replace(one, request=replace(one.request, units={"\ud800": 1})),
        "fit": replace(one, fit="\ud800"),
        "tokens": replace(one, request=replace(one.request, output_tokens=2**63 - 1)),
        "end": replace(one, end_unix_ns=2**64),
        "joules": row(1, energy_uj=2**60),
    }[bad]
    ledger = memory_ledger(FakeClock())
    done = ledger.commit(LedgerBatch(rows=[broken, row(2)]))

    assert (1, (RequestKey("p", "r1"),)) == (done.rows, done.rejected)
    assert ledger.known("p", "r2")
    assert not ledger.known("p", "r1")
    assert ledger.verify().ok


@pytest.mark.parametrize("table", ["request", "part", "batch", "who", "fit", "epoch"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET rowid = rowid"])
def test_rows_never_change(tmp_path: Path, table: str, change: str) -> None:
    """SQLite itself refuses to change or delete what was committed, whoever asks."""
    with_key = {"part": "position"}.get(table, "rowid")
    open_ledger(tmp_path / "l").commit(batch(1))

    with pytest.raises(Exception, match="immutable"):
        sql(tmp_path / "l", change.format(table).replace("rowid", with_key))


def test_a_sum_of_energies_keeps_its_two_bounds_apart() -> None:
    """Splits add by the root of squares, the sensor's bound linearly: 100 requests of ±50 µJ are ±500, not ±5,000."""
    ledger = memory_ledger(FakeClock())
    ledger.commit(batch(*range(100)))
    (energy,) = ledger.tenants(HOUR, HOUR + 1)[0].energies

    assert (energy.energy_uj, energy.prefill_uj) == (100_000, 10_000)
    assert energy.split_uj == 500.0
    assert round(energy.systematic_uj) == 40_000


def test_parts_without_a_tier_do_not_exist() -> None:
    """A known tier with no parts is told from an unknown energy."""
    ledger = memory_ledger(FakeClock())
    empty = RequestEnergy("r1", (), row(1).energy.tier, final=True)  # type: ignore[union-attr]
    ledger.commit(LedgerBatch(rows=[replace(row(1), energy=empty)]))

    assert empty == ledger.requests(1)[0].energy
