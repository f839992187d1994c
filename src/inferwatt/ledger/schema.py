"""The ledger's tables as data, and how a record becomes a row and comes back. Pure.

What repeats from row to row is stored once and named by number: 190 bytes a row where the plain text took 295. `who` is
one table (producer, engine, server, model, tenant, where it was served, tags), `fit` another, because a new fit would
else repeat every `who`. Hashes are made over the text, so a changed `who` or `fit` breaks the chain.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

from inferwatt.ledger.chain import content_bytes, content_hash
from inferwatt.ledger.rows import REQUEST_ACCOUNT, HourKey, HourValue, RequestRow
from inferwatt.records import Component, Ending, EnergyPart, Outcome, Provenance, Request, RequestEnergy, Tier
from inferwatt.units import NS_PER_SECOND

HOUR_SECONDS: Final = 3600
NS_PER_HOUR: Final = HOUR_SECONDS * NS_PER_SECOND
PPM: Final = 1_000_000

WHO_COLUMNS: Final = ("producer", "engine", "server", "model", "tenant", "namespace", "pod", "container", "tags")
TEXT_COLUMNS: Final = ("request", "response_id", "trace_id", "outcome", "ending", "tier", "units")
INT_COLUMNS: Final = (
    "arrival_ns", "first_token_ns", "end_ns", "arrival_unix_ns", "end_unix_ns",
    "prompt_tokens", "cached_tokens", "output_tokens", "recomputed_tokens", "rejected_tokens", "wasted_tokens",
    "queued_ns", "corrects",
)  # fmt: skip
PART_TEXT_COLUMNS: Final = ("component", "provenance")
PART_INT_COLUMNS: Final = ("prefill_uj", "decode_uj", "low_uj", "high_uj", "systematic_ppm")
PART_DETAIL_COLUMNS: Final = ("shared_uj", "context_uj", "recomputed_uj", "wasted_uj", "marginal_uj")


def _columns(names: Iterable[str], kind: str) -> str:
    return ", ".join(f"{name} {kind}" for name in names)


def _immutable(table: str) -> tuple[str, str]:
    """Return the triggers that refuse changes; request and part rows may go through the gate of retention.

    The gate is a row that retention raises and lowers inside its own transaction, so it is never seen open by others.
    """
    gated = {"request": "old.seq", "part": "old.request"}.get(table)
    when = f"WHEN {gated} > (SELECT through FROM gate) " if gated else ""
    refuse = "BEGIN SELECT raise(ABORT, 'ledger rows are immutable: write a correction'); END"
    return (
        f"CREATE TRIGGER {table}_never_changes BEFORE UPDATE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_stays BEFORE DELETE ON {table} {when}{refuse}",
    )


STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE epoch(id INTEGER PRIMARY KEY, agent TEXT NOT NULL, boot_id TEXT NOT NULL, version TEXT NOT NULL,"
        " config_hash TEXT NOT NULL, unix_ns INTEGER NOT NULL, monotonic_ns INTEGER NOT NULL)",
        "CREATE TABLE clock(epoch INTEGER NOT NULL, monotonic_ns INTEGER NOT NULL, unix_ns INTEGER NOT NULL,"
        " note TEXT NOT NULL)",
        "CREATE TABLE batch(seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, kind TEXT NOT NULL, first_row INTEGER"
        " NOT NULL, last_row INTEGER NOT NULL, count INTEGER NOT NULL, sum_uj INTEGER NOT NULL, content_hash BLOB"
        " NOT NULL, prev_hash BLOB NOT NULL, hash BLOB NOT NULL, unix_ns INTEGER NOT NULL)",
        f"CREATE TABLE who(id INTEGER PRIMARY KEY, {_columns(WHO_COLUMNS, 'TEXT NOT NULL')},"
        f" UNIQUE({', '.join(WHO_COLUMNS)}))",
        "CREATE TABLE fit(id INTEGER PRIMARY KEY, fit TEXT NOT NULL UNIQUE)",
        "CREATE TABLE request(seq INTEGER PRIMARY KEY, batch INTEGER NOT NULL, who INTEGER NOT NULL,"
        f" fit INTEGER NOT NULL, {_columns(TEXT_COLUMNS, 'TEXT NOT NULL')}, {_columns(INT_COLUMNS, 'INTEGER')})",
        "CREATE UNIQUE INDEX request_corrects ON request(corrects) WHERE corrects IS NOT NULL",
        "CREATE TABLE part(request INTEGER NOT NULL, position INTEGER NOT NULL,"
        f" {_columns(PART_TEXT_COLUMNS, 'TEXT NOT NULL')}, {_columns(PART_INT_COLUMNS, 'INTEGER NOT NULL')},"
        f" {_columns(PART_DETAIL_COLUMNS, 'INTEGER')},"
        " PRIMARY KEY(request, position)) WITHOUT ROWID",
        "CREATE TABLE alias(key INTEGER NOT NULL, request INTEGER NOT NULL, PRIMARY KEY(key, request)) WITHOUT ROWID",
        "CREATE TABLE hour(hour_unix INTEGER NOT NULL, server TEXT NOT NULL, model TEXT NOT NULL, tenant TEXT NOT NULL,"
        " component TEXT NOT NULL, provenance TEXT NOT NULL, account TEXT NOT NULL, energy_uj INTEGER NOT NULL,"
        " prefill_uj INTEGER NOT NULL, split_uj2 REAL NOT NULL, systematic_uj REAL NOT NULL, requests INTEGER NOT NULL,"
        " prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,"
        f" PRIMARY KEY({', '.join(HourKey._fields)})) WITHOUT ROWID",
        "CREATE TABLE device_hour(hour_unix INTEGER NOT NULL, device TEXT NOT NULL, domain TEXT NOT NULL, provenance"
        " TEXT NOT NULL, energy_uj INTEGER NOT NULL, PRIMARY KEY(hour_unix, device, domain, provenance)) WITHOUT ROWID",
        "CREATE TABLE device_state(device TEXT PRIMARY KEY, boot_id TEXT NOT NULL, counter_uj INTEGER NOT NULL,"
        " t_ns INTEGER NOT NULL, wraps_at_uj INTEGER) WITHOUT ROWID",
        "CREATE TABLE counter(family TEXT NOT NULL, labels TEXT NOT NULL, value NOT NULL, PRIMARY KEY(family, labels))"
        " WITHOUT ROWID",
        "CREATE TABLE histogram(family TEXT NOT NULL, labels TEXT NOT NULL, counts TEXT NOT NULL, sum REAL NOT NULL,"
        " PRIMARY KEY(family, labels)) WITHOUT ROWID",
        "CREATE TABLE gate(through INTEGER NOT NULL)",
        "INSERT INTO gate VALUES(0)",
        *(trigger for table in ("request", "part", "batch", "who", "fit", "epoch") for trigger in _immutable(table)),
    ),
)
"""`STEPS[n]` takes a ledger of schema version n to n + 1; a new file is version 0."""

VERSION: Final = len(STEPS)

INSERT_REQUEST: Final = f"INSERT INTO request VALUES({', '.join('?' * (4 + len(TEXT_COLUMNS) + len(INT_COLUMNS)))})"
_PART_COLUMNS: Final = (*PART_TEXT_COLUMNS, *PART_INT_COLUMNS, *PART_DETAIL_COLUMNS)
INSERT_PART: Final = f"INSERT INTO part VALUES({', '.join('?' * (2 + len(_PART_COLUMNS)))})"
INSERT_BATCH: Final = f"INSERT INTO batch VALUES({', '.join('?' * 11)})"
INSERT_WHO: Final = f"INSERT OR IGNORE INTO who VALUES(NULL, {', '.join('?' * len(WHO_COLUMNS))})"
SELECT_WHO: Final = f"SELECT id FROM who WHERE {' AND '.join(f'{name} = ?' for name in WHO_COLUMNS)}"
INSERT_FIT: Final = "INSERT OR IGNORE INTO fit VALUES(NULL, ?)"
SELECT_FIT: Final = "SELECT id FROM fit WHERE fit = ?"
ADD_HOUR: Final = (
    f"INSERT INTO hour VALUES({', '.join('?' * (len(HourKey._fields) + len(HourValue._fields)))}) "
    f"ON CONFLICT({', '.join(HourKey._fields)}) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in HourValue._fields)
)
ADD_DEVICE_HOUR: Final = (
    "INSERT INTO device_hour VALUES(?, ?, ?, ?, ?) ON CONFLICT(hour_unix, device, domain, provenance)"
    " DO UPDATE SET energy_uj = energy_uj + excluded.energy_uj"
)
SET_COUNTER: Final = (  # whatever a caller says, a counter never falls
    "INSERT INTO counter VALUES(?, ?, ?) ON CONFLICT(family, labels) DO UPDATE SET value = max(value, excluded.value)"
)
SET_HISTOGRAM: Final = "INSERT OR REPLACE INTO histogram VALUES(?, ?, ?, ?)"
SET_DEVICE_STATE: Final = "INSERT OR REPLACE INTO device_state VALUES(?, ?, ?, ?, ?)"
SELECT_ROWS: Final = (
    f"SELECT r.seq, r.batch, {', '.join(f'w.{name}' for name in WHO_COLUMNS)},"
    f" {', '.join(f'r.{name}' for name in TEXT_COLUMNS)}, f.fit, {', '.join(f'r.{name}' for name in INT_COLUMNS)}"
    " FROM request r JOIN who w ON w.id = r.who JOIN fit f ON f.id = r.fit "
)
SELECT_PARTS: Final = f"SELECT request, position, {', '.join(_PART_COLUMNS)} FROM part "

HourSums = dict[tuple[Any, ...], list[Any]]
"""The values of `HourKey` to those of `HourValue`, as they are added up."""

_WHO = attrgetter(
    "request.producer", "request.engine", "server", "request.model", "request.tenant",
    "request.namespace", "request.pod", "request.container", "request.tags",
)  # fmt: skip
_FIELDS = attrgetter(
    "request.request", "request.response_id", "request.trace_id", "request.outcome", "request.ending", "energy",
    "request.units", "fit",
    "request.arrival_ns", "request.first_token_ns", "request.end_ns", "arrival_unix_ns", "end_unix_ns",
    "request.prompt_tokens", "request.cached_tokens", "request.output_tokens",
    "request.recomputed_tokens", "request.rejected_tokens", "request.wasted_tokens", "request.queued_ns", "corrects",
)  # fmt: skip
_TEXTS_AT: Final = 2
_INTS_AT: Final = _TEXTS_AT + len(WHO_COLUMNS) + len(TEXT_COLUMNS) + 1
"""Where the texts of a row of SELECT_ROWS begin (after its number and batch) and, after the fit, its integers."""
_LIMIT: Final = 2**53
"""Beyond it a request's energy (2.5 MWh) or tokens are a mistake, and their sums would leave 64 bits."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch's rows as columns, ready to be hashed and bound."""

    whos: list[tuple[str, ...]]
    fits: list[tuple[str, ...]]
    texts: list[Sequence[str]]
    ints: Sequence[Sequence[int | None]]
    parts: list[tuple[Any, ...]]
    content_hash: bytes
    sum_uj: int


def encode(rows: Sequence[RequestRow], first_row: int, batch: int) -> Encoded:
    """Turn at least one record into columns, numbered from `first_row`.

    Raises:
        UnicodeEncodeError: a text holds a lone surrogate.
        struct.error: an integer does not fit 64 bits.
    """
    whos = [(*who[:-1], tags_text(who[-1])) for who in map(_WHO, rows)]
    ids, responses, traces, outcomes, endings, energies, units, fits, *ints = zip(*map(_FIELDS, rows), strict=True)
    texts = [
        ids, responses, traces,
        ["" if outcome is None else outcome._value_ for outcome in outcomes],
        ["" if ending is None else ending._value_ for ending in endings],
        ["" if energy is None else energy.tier._value_ for energy in energies],
        [units_text(counts) for counts in units],
    ]  # fmt: skip
    parts = [
        part_row(seq, position, part)
        for seq, energy in enumerate(energies, first_row)
        if energy is not None
        for position, part in enumerate(energy.parts)
    ]
    seqs = range(first_row, first_row + len(rows))
    digest = _digest(
        [seqs, [batch] * len(rows), *zip(*whos, strict=True), *texts, fits, *ints], list(zip(*parts, strict=True))
    )
    return Encoded(
        whos, list(zip(fits, strict=True)), texts, ints, parts, digest, sum(row[4] + row[5] for row in parts)
    )


def stored_hash(rows: Sequence[tuple[Any, ...]], parts: Sequence[tuple[Any, ...]]) -> bytes:
    """Return the content hash of rows and parts as they were read back (SELECT_ROWS and SELECT_PARTS, in order)."""
    return _digest(list(zip(*rows, strict=True)), list(zip(*parts, strict=True)))


def _digest(rows: list[Any], parts: list[Any]) -> bytes:
    request_bytes = content_bytes(rows[_TEXTS_AT:_INTS_AT], [*rows[:_TEXTS_AT], *rows[_INTS_AT:]])
    part_bytes = content_bytes(parts[2:4], [*parts[:2], *parts[4:]])
    return content_hash(request_bytes, part_bytes)


def part_row(seq: int, position: int, part: EnergyPart) -> tuple[Any, ...]:
    """Return the row of one part of request row `seq`; the sensor's bound is kept in parts per million."""
    return (
        seq, position, part.component._value_, part.provenance._value_,
        part.prefill_uj, part.decode_uj, part.low_uj, part.high_uj, round(part.systematic_ratio * PPM),
        part.shared_uj, part.context_uj, part.recomputed_uj, part.wasted_uj, part.marginal_uj,
    )  # fmt: skip


def row_record(row: Sequence[Any], parts: Sequence[Sequence[Any]]) -> RequestRow:
    """Turn a row of SELECT_ROWS and its parts back into the record that was handed in."""
    seq, _, producer, engine, server, model, tenant, namespace, pod, container, tags, *texts = row[:_INTS_AT]
    request, response_id, trace_id, outcome, ending, tier, units, fit = texts
    arrival, first, end, arrival_unix, end_unix, prompt, cached, output, *more = row[_INTS_AT:]
    recomputed, rejected, wasted, queued, corrects = more
    energy = RequestEnergy(request, tuple(map(_part_record, parts)), Tier(tier), final=True) if tier else None
    return RequestRow(
        Request(
            request, engine, model, tenant, arrival, first, end, prompt, cached, output,
            Outcome(outcome) if outcome else None, (), recomputed, rejected, wasted,
            json.loads(tags), response_id, trace_id, producer, namespace, pod, container,
            json.loads(units) if units else {}, ending=Ending(ending) if ending else None, queued_ns=queued,
        ),
        energy, server, end_unix, arrival_unix, corrects, seq, fit,
    )  # fmt: skip


def _part_record(row: Sequence[Any]) -> EnergyPart:
    _, _, component, provenance, prefill_uj, decode_uj, low_uj, high_uj, ppm, *details = row
    kind = Component(component), Provenance(provenance)
    return EnergyPart(*kind, prefill_uj, decode_uj, low_uj, high_uj, ppm / PPM, *details)


def tags_text(tags: Mapping[str, str]) -> str:
    """Return tags as JSON with sorted keys: equal tags, equal text."""
    return _tags_text(tuple(tags.items())) if tags else "{}"


@lru_cache(maxsize=1024)
def _tags_text(tags: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(sorted(tags)), ensure_ascii=False, separators=(",", ":"))


def units_text(units: Mapping[str, int]) -> str:
    """Return counts of work as JSON with sorted keys; a row without any keeps an empty text."""
    return json.dumps(dict(sorted(units.items())), ensure_ascii=False, separators=(",", ":")) if units else ""


def labels_text(labels: Sequence[str] | Sequence[int]) -> str:
    """Return label values, or the counts of a histogram, as a JSON list."""
    return json.dumps(labels, separators=(",", ":"))


def roll_up(sums: HourSums, row: RequestRow, sign: int = 1) -> None:
    """Add a request to the hour in which it ended (or take it away, `sign` -1, where a correction replaces it).

    Raises:
        ValueError: an energy or a number of tokens is beyond all reason.
    """
    request, energy = row.request, row.energy
    where = (row.end_unix_ns // NS_PER_HOUR * HOUR_SECONDS, row.server, request.model, request.tenant)
    line: list[Any] | None = None
    for part in energy.parts if energy is not None else ():
        added = _line(sums, (*where, part.component._value_, part.provenance._value_, REQUEST_ACCOUNT))
        energy_uj = part.prefill_uj + part.decode_uj
        half_uj = (part.high_uj - part.low_uj) / 2
        if energy_uj > _LIMIT:
            raise ValueError(f"a request's energy is beyond all reason: {part}")
        added[0] += sign * energy_uj
        added[1] += sign * part.prefill_uj
        if part.provenance is Provenance.ESTIMATED:  # estimates share their causes: their bounds add up linearly
            added[3] += sign * half_uj
        else:
            added[2] += sign * half_uj * half_uj
            added[3] += sign * energy_uj * part.systematic_ratio
        line = line or added
    _count(line or _line(sums, (*where, "", "", REQUEST_ACCOUNT)), request, sign)


def _line(sums: HourSums, key: tuple[Any, ...]) -> list[Any]:
    line = sums.get(key)
    if line is None:
        line = sums[key] = [0, 0, 0.0, 0.0, 0, 0, 0, 0]
    return line


def _count(line: list[Any], request: Request, sign: int) -> None:
    prompt, cached, output = request.prompt_tokens or 0, request.cached_tokens or 0, request.output_tokens or 0
    if prompt > _LIMIT or cached > _LIMIT or output > _LIMIT:
        raise ValueError(f"a request's tokens are beyond all reason: {prompt}, {cached}, {output}")
    line[4] += sign
    line[5] += sign * prompt
    line[6] += sign * cached
    line[7] += sign * output
