"""One agent per ledger: an advisory lock that the kernel drops with its process, so that none is ever stale.

The lock's file also says how far the chain had come (`Head`): SQLite drops the tail of a damaged WAL without a word
(one flipped bit in its middle cost 51 of 100 committed rows), and this is how a start notices.
"""

import os
import sys
from pathlib import Path

from inferwatt.errors import Unavailable
from inferwatt.ledger.rows import Head

_NOTE_BYTES = 128


class LedgerLock:
    """Holds `path` from its making until `release`.

    Raises:
        Unavailable: another agent holds it.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o640)
        try:
            _lock(self._fd)
        except OSError as error:
            os.close(self._fd)
            raise Unavailable(
                "another agent is using this ledger",
                where=path,
                fix="stop the other agent, or give this one its own ledger.path",
            ) from error

    def noted(self) -> Head | None:
        """Return the head that was noted last, if it can be read."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        try:
            batch, digest = os.read(self._fd, _NOTE_BYTES).split()
            return Head(int(batch), bytes.fromhex(digest.decode()))
        except (OSError, ValueError):
            return None

    def note(self, head: Head) -> None:
        """Write down the head, unsynced: enough for a killed process; a disk that is full is not told twice."""
        try:
            os.lseek(self._fd, 0, os.SEEK_SET)
            os.write(self._fd, f"{head.batch:020d} {head.hash.hex()}\n".encode())
        except OSError:
            return

    def release(self) -> None:
        """Give the ledger free."""
        os.close(self._fd)


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        os.lseek(fd, _NOTE_BYTES, os.SEEK_SET)  # beyond the note: a Windows lock also forbids reading
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
