import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import LedgerRetry, Unavailable
from inferwatt.ledger import alias
from inferwatt.ledger.driver import BUSY, CORRUPT, FULL, Connect, Driver, Row, StandardDriver, Trouble, Value, connect
from inferwatt.ledger.queries import LedgerReader
from inferwatt.ledger.rows import ClockPair, DeviceHourKey, DeviceState, HourKey, HourValue, LedgerBatch, RequestKey
from inferwatt.ledger.sqlite import LedgerConfig
from inferwatt.snapshot import HistogramValue
from inferwatt.testing import FakeClock, memory_ledger
from tests.ledger.books import DRIVERS, HOUR, batch, names, open_ledger, row, sql

IDLE = HourKey(HOUR, "s", "m", "", "cpu", "modelled", "idle_resident")


@pytest.mark.parametrize("connect", DRIVERS)
def test_totals_go_on_after_a_restart(tmp_path: Path, connect: Connect) -> None:
    """Counters, histograms, device states and hours are what was committed last, with either driver."""
    state = DeviceState("package-0", "b", 123, 456, 2**32)
    histogram = HistogramValue((0, 2, 1), 3.5, {})
    first = open_ledger(tmp_path / "l", connect=connect)
    for times in (1, 2):
        first.commit(
            LedgerBatch(
                counters={"joules": {("a", "b"): 2**60 + times}, "seconds": {(): 0.25 * times}},
                histograms={"h": {("m",): histogram}},
                hours={IDLE: HourValue(5, systematic_uj=0.5)},
                device_hours={DeviceHourKey(HOUR, "package-0", "package", "measured"): 7},
                device_states=[state],
                clock_pair=ClockPair(1, 2, "start"),
            )
        )
    first.close()
    again = open_ledger(tmp_path / "l", connect=connect)

    assert again.counters() == {"joules": {("a", "b"): 2**60 + 2}, "seconds": {(): 0.5}}
    assert isinstance(again.counters()["joules"]["a", "b"], int)
    assert {"h": {("m",): histogram}} == again.histograms()
    assert [state] == again.device_states()
    assert {IDLE: HourValue(10, systematic_uj=1.0)} == again.hours(HOUR, HOUR + 1)
    assert list(again.device_hours(HOUR, HOUR + 1).values()) == [14]


def test_a_counter_never_falls() -> None:
    """A smaller value that is handed in by mistake is not taken."""
    ledger = memory_ledger(FakeClock())
    for value in (5, 3):
        ledger.commit(LedgerBatch(counters={"f": {(): value}}))

    assert ledger.counters() == {"f": {(): 5}}


def test_a_request_is_booked_once(tmp_path: Path) -> None:
    """A record that comes again, also after a restart or twice in a batch, changes nothing."""
    first = open_ledger(tmp_path / "l")
    first.commit(batch(1, 2))
    first.close()
    again = open_ledger(tmp_path / "l")
    done = again.commit(batch(2, 3, 3, 1))
    (tenant,) = again.tenants(0, 2 * HOUR)

    assert (done.rows, tuple(key.request for key in done.duplicates)) == (1, ("r2", "r3", "r1"))
    assert names(again.requests(10)) == ["r3", "r2", "r1"]
    assert (tenant.requests, tenant.energies[0].energy_uj) == (3, 3000)


@given(st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=8), st.integers(1, 5))
def test_it_knows_what_it_holds(batches: list[list[int]], tail_rows: int) -> None:
    """Whatever comes again, and wherever the index ends, each request is booked once and found by all its names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alias, "TAIL_ROWS", tail_rows)
        ledger = memory_ledger(FakeClock())
        for numbers in batches:
            ledger.commit(batch(*numbers))
    held = {number for numbers in batches for number in numbers}

    assert sorted(f"r{number}" for number in held) == sorted(names(ledger.requests(100)))
    for number in range(13):
        assert (number in held) == ledger.known("p", f"r{number}")
        for name in (f"r{number}", f"resp-r{number}", f"trace-r{number}"):
            assert [f"r{number}"] * (number in held) == names(ledger.find(name))


def test_two_producers_may_use_one_id() -> None:
    """Ids are unique per producer: a name that two requests share finds both."""
    ledger = memory_ledger(FakeClock())
    other = replace(row(1), request=replace(row(1).request, producer="q"))
    ledger.commit(LedgerBatch(rows=[row(1), other]))

    assert [one.request.producer for one in ledger.find("r1")] == ["p", "q"]


def test_a_correction_is_a_new_row_that_names_the_old() -> None:
    """The old row stays, the sums follow the new one, and a correction that comes again changes nothing."""
    ledger = memory_ledger(FakeClock())
    ledger.commit(batch(1, 2))
    corrected = replace(row(1, energy_uj=5000), corrects=1)
    ledger.commit(LedgerBatch(rows=[corrected]))
    again = ledger.commit(LedgerBatch(rows=[corrected, replace(row(2), corrects=77)]))
    (tenant,) = ledger.tenants(0, 2 * HOUR)

    assert ((RequestKey("p", "r1"),), (RequestKey("p", "r2"),)) == (again.duplicates, again.rejected)
    assert [one.corrects for one in ledger.find("r1")] == [None, 1]
    assert (tenant.requests, tenant.energies[0].energy_uj) == (2, 6000)
    assert ledger.verify().ok


def test_the_request_account_is_the_ledgers_own() -> None:
    """A caller that hands in hours of requests would count them twice, and is told so."""
    with pytest.raises(ValueError, match="come from the rows"):
        memory_ledger(FakeClock()).commit(LedgerBatch(hours={IDLE._replace(account="request"): HourValue(1)}))


def test_requests_are_paged_and_chosen() -> None:
    """The newest come first; a page ends where the next begins; tenant, model and time choose."""
    clock = FakeClock()
    ledger = memory_ledger(clock)
    for number in range(6):
        unix = HOUR + 10 * number
        ledger.commit(batch(number, tenant="even" if number % 2 == 0 else "odd", unix=unix))
        clock.advance(10 * 10**9)
    page = ledger.requests(2)

    assert names(page) == ["r5", "r4"]
    assert names(ledger.requests(2, before_seq=page[-1].seq)) == ["r3", "r2"]
    assert names(ledger.requests(9, tenant="even")) == ["r4", "r2", "r0"]
    assert names(ledger.requests(9, since_unix=HOUR + 30)) == ["r5", "r4", "r3"]
    assert ledger.requests(9, model="another") == []
    assert ledger.requests(0) == []


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    """Another process reads a ledger while its agent writes, and can do no more than that."""
    ledger = open_ledger(tmp_path / "l")
    reader = LedgerReader.open(tmp_path / "l")
    ledger.commit(batch(1))

    assert names(reader.requests(5)) == ["r1"]
    assert reader.verify(ledger.head).ok
    with pytest.raises(Trouble, match=r"readonly|read-only|read only"):
        reader._driver.rows("DELETE FROM counter")
    reader.close()


def test_no_ledger_is_said_in_words(tmp_path: Path) -> None:
    """Reading where no agent ever wrote says so."""
    with pytest.raises(Unavailable, match="no ledger yet"):
        LedgerReader.open(tmp_path / "l")


def test_a_second_agent_is_refused(tmp_path: Path) -> None:
    """One agent per ledger; the next may have it once the first has closed it."""
    first = open_ledger(tmp_path / "l")
    with pytest.raises(Unavailable, match="another agent"):
        open_ledger(tmp_path / "l")
    first.close()

    open_ledger(tmp_path / "l").close()


def test_a_newer_ledger_is_left_alone(tmp_path: Path) -> None:
    """A schema from the future is refused with words, not set aside, and not locked."""
    open_ledger(tmp_path / "l").close()
    sql(tmp_path / "l", "PRAGMA user_version = 9")
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"newer inferwatt.*version 9"):
            open_ledger(tmp_path / "l")

    assert sorted(os.listdir(tmp_path)) == ["l", "l.lock"]


def test_a_closed_ledger_refuses(tmp_path: Path) -> None:
    """After close nothing is written, read or opened again behind the next agent's back."""
    ledger = open_ledger(tmp_path / "l")
    ledger.close()
    ledger.close()
    for ask in (lambda: ledger.commit(batch(1)), lambda: ledger.requests(1), lambda: ledger.known("p", "r1")):
        with pytest.raises(LedgerRetry, match=r"closed|not open"):
            ask()


def test_what_cannot_be_a_file_is_said_in_words(tmp_path: Path) -> None:
    """A folder in the ledger's place is a LedgerRetry with words, and leaves the folder as it was."""
    (tmp_path / "l").mkdir()
    with pytest.raises(LedgerRetry, match="cannot open the ledger"):
        open_ledger(tmp_path / "l")


class Failing:
    """A driver that fails as it is told: `failures` maps the start of a statement to result codes, used up in turn."""

    def __init__(self, real: Driver, failures: dict[str, list[int]]) -> None:
        self._real = real
        self._failures = failures

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Fail or run."""
        self._fail(sql)
        return self._real.rows(sql, values)

    def many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Fail or run."""
        self._fail(sql)
        self._real.many(sql, rows)

    def close(self) -> None:
        """Close."""
        self._real.close()

    def _fail(self, sql: str) -> None:
        for start, codes in self._failures.items():
            if sql.startswith(start) and codes:
                raise Trouble(codes.pop(0), "told to fail")


@pytest.mark.parametrize("code", [FULL, BUSY, 10, 1, CORRUPT])
@pytest.mark.parametrize("place", ["BEGIN", "INSERT INTO request", "INSERT INTO part", "INSERT INTO hour", "COMMIT"])
def test_a_failed_commit_leaves_nothing_and_the_next_works(tmp_path: Path, place: str, code: int) -> None:
    """Wherever a commit fails, and however, the same batch can be committed later, once, and totals do not fall."""
    failures: dict[str, list[int]] = {}

    def failing(path: str, read_only: bool) -> Driver:
        real = connect(path, read_only)
        return real if read_only else Failing(real, failures)

    ledger = open_ledger(tmp_path / "l", connect=failing)
    ledger.commit(LedgerBatch(rows=[row(1)], counters={"f": {("a",): 7}}))
    failures[place] = [code]
    of_new_names = batch(2, tenant="new", fit="m/8")
    with pytest.raises(LedgerRetry, match="told to fail"):
        ledger.commit(of_new_names)
    done = ledger.commit(of_new_names)

    assert (done.rows, done.duplicates) == (1, ())
    assert ledger.counters() == {"f": {("a",): 7}}
    assert ledger.verify(ledger.head).ok
    assert (code == CORRUPT) == ledger.set_aside
    assert (["r2"] if code == CORRUPT else ["r2", "r1"]) == names(ledger.requests(9))


def test_a_sensible_size_is_told(tmp_path: Path) -> None:
    """The size is that of the tables, in bytes."""
    ledger = open_ledger(tmp_path / "l", config=LedgerConfig())
    before = ledger.size_bytes()
    ledger.commit(batch(*range(2000)))

    assert 0 < before < ledger.size_bytes() < before + 2000 * 600


def test_the_standard_driver_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apsw the standard library's SQLite is used."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    driver = connect(str(tmp_path / "l"), False)

    assert isinstance(driver, StandardDriver)
    driver.close()


def test_a_copy_is_a_ledger(tmp_path: Path) -> None:
    """After close all is in one file, which can be copied and verified elsewhere."""
    ledger = open_ledger(tmp_path / "l")
    ledger.commit(batch(1, 2))
    head = ledger.head
    ledger.close()
    shutil.copy(tmp_path / "l", tmp_path / "copy")

    assert LedgerReader.open(tmp_path / "copy").verify(head).ok
