"""The recording format: a folder of JSON lines, each file plain or gzipped (docs/recordings.md).

One format serves replay, support, tests and other people's data. A line is a record of records.py; a field that is
not known is left out, and readers ignore what they do not know. Lines that a live agent wrote carry ``seq``, the
order in which the meter took them, so that a replay takes them in the same order.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from inferwatt.errors import Unavailable
from inferwatt.recording_files import FILES, UNREADABLE, Record, Stream, opened, records_of, whole
from inferwatt.recording_lines import known_fields, mended
from inferwatt.records import Device, Engine, Event, EventKind, Fit, Model

__all__ = ["FILES", "FORMAT", "Meta", "Record", "Recording", "RecordingWriter", "read", "stream", "write", "write_meta"]
FORMAT = "inferwatt-recording/1"


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
    """A recording: what it says of itself, and its records in the order in which a meter takes them."""

    meta: Meta
    records: Iterable[Record]
    """Again and again the same."""
    live: bool
    """Whether an agent wrote it, with the order of arrival."""
    rejected: list[str] = field(default_factory=list)
    """Lines that could not be read, as `file line: reason`: all of them, once all records were taken."""
    loaded_later: frozenset[str] = frozenset()
    """Engines of which it tells when their model was loaded: it was not before."""


def read(folder: Path) -> Recording:
    """Read a recording into memory.

    Raises:
        Unavailable: there is no recording in `folder`, or its meta.json cannot be read.
    """
    recording = stream(folder)
    recording.records = list(recording.records)
    return recording


def stream(folder: Path) -> Recording:
    """Read a recording whose records are read when they are asked for, so that a large one needs no memory.

    Raises:
        Unavailable: there is no recording in `folder`, or its meta.json cannot be read.
    """
    meta = _read_meta(folder)
    records = Stream(folder)
    return Recording(meta, records, records.live, records.rejected, _loaded_later(folder))


def _loaded_later(folder: Path) -> frozenset[str]:
    """Return the engines of which the first thing told is that their model was loaded."""
    first: dict[str, EventKind] = {}
    told = [event for event, _ in records_of(folder, "events", Event, []) if isinstance(event, Event)]
    for event in sorted(told, key=lambda event: event.t_ns):
        if event.kind in {EventKind.MODEL_LOAD, EventKind.MODEL_UNLOAD}:
            first.setdefault(event.engine, event.kind)
    return frozenset(engine for engine, kind in first.items() if kind is EventKind.MODEL_LOAD)


def _read_meta(folder: Path) -> Meta:
    found = opened(folder, "meta.json")
    if found is None:
        raise Unavailable("no recording here: it has no meta.json", where=folder, fix="inferwatt record FOLDER")
    try:
        with found:
            return _meta_from(msgspec.json.decode(whole(found), type=dict[str, Any]))
    except (msgspec.MsgspecError, TypeError, AttributeError, KeyError, ValueError, *UNREADABLE) as exc:
        raise Unavailable(
            f"cannot read the recording: {exc}", where=folder / "meta.json", fix="check it against docs/recordings.md"
        ) from exc


def _meta_from(raw: Mapping[str, Any]) -> Meta:
    if raw.get("format") != FORMAT:
        raise ValueError(f"its format is {raw.get('format')!r}, not {FORMAT!r}")

    def rows(section: str, key: str, kind: type[Any]) -> tuple[Any, ...]:
        named = ({"model": "", **(row or {}), key: name} for name, row in (raw.get(section) or {}).items())
        return tuple(msgspec.convert(mended(row, kind), kind) for row in named)

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
        if opened(folder, "meta.json") is not None:
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
