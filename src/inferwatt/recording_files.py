"""The files of a recording, line by line and in order; a file that is in order is never held in memory whole.

A line that does not fit its record is mended where its writer only spelt it otherwise, else named and left out. What
is said twice is said once.
"""

import gzip
import heapq
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO

import msgspec

from inferwatt.recording_lines import impossible, mended
from inferwatt.records import Activity, Event, Reading, Request, Step, Sums

Record = Reading | Step | Request | Activity | Event | Sums
FILES: dict[str, type[Record]] = {
    "events": Event,
    "activity": Activity,
    "requests": Request,
    "sums": Sums,
    "steps": Step,
    "readings": Reading,
}
"""File name -> record; where two lines have the same number, this order stands."""
_BEFOREHAND = ("activity", "requests", "sums")
"""What is known from the start, where there is no order of arrival."""
UNREADABLE = (OSError, EOFError, zlib.error)
"""What a disk says, or a gzip that was cut off or damaged."""
_MARK = b"\xef\xbb\xbf"
"""What some editors write before a text."""


class _Head(msgspec.Struct):
    """What a line's place in the order depends on."""

    seq: int | None = None
    t_ns: int = 0
    t0_ns: int = 0
    arrival_ns: int = 0


_HEADS = msgspec.json.Decoder(_Head)
_Rows = tuple[Iterable[Record], Iterable[tuple[int, Record]]]
"""The records of a file without a number, and those with one."""


@dataclass(slots=True)
class Stream:
    """The records of a recording in the order in which a meter takes them; they are read anew each time."""

    folder: Path
    live: bool = False
    """Whether an agent wrote it, with the order of arrival."""
    rejected: list[str] = field(default_factory=list)
    """Lines that could not be read, as `file line: reason`: all of them, once all records were taken."""
    _numbered: dict[str, bool] = field(default_factory=dict)
    """The files that are in order, whether by number."""
    _sorted: dict[str, _Rows] = field(default_factory=dict)
    """The others."""
    _rejected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Look which files are in order, and order the others."""
        for name, kind in FILES.items():
            numbered = _numbered_in_order(self.folder, name)
            if numbered is not None:
                self._numbered[name] = numbered
                self.live |= numbered
                continue
            rows = list(records_of(self.folder, name, kind, self._rejected))
            counted = sorted(((seq, record) for record, seq in rows if seq is not None), key=itemgetter(0))
            self._sorted[name] = sorted((record for record, seq in rows if seq is None), key=_moment), counted
            self.live |= bool(counted)

    def __iter__(self) -> Iterator[Record]:
        """Yield what has no number, what is known beforehand first, the rest by time; then the others by number."""
        self.rejected[:] = self._rejected
        rows = {name: self._rows(name) for name in FILES}
        for name in _BEFOREHAND:
            yield from _once(sorted(rows[name][0], key=_moment))
        yield from _once(heapq.merge(*(rows[name][0] for name in FILES if name not in _BEFOREHAND), key=_moment))
        yield from _arrived([numbered for _, numbered in rows.values()])

    def _rows(self, name: str) -> _Rows:
        if name in self._sorted:
            return self._sorted[name]
        rows = records_of(self.folder, name, FILES[name], self.rejected)
        if self._numbered[name]:
            return (), ((seq or 0, record) for record, seq in rows)
        return (record for record, _ in rows), ()


def _moment(record: Record) -> tuple[int, bool]:
    """Order by time; of one moment, what ends comes last."""
    match record:
        case Reading() | Event():
            return record.t_ns, isinstance(record, Reading)
        case Request():
            return record.arrival_ns, record.end_ns is not None
        case _:
            return record.t0_ns, False


def _once(records: Iterable[Record]) -> Iterator[Record]:
    """Yield records that are in order, those of one moment by what they say (the order of lines is nothing), once."""
    for _, together in groupby(records, key=_moment):
        rows = list(together)
        yield from dict(sorted((repr(row), row) for row in rows)).values() if len(rows) > 1 else rows


def _arrived(files: Iterable[Iterable[tuple[int, Record]]]) -> Iterator[Record]:
    """Yield the records of files that are in the order of their numbers by these, and what is there twice once."""
    before: tuple[int, Record] | None = None
    for row in heapq.merge(*files, key=itemgetter(0)):
        if row != before:
            yield row[1]
        before = row


def _numbered_in_order(folder: Path, name: str) -> bool | None:
    """Return whether all lines of a file are in order by number (or, false, by time); None: neither."""
    before: tuple[bool, int] | None = None
    for _, line in _lines(folder, name, []):
        try:
            head = _HEADS.decode(line)
        except msgspec.ValidationError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        place = (False, head.t_ns or head.t0_ns or head.arrival_ns) if head.seq is None else (True, head.seq)
        if before is not None and (place[0] != before[0] or place < before):
            return None
        before = place
    return before is not None and before[0]


def records_of(folder: Path, name: str, kind: type[Record], rejected: list[str]) -> Iterator[tuple[Record, int | None]]:
    """Yield the records of one file, each with its number if it has one; what cannot be read goes to `rejected`."""
    decoder = msgspec.json.Decoder(kind)
    for number, line in _lines(folder, name, rejected):
        try:
            try:
                record = decoder.decode(line)
            except msgspec.ValidationError:
                record = msgspec.convert(mended(msgspec.json.decode(line), kind), kind)
            seq = _HEADS.decode(line).seq if b'"seq"' in line else None
            problem = impossible(record)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            problem = str(exc)
        if problem:
            rejected.append(f"{name}.jsonl line {number}: {problem}")
        else:
            yield record, seq


def _lines(folder: Path, name: str, rejected: list[str]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file that are not empty, with their numbers."""
    stream = opened(folder, f"{name}.jsonl")
    if stream is None:
        return
    number = 0
    try:
        with stream:
            for number, line in enumerate(stream, 1):
                text = line.removeprefix(_MARK) if number == 1 else line
                if text.strip():
                    yield number, text
    except UNREADABLE as exc:
        rejected.append(f"{name}.jsonl after line {number}: {exc}")


def opened(folder: Path, name: str) -> IO[bytes] | None:
    """Open a file of a recording, plain or gzipped; None where it is not there."""
    plain, packed = folder / f"{name}", folder / f"{name}.gz"
    if plain.exists():
        return plain.open("rb")
    return gzip.open(packed, "rb") if packed.exists() else None  # type: ignore[return-value]


def whole(stream: IO[bytes]) -> bytes:
    """Return all of a file, without what an editor wrote before it."""
    return stream.read().removeprefix(_MARK)
