"""The seam to SQLite: apsw where it is installed, else the standard library's module; a test can hand in a third.

SQLite 3.7.0 to 3.51.2 can skip committed pages when a checkpoint races the WAL's reset by another connection
(fixed in 3.51.3, 3.50.7 and 3.44.6). apsw brings a newer SQLite; the standard module's may be older, and is safe here
because one connection alone writes and checkpoints and every other is opened read-only.
"""

import importlib.util
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

BUSY_SECONDS: Final = 1.0
MEMORY: Final = ":memory:"

Value = str | int | float | bytes | None
Row = tuple[Any, ...]

BUSY, READ_ONLY, CORRUPT, FULL, CANNOT_OPEN, NOT_A_DATABASE = 5, 8, 11, 13, 14, 26
"""SQLite's primary result codes (sqlite.org/rescode.html)."""


class Trouble(Exception):
    """SQLite said no; `code` is the primary result code."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code & 0xFF

    @property
    def is_corrupt(self) -> bool:
        """Tell a damaged file from one that cannot be used now."""
        return self.code in {CORRUPT, NOT_A_DATABASE}


class Driver(Protocol):
    """One connection in autocommit mode. Every failure of SQLite is raised as `Trouble`."""

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        ...

    def many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run one statement for each row of values."""
        ...

    def close(self) -> None:
        """Close the connection; the last writer to close checkpoints."""
        ...


Connect = Callable[[str, bool], Driver]
"""(path or `:memory:`, read only) to a connection."""


class StandardDriver:
    """`sqlite3` of the standard library."""

    def __init__(self, path: str, read_only: bool) -> None:
        try:
            self._connection = sqlite3.connect(
                _uri(path, read_only), BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True
            )
        except sqlite3.Error as error:
            raise _standard_trouble(error) from error

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise _standard_trouble(error) from error

    def many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run one statement for each row of values."""
        try:
            self._connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise _standard_trouble(error) from error

    def close(self) -> None:
        """Close the connection."""
        try:
            self._connection.close()
        except sqlite3.Error as error:
            raise _standard_trouble(error) from error


class ApswDriver:
    """`apsw`, which brings a SQLite of its own (extra `apsw`)."""

    def __init__(self, path: str, read_only: bool) -> None:
        import apsw

        self._error = apsw.Error
        flags = apsw.SQLITE_OPEN_URI | (
            apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        )
        try:
            self._connection = apsw.Connection(_uri(path, read_only), flags)
            self._connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
        except apsw.Error as error:
            raise _apsw_trouble(error) from error

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        try:
            return list(self._connection.execute(sql, tuple(values)))
        except self._error as error:
            raise _apsw_trouble(error) from error

    def many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run one statement for each row of values."""
        try:
            self._connection.executemany(sql, rows)
        except self._error as error:
            raise _apsw_trouble(error) from error

    def close(self) -> None:
        """Close the connection."""
        try:
            self._connection.close()
        except self._error as error:
            raise _apsw_trouble(error) from error


def connect(path: str, read_only: bool) -> Driver:
    """Open `path` with the best driver that is installed."""
    if importlib.util.find_spec("apsw") is not None:
        return ApswDriver(path, read_only)
    return StandardDriver(path, read_only)


def _uri(path: str, read_only: bool) -> str:
    if path == MEMORY:
        return path
    return Path(path).absolute().as_uri() + ("?mode=ro" if read_only else "")


def _standard_trouble(error: sqlite3.Error) -> Trouble:
    return Trouble(getattr(error, "sqlite_errorcode", 1), str(error))


def _apsw_trouble(error: Exception) -> Trouble:
    return Trouble(getattr(error, "result", 1), str(error))


class ClosedDriver:
    """Stands where no connection is open."""

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Refuse."""
        raise Trouble(CANNOT_OPEN, f"it is not open, cannot ask: {sql.split()[0]}")

    def many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Refuse."""
        self.rows(sql)

    def close(self) -> None:
        """Do nothing."""
