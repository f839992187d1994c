"""Open a ledger's file: make it, check it, bring it to this version's schema; or set a damaged one aside."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inferwatt.errors import LedgerRetry, Unavailable
from inferwatt.ledger.driver import CORRUPT, FULL, MEMORY, READ_ONLY, Connect, Driver, Trouble
from inferwatt.ledger.schema import STEPS, VERSION
from inferwatt.ledger.verify import check_end

_SIDE_FILES = ("", "-wal", "-shm")
_FIXES = {
    FULL: "free disk space, or lower ledger.max_megabytes",
    READ_ONLY: "make the folder writable, or set ledger.path",
}


def open_file(path: str, connect: Connect, *, check: bool = True) -> Driver:
    """Open and, if asked, check a ledger for writing; a missing one is made (mode 0640).

    Raises:
        Trouble: SQLite cannot use the file; `is_corrupt` where the file or the end of its chain is damaged.
        Unavailable: a newer inferwatt wrote it.
        OSError: the file cannot be made.
    """
    if path != MEMORY and not Path(path).exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o640))
    driver = connect(path, False)
    try:
        _prepare(driver, path)
        if check:
            _check(driver)
    except BaseException:
        driver.close()
        raise
    return driver


def open_reading(path: str, connect: Connect) -> Driver:
    """Open an existing ledger for reading: this connection can neither write nor checkpoint.

    Raises:
        Trouble: it is not there, or cannot be read.
    """
    driver = connect(path, True)
    try:
        driver.rows("PRAGMA query_only = 1")
        driver.rows("PRAGMA wal_autocheckpoint = 0")
        driver.rows("SELECT count(*) FROM meta")
    except BaseException:
        driver.close()
        raise
    return driver


@contextmanager
def transaction(driver: Driver) -> Iterator[None]:
    """Run all of it or nothing."""
    driver.rows("BEGIN IMMEDIATE")
    try:
        yield
        driver.rows("COMMIT")
    except BaseException:
        with suppress(Trouble):  # SQLite may have rolled back by itself, as it does when the disk is full
            driver.rows("ROLLBACK")
        raise


def put_aside(path: str, unix_seconds: int) -> Path:
    """Rename a damaged ledger and what lies beside it to `NAME.corrupt-<unix>`, never over another; return that name.

    Raises:
        OSError: the folder does not let us.
    """
    aside = Path(f"{path}.corrupt-{unix_seconds}")
    while aside.exists():
        unix_seconds += 1
        aside = Path(f"{path}.corrupt-{unix_seconds}")
    for side in _SIDE_FILES:
        if os.path.exists(path + side):
            os.rename(path + side, f"{aside}{side}")
    return aside


def retry(error: Trouble | OSError, path: str, doing: str) -> LedgerRetry:
    """Put a failure into words: what, where, what to do."""
    words = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    fix = _FIXES.get(error.code if isinstance(error, Trouble) else 0, "look at the disk; it is tried again by itself")
    return LedgerRetry(f"cannot {doing} the ledger: {words}", where=path, fix=fix)


def _prepare(driver: Driver, path: str) -> None:
    version = driver.rows("PRAGMA user_version")[0][0]
    if version > VERSION:
        raise Unavailable(
            f"a newer inferwatt wrote this ledger: its schema is version {version}, this one knows {VERSION}",
            where=path,
            fix="upgrade inferwatt, or set ledger.path to a new file",
        )
    if path != MEMORY and driver.rows("PRAGMA journal_mode = WAL") != [("wal",)]:
        raise Trouble(READ_ONLY, "this file system does not let SQLite use a write-ahead log")
    driver.rows("PRAGMA synchronous = FULL")
    driver.rows("PRAGMA cache_size = -8000")
    for step in range(version, VERSION):
        _migrate(driver, step)


def _migrate(driver: Driver, step: int) -> None:
    with transaction(driver):
        for statement in STEPS[step]:
            driver.rows(statement)
        driver.rows("INSERT OR REPLACE INTO meta VALUES('schema', ?)", (str(step + 1),))
        driver.rows("INSERT OR IGNORE INTO meta VALUES('agent', ?)", (str(uuid.uuid4()),))
        driver.rows(f"PRAGMA user_version = {step + 1}")


def _check(driver: Driver) -> None:
    """Read every page once, and hold the end of the chain against its rows."""
    found = driver.rows("PRAGMA quick_check(1)")
    if found != [("ok",)]:
        raise Trouble(CORRUPT, str(found[0][0]))
    _, _, reason = check_end(driver)
    if reason:
        raise Trouble(CORRUPT, f"its last batch does not hold: {reason}")
