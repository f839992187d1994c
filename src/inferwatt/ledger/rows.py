"""What is handed to the ledger and read from it. Pure.

A request is booked once, under (producer, internal id), in the hour in which it ended. Energies are integer
microjoules. The two parts of an uncertainty are kept apart because they add up differently: the split's 90%
half-widths by the root of the sum of squares, the sensor's bound linearly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from inferwatt.records import Request, RequestEnergy
from inferwatt.snapshot import HistogramValue, Labels

REQUEST_ACCOUNT = "request"
"""The account of the hourly roll-up that the ledger fills itself, from the rows of the same transaction."""


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One ended request with its joules; `energy` is None where they are not known (absent, never zero).

    `corrects` is the `seq` of the row that this one replaces: rows are immutable, so a correction is a new row.
    `seq` is given by the ledger. `fit` names the fit of the cost model that made the figures, of an estimate the
    method and what a kWh emits (if that was said), empty where none did.
    `request.chunk_ns` is not kept.
    """

    request: Request
    energy: RequestEnergy | None
    server: str
    end_unix_ns: int
    arrival_unix_ns: int | None = None
    corrects: int | None = None
    seq: int | None = None
    fit: str = ""


def standing(rows: Sequence[RequestRow]) -> list[RequestRow]:
    """Return the rows without those that a correction among them replaces."""
    replaced = {row.corrects for row in rows}
    return [row for row in rows if row.seq not in replaced]


class RequestKey(NamedTuple):
    """What names a request for good: its producer's uuid and the producer's internal id."""

    producer: str
    request: str


class HourKey(NamedTuple):
    """One line of the hourly roll-up; `account` is `request` or an account such as `idle_resident` or `other`."""

    hour_unix: int
    server: str
    model: str
    tenant: str
    component: str
    provenance: str
    account: str


class HourValue(NamedTuple):
    """Sums of one hour. Decode is `energy_uj - prefill_uj`.

    `split_uj2` is the sum of squared 90% half-widths, `systematic_uj` the linear sum of the sensor's bounds.
    Requests and tokens are counted once, on the line of the request's first part: a sum over lines is right.
    """

    energy_uj: int
    prefill_uj: int = 0
    split_uj2: float = 0.0
    systematic_uj: float = 0.0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


class DeviceHourKey(NamedTuple):
    """One line of the devices' hourly roll-up."""

    hour_unix: int
    device: str
    domain: str
    provenance: str


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The last counter seen of a device, so that the gap of a restart is bridged and booked once."""

    device: str
    boot_id: str
    counter_uj: int
    t_ns: int
    wraps_at_uj: int | None = None


@dataclass(frozen=True, slots=True)
class ClockPair:
    """Monotonic and UTC time read together; `note` says why (a step of the wall clock, a resume)."""

    monotonic_ns: int
    unix_ns: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class LedgerBatch:
    """What one transaction writes: all of it or nothing.

    `hours` and `device_hours` are increments; `hours` never holds the `request` account, which the ledger adds up
    from `rows` itself, so that a duplicate cannot be counted. `counters` and `histograms` are absolute values of what
    changed (exemplars are not kept).
    """

    rows: Sequence[RequestRow] = ()
    hours: Mapping[HourKey, HourValue] = field(default_factory=dict)
    device_hours: Mapping[DeviceHourKey, int] = field(default_factory=dict)
    counters: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)
    histograms: Mapping[str, Mapping[Labels, HistogramValue]] = field(default_factory=dict)
    device_states: Sequence[DeviceState] = ()
    clock_pair: ClockPair | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did: `batch` is the new head's number (None without rows); the other rows were left out.

    `duplicates` were in the ledger already; `rejected` cannot be stored (lone surrogates, integers beyond 64 bits, a
    correction of a row that is not there) and would fail again.
    """

    batch: int | None
    rows: int
    duplicates: tuple[RequestKey, ...] = ()
    rejected: tuple[RequestKey, ...] = ()


class BatchKind(StrEnum):
    """What a link of the chain says: rows were added, or retention dropped rows."""

    ROWS = "rows"
    RETENTION = "retention"


class Epoch(NamedTuple):
    """One run of one agent on one boot with one configuration: what its monotonic times mean, who wrote its rows."""

    id: int
    agent: str
    boot_id: str
    version: str
    config_hash: str
    unix_ns: int
    monotonic_ns: int


class Head(NamedTuple):
    """The end of the chain: publish it elsewhere, and a cut tail or a rebuilt chain can be proven."""

    batch: int
    hash: bytes


class Batch(NamedTuple):
    """One link of the chain, as stored. Rows `first_row` to `last_row` were added, or dropped by retention."""

    seq: int
    epoch: int
    kind: str
    first_row: int
    last_row: int
    rows: int
    sum_uj: int
    content_hash: bytes
    prev_hash: bytes
    hash: bytes
    unix_ns: int


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a walk over the chain found; `broken_batch` is the first link that does not hold, `reason` says why."""

    ok: bool
    batches: int
    rows: int
    dropped_rows: int
    head: Head | None
    broken_batch: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one call of retention dropped; `more` asks for another call soon (each is kept short)."""

    rows: int
    hours: int
    more: bool


@dataclass(frozen=True, slots=True)
class ProvenanceSum:
    """Energy of one provenance with its two bounds (90%): never added to another provenance silently."""

    provenance: str
    energy_uj: int
    prefill_uj: int
    split_uj: float
    systematic_uj: float


@dataclass(frozen=True, slots=True)
class TenantSum:
    """One tenant over a span of hours, from the roll-ups."""

    tenant: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    energies: tuple[ProvenanceSum, ...]
