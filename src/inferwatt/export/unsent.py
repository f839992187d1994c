"""Requests that an exporter could not send yet, kept beside the ledger: an agent that ends meanwhile loses none.

The ledger has them too, but neither who was told what nor a caller's span. The file is written whole, after each
failure and at the end, and goes when everything is sent: where nothing fails there is none.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from inferwatt.ledger.rows import RequestRow
from inferwatt.units import NS_PER_SECOND

log = logging.getLogger("inferwatt")

OLDEST_NS: Final = 3600 * NS_PER_SECOND
"""What is older when an agent starts again is in the ledger alone: receivers date by what they are told when."""
LARGEST_BYTES: Final = 64_000_000


class Unsent:
    """The file of one exporter; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self._path = None if folder is None else folder / f"unsent-{name}.json"
        self._is_there = self._path is not None and self._path.exists()
        self._has_failed = False

    def load(self, unix_ns: int) -> tuple[list[RequestRow], int]:
        """Return what the last agent could not send, and how many are too old for that."""
        if self._path is None or not self._is_there:
            return [], 0
        try:
            with self._path.open("rb") as file:
                rows = msgspec.json.decode(file.read(LARGEST_BYTES), type=list[RequestRow])
        except (OSError, ValueError) as exc:
            log.warning("what could not be sent is lost: %s cannot be read: %s", self._path, exc)
            return [], 0
        fresh = [row for row in rows if row.end_unix_ns > unix_ns - OLDEST_NS]
        return fresh, len(rows) - len(fresh)

    def keep(self, rows: Sequence[RequestRow]) -> bool:
        """Write them in the place of those before; return whether they are kept."""
        if self._path is None:
            return False
        beside = self._path.with_name(f".{self._path.name}.{threading.get_ident()}")
        try:
            data = msgspec.json.encode(rows)
            with open(beside, "wb", opener=_own) as file:
                file.write(data)
            beside.replace(self._path)
        except (OSError, ValueError) as exc:
            if not self._has_failed:
                log.warning("what could not be sent is not kept: %s: %s", self._path, exc)
            self._has_failed = True
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            return False
        self._is_there = True
        return True

    def forget(self) -> None:
        """Remove the file: all of it is sent."""
        if self._path is not None and self._is_there:
            self._is_there = False
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def _own(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
