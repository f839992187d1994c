"""What is shown: one immutable snapshot, made by the books and read by every exporter, page and table. Pure.

Computation stops here: an exporter formats what it finds and never adds up. Energies are integer microjoules
in `Snapshot.values` (the catalogue says how each family is scaled on the wire) and joules in the live views.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Labels = tuple[str, ...]
"""Label values, in the order in which the catalogue names the labels of the family."""
EXEMPLAR_ID_CHARACTERS = 64
"""Of a request's name as an exemplar has it: the answer's id, else the internal one."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One observation that a histogram bucket can point at."""

    value: float
    unix_seconds: float
    request_id: str
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """Observations per bucket (not cumulative; the last is above all bounds), their sum, and exemplars by bucket."""

    counts: tuple[int, ...]
    sum: float
    exemplars: Mapping[int, Exemplar]


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device's power now and energy since the start of this agent; `stale` when it stopped answering."""

    device: str
    domain: str
    component: str
    provenance: str
    systematic_ratio: float
    power_watts: float | None
    energy_joules: float
    stale: bool


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model on one server in one provenance, since the agent's start.

    `power_watts` and `output_tokens_per_second` are means of the last `window_seconds`. Joules per output token are
    those of ended requests, and of unlisted work: the tokens of an open request are not known yet.
    `low_joules_per_output_token` and `high_...` hold the split's and the sensor's bounds together.
    """

    model_name: str
    server: str
    provenance: str
    window_seconds: float
    power_watts: float | None
    output_tokens_per_second: float
    joules_per_output_token: float | None
    low_joules_per_output_token: float | None
    high_joules_per_output_token: float | None
    energy_joules: float
    prefill_joules: float
    decode_joules: float
    idle_joules: float
    unlisted_joules: float
    systematic_ratio: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    requests: int
    open_requests: int


@dataclass(frozen=True, slots=True)
class TenantView:
    """One tenant's energy in one provenance since the agent's start, with both bounds together."""

    tenant: str
    provenance: str
    energy_joules: float
    low_joules: float
    high_joules: float
    systematic_ratio: float
    requests: int
    output_tokens: int
    joules_per_output_token: float | None


@dataclass(frozen=True, slots=True)
class RequestView:
    """One ended request; low and high are the split's 90% interval, `systematic_ratio` the sensor's, apart.

    `details` are joules by what they went for, as far as that is known, and `marginal_joules`. `unsure` is a split that
    could have come out otherwise by much. `thrown_away_tokens` were computed and nobody got them, by reason.
    `namespace`, `pod` and `container` are its server's.
    """

    request: str
    response_id: str
    model_name: str
    server: str
    tenant: str
    end_unix_seconds: float
    duration_seconds: float
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    energy_joules: float | None
    prefill_joules: float | None
    decode_joules: float | None
    low_joules: float | None
    high_joules: float | None
    systematic_ratio: float | None
    tier: str
    provenance: str
    outcome: str
    tags: Mapping[str, str]
    trace_id: str = ""
    details: Mapping[str, float] = field(default_factory=dict)
    unsure: bool = False
    recomputed_tokens: int | None = None
    rejected_tokens: int | None = None
    wasted_tokens: int | None = None
    ending: str = ""
    thrown_away_tokens: Mapping[str, int] = field(default_factory=dict)
    queue_seconds: float | None = None
    namespace: str = ""
    pod: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True)
class AccountView:
    """Where every joule of one provenance went since the agent's start: the parts sum to what the devices used."""

    provenance: str
    prefill_joules: float
    decode_joules: float
    unlisted_joules: float
    idle_joules: float
    other_joules: float
    unattributed_joules: float


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that is not there: what, and the one command that would help (`fix`).

    `source` is which source lacks it, `component` the part of the server that it would measure better.
    """

    what: str
    where: str
    fix: str
    source: str = ""
    component: str = ""


@dataclass(frozen=True, slots=True)
class EngineView:
    """A server in which our plugin is, its version, and the best tier that its requests can have."""

    server: str
    kind: str
    version: str
    tier: str


@dataclass(frozen=True, slots=True)
class LiveView:
    """What the page and the terminal show: `requests` are the last ones, newest first, of `requests_ended` in all."""

    unix_seconds: float
    started_unix_seconds: float
    version: str
    host: str
    devices: tuple[DeviceView, ...]
    models: tuple[ModelView, ...]
    tenants: tuple[TenantView, ...]
    requests: tuple[RequestView, ...]
    lacks: tuple[Lack, ...]
    accounts: tuple[AccountView, ...]
    requests_ended: int = 0
    engines: tuple[EngineView, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything there is to show at one moment; families by their catalogue name."""

    values: Mapping[str, Mapping[Labels, float]]
    histograms: Mapping[str, Mapping[Labels, HistogramValue]]
    live: LiveView
