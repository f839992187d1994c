"""Remote write requests that wait on disk until a receiver takes them: one file each, named by its time.

An agent that was killed goes on where it was. What is damaged is dropped and counted.
"""

import contextlib
import zlib
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".rw"
_MAGIC: Final = b"IWRW1"
_HEAD_BYTES: Final = len(_MAGIC) + 8


class Queue:
    """The files of one folder, oldest first, within bounds of size and age.

    Raises:
        OSError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, most_bytes: int, oldest_ms: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for unfinished in folder.glob("*.new"):
            unfinished.unlink(missing_ok=True)
        self._folder = folder
        self._most_bytes = most_bytes
        self._oldest_ms = oldest_ms
        self._waiting = {path: path.stat().st_size for path in sorted(folder.glob(f"*{_SUFFIX}"))}
        newest = max((path.name for path in self._waiting), default="0-")
        digits = newest.partition("-")[0]
        self.newest_ms = int(digits) if digits.isascii() and digits.isdigit() else 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, body: bytes, samples: int, unix_ms: int, part: int) -> None:
        """Keep a request.

        Raises:
            OSError: it cannot be written.
        """
        path = self._folder / f"{unix_ms:015d}-{part:04d}{_SUFFIX}"
        beside = path.with_suffix(".new")
        try:
            beside.write_bytes(_MAGIC + samples.to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body)
            beside.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        self._waiting[path] = _HEAD_BYTES + len(body)
        self.newest_ms = unix_ms

    def oldest(self) -> tuple[bytes, int] | None:
        """Return the oldest request and how many samples it has: none where it is damaged; None where none waits."""
        path = next(iter(self._waiting), None)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return b"", 0
        head, body = content[:_HEAD_BYTES], content[_HEAD_BYTES:]
        if head[:5] != _MAGIC or head[9:] != zlib.crc32(body).to_bytes(4, "big"):
            return b"", 0
        return body, int.from_bytes(head[5:9], "big")

    def drop(self) -> None:
        """Forget the oldest request."""
        path = next(iter(self._waiting))
        del self._waiting[path]
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def shorten(self, unix_ms: int) -> int:
        """Drop what is too old or too much; return how many samples that were."""
        lost = 0
        while self._waiting and (
            sum(self._waiting.values()) > self._most_bytes or self._age_ms(unix_ms) > self._oldest_ms
        ):
            found = self.oldest()
            lost += max(found[1] if found else 0, 1)
            self.drop()
        return lost

    def _age_ms(self, unix_ms: int) -> int:
        digits = next(iter(self._waiting)).name.partition("-")[0]
        return unix_ms - int(digits) if digits.isascii() and digits.isdigit() else self._oldest_ms + 1
