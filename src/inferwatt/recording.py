"""The recording format: a folder of JSON lines, each file plain or gzipped (docs/recordings.md).

One format serves replay, support, tests and other people's data. A line is a record of records.py; a field that is
not known is left out, and readers ignore what they do not know. Lines that a live agent wrote carry ``seq``, the
order in which the meter took them, so that a replay takes them in the same order.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from inferwatt.errors import Unavailable
from inferwatt.recording_lines import impossible, known_fields
from inferwatt.records import (
    Activity,
    Device,
    Engine,
    Event,
    Fit,
    Model,
    Reading,
    Request,
    Step,
    Sums,
)

FORMAT = "inferwatt-recording/1"
Record = Reading | Step | Request | Activity | Event | Sums
FILES: dict[str, type[Record]] = {
    "events": Event,
    "activity": Activity,
    "requests": Request,
    "sums": Sums,
    "steps": Step,
    "readings": Reading,
}
"""File name -> record; where two lines have no order of their own, this one stands."""
_UNREADABLE = (OSError, EOFError, zlib.error)
"""What a disk says, or a gzip that was cut off or damaged."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What a recording says of itself (meta.json)."""

    engines: tuple[Engine, ...] = ()
    models: tuple[Model, ...] = ()
    devices: tuple[Device, ...] = ()
    host: str = ""
    boot_id: str = ""
    agent: str = ""
    version: str = ""
    hold_ns: int = 0
    clock: tuple[tuple[int, int], ...] = ()
    """Pairs of monotonic and UTC nanoseconds."""
    fits: tuple[Fit, ...] = ()
    """What the meter began with: learnt another time."""


@dataclass(slots=True)
class Recording:
    """A recording in memory: what it says of itself, and its records in the order in which a meter takes them."""

    meta: Meta
    records: list[Record]
    live: bool
    """Whether an agent wrote it, with the order of arrival."""
    rejected: list[str] = field(default_factory=list)
    """Lines that could not be read, as `file line: reason`."""


def read(folder: Path) -> Recording:
    """Read a recording.

    Raises:
        Unavailable: there is no recording in `folder`, or its meta.json cannot be read.
    """
    meta = _read_meta(folder)
    rejected: list[str] = []
    numbered: list[tuple[int, int, Record]] = []
    unnumbered: dict[type[Record], list[Record]] = {}
    for place, (name, kind) in enumerate(FILES.items()):
        for record, seq in _read_lines(folder, name, kind, rejected):
            if seq is None:
                unnumbered.setdefault(kind, []).append(record)
            else:
                numbered.append((seq, place, record))
    numbered.sort(key=lambda item: item[:2])
    ordered = [record for _, _, record in numbered]
    return Recording(meta, _ordered(unnumbered) + ordered, live=bool(numbered), rejected=rejected)


def _ordered(records: Mapping[type[Record], list[Record]]) -> list[Record]:
    """Order records that came without a number: what is known beforehand first, then steps and readings by time."""
    known: list[Record] = []
    for kind in (Event, Activity, Request, Sums):
        known += sorted(records.get(kind, []), key=_order)
    timed = sorted(records.get(Step, []) + records.get(Reading, []), key=_order)
    return known + timed


def _order(record: Record) -> tuple[int, bool, str]:
    """Order by time; of one moment what ends comes last, and then by what is said: the order of lines is nothing."""
    is_end = isinstance(record, Reading) or (isinstance(record, Request) and record.end_ns is not None)
    return _time(record), is_end, repr(record)


def _time(record: Record) -> int:
    match record:
        case Reading() | Event():
            return record.t_ns
        case Request():
            return record.arrival_ns
        case _:
            return record.t0_ns


def _open(folder: Path, name: str) -> IO[bytes] | None:
    plain, packed = folder / f"{name}", folder / f"{name}.gz"
    if plain.exists():
        return plain.open("rb")
    return gzip.open(packed, "rb") if packed.exists() else None  # type: ignore[return-value]


class _Numbered(msgspec.Struct):
    seq: int | None = None


def _read_lines(
    folder: Path, name: str, kind: type[Record], rejected: list[str]
) -> Iterator[tuple[Record, int | None]]:
    decoder = msgspec.json.Decoder(kind)
    numbers = msgspec.json.Decoder(_Numbered)
    stream = _open(folder, f"{name}.jsonl")
    if stream is None:
        return
    with stream:
        for number, line in _lines(stream, name, rejected):
            try:
                record, seq = decoder.decode(line), numbers.decode(line).seq if b'"seq"' in line else None
                problem = impossible(record)
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                problem = str(exc)
            if problem:
                rejected.append(f"{name}.jsonl line {number}: {problem}")
            else:
                yield record, seq


def _lines(stream: IO[bytes], name: str, rejected: list[str]) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line
    except _UNREADABLE as exc:
        rejected.append(f"{name}.jsonl after line {number}: {exc}")


def _read_meta(folder: Path) -> Meta:
    stream = _open(folder, "meta.json")
    if stream is None:
        raise Unavailable("no recording here: it has no meta.json", where=folder, fix="inferwatt record FOLDER")
    try:
        with stream:
            return _meta_from(msgspec.json.decode(stream.read(), type=dict[str, Any]))
    except (msgspec.MsgspecError, TypeError, AttributeError, KeyError, ValueError, *_UNREADABLE) as exc:
        raise Unavailable(
            f"cannot read the recording: {exc}", where=folder / "meta.json", fix="check it against docs/recordings.md"
        ) from exc


def _meta_from(raw: Mapping[str, Any]) -> Meta:
    if raw.get("format") != FORMAT:
        raise ValueError(f"its format is {raw.get('format')!r}, not {FORMAT!r}")

    def rows(section: str, key: str, kind: type[Any]) -> tuple[Any, ...]:
        return tuple(msgspec.convert({**row, key: name}, kind) for name, row in (raw.get(section) or {}).items())

    return Meta(
        engines=rows("engines", "engine", Engine),
        models=rows("models", "model", Model),
        devices=rows("devices", "device", Device),
        host=raw.get("host") or "",
        boot_id=raw.get("boot_id") or "",
        agent=raw.get("agent") or "",
        version=raw.get("version") or "",
        hold_ns=raw.get("hold_ns") or 0,
        clock=tuple((pair["monotonic_ns"], pair["unix_ns"]) for pair in raw.get("clock") or ()),
        fits=msgspec.convert(raw.get("fits") or (), tuple[Fit, ...]),
    )


class RecordingWriter:
    """Writes a recording as it happens; each line carries the order in which the meter took it.

    Raises:
        Unavailable: the folder cannot be made, or holds a recording already.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise Unavailable(f"cannot record: {exc.strerror}", where=folder, fix="choose another folder") from exc
        if _open(folder, "meta.json") is not None:
            raise Unavailable("there is a recording here already", where=folder, fix="choose an empty folder")
        self._folder = folder
        self._streams: dict[str, IO[bytes]] = {}
        self._names = {kind: name for name, kind in FILES.items()}
        self._seq = 0

    def write(self, record: Record) -> None:
        """Write one record.

        Raises:
            OSError: the disk is full or gone.
        """
        name = self._names[type(record)]
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = (self._folder / f"{name}.jsonl").open("ab")
        row = {**known_fields(record), "seq": self._seq}
        self._seq += 1
        stream.write(msgspec.json.encode(row) + b"\n")

    def write_meta(self, meta: Meta) -> None:
        """Write (again) what the recording says of itself, whole or not at all."""
        write_meta(self._folder, meta)

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        for stream in self._streams.values():
            stream.flush()

    def close(self) -> None:
        """Close all files."""
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()


def write(folder: Path, meta: Meta, records: Iterable[Record]) -> None:
    """Write a whole recording without an order of arrival, as a simulation or a script does."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {kind: name for name, kind in FILES.items()}
    streams: dict[str, IO[bytes]] = {}
    for record in records:
        name = names[type(record)]
        if name not in streams:
            streams[name] = (folder / f"{name}.jsonl").open("wb")
        streams[name].write(msgspec.json.encode(known_fields(record)) + b"\n")
    for stream in streams.values():
        stream.close()
    write_meta(folder, meta)


def write_meta(folder: Path, meta: Meta) -> None:
    """Write meta.json, whole or not at all."""

    def section(rows: Iterable[Device | Model | Engine], key: str) -> dict[str, Any]:
        return {getattr(row, key): {k: v for k, v in known_fields(row).items() if k != key} for row in rows}

    raw = {
        "format": FORMAT,
        "host": meta.host,
        "boot_id": meta.boot_id,
        "agent": meta.agent,
        "version": meta.version,
        "hold_ns": meta.hold_ns,
        "clock": [{"monotonic_ns": mono, "unix_ns": unix} for mono, unix in meta.clock],
        "engines": section(meta.engines, "engine"),
        "models": section(meta.models, "model"),
        "devices": section(meta.devices, "device"),
        **({"fits": [known_fields(fit) for fit in meta.fits]} if meta.fits else {}),
    }
    temporary = folder / "meta.json.new"
    temporary.write_text(json.dumps(raw, indent=1) + "\n")
    temporary.replace(folder / "meta.json")
