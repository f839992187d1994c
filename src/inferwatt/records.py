"""What crosses between rooms: frozen records, and the words that every figure says about itself.

Standard library only, no I/O. Times are nanoseconds of CLOCK_MONOTONIC, energies integer microjoules, and a
field that is not known is None: an unknown is absent, never zero. The field names are those of the recording
format (recording.py) and of the wire (wire.py), so that a record is one thing everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

HOST = "host"
"""As the device of a `Usage` or an `Activity`: every CPU, DRAM and overhead device of the host alike."""
UNKNOWN_TENANT = "__unknown__"
REJECTED_DRAFT = "rejected_draft"
UNKNOWN_ENDING = "unknown"
FOLDED_TENANT = "__other__"


class Provenance(StrEnum):
    """Where a joule comes from, best first; figures of different provenance are never added silently."""

    MEASURED = "measured"
    SAMPLED = "sampled"
    REPORTED = "reported"
    MODELLED = "modelled"
    ESTIMATED = "estimated"
    SIMULATED = "simulated"


_PROVENANCE_RANK = {provenance: rank for rank, provenance in enumerate(Provenance)}


class Tier(StrEnum):
    """How much was known of who did what when a joule was split, best first."""

    STEP_EXACT = "step_exact"
    STEP_RECONSTRUCTED = "step_reconstructed"
    REQUEST_SPAN = "request_span"
    TOKEN_SHARE = "token_share"


TIER_RANK = {tier: rank for rank, tier in enumerate(Tier)}
"""0 is the best."""


class Rule(StrEnum):
    """How a tick is split: ours (shapley), or one of the simple rules that we compare with."""

    SHAPLEY = "shapley"
    OUTPUT_TOKENS = "output_tokens"
    ALL_TOKENS = "all_tokens"
    RESIDENCE = "residence"
    EQUAL = "equal"


class Phase(StrEnum):
    """The phase of a request's work."""

    PREFILL = "prefill"
    DECODE = "decode"


class Outcome(StrEnum):
    """How a request ended."""

    FINISHED = "finished"
    ABORTED = "aborted"
    FAILED = "failed"


class Ending(StrEnum):
    """What ended a request: also why tokens that were computed beyond its end are wasted."""

    EOS = "eos"
    """The model's end-of-sequence token, or another token at which it was to stop."""
    LENGTH = "length"
    STOP_STRING = "stop_string"
    DISCONNECT = "disconnect"
    ERROR = "error"
    OTHER = "other"

    @classmethod
    def _missing_(cls, _value: object) -> "Ending":
        """What a newer server or plugin calls otherwise."""
        return cls.OTHER


class Component(StrEnum):
    """Disjoint parts of a server: their sum is the comprehensive figure."""

    ACCELERATOR = "accelerator"
    CPU = "cpu"
    DRAM = "dram"
    OVERHEAD = "overhead"


@dataclass(frozen=True, slots=True)
class Device:
    """One thing whose energy is counted once: what it is, and how far its figures can be trusted.

    `systematic_ratio` is the 90% bound of the sensor's or model's gain, shared by every request of the device.
    `domain` is what the counter covers (gpu, module, package, dram, psys), disjoint between devices.
    `idle_watts` is set only where the source knows it (a power model), and is learnt elsewhere.
    """

    device: str
    kind: str = ""
    domain: str = "gpu"
    component: Component = Component.ACCELERATOR
    provenance: Provenance = Provenance.MEASURED
    systematic_ratio: float = 0.05
    peak_flops: float | None = None
    peak_bytes_per_second: float | None = None
    max_watts: float | None = None
    idle_watts: float | None = None
    vendor: str = ""
    model: str = ""
    driver: str = ""
    uuid: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """The shape of a language model, as far as it is known; FLOPs and bytes are per token of one sequence."""

    model: str
    weight_bytes: float | None = None
    flops_per_token: float | None = None
    attention_flops_per_token_pair: float | None = None
    kv_bytes_per_token: float | None = None
    experts: int | None = None
    experts_per_token: int | None = None
    expert_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Engine:
    """One serving engine: a model loaded on one or more devices. `server` is its configured name, else kind:port."""

    engine: str
    model: str
    devices: tuple[str, ...] = ()
    server: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """What was learnt of a model on a kind of device, to begin from another time (fits.json, and `fits` of meta.json).

    Rows of numbers, each in the order in which the part of the attribution that learnt it gives them.
    """

    model: str
    device_kind: str
    devices: int
    """How many such devices served it together."""
    shape: tuple[float, ...]
    """The model's shape, in the units of which the rest is told (attribution/work.py)."""
    energy: tuple[float, ...] = ()
    step_time: tuple[float, ...] = ()
    pace: tuple[float, ...] = ()
    lag_ns: int = 0
    window_ns: int = 0
    idle_watts: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server runs, as far as it is known: its pod's names, and its accelerators by the ids of their makers.

    `holds` are given to it and to nobody else; `sees` are all that it was allowed to see, others may use them too.
    """

    namespace: str = ""
    pod: str = ""
    container: str = ""
    holds: tuple[str, ...] = ()
    sees: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, str, str]:
        """Its namespace, pod and container."""
        return self.namespace, self.pod, self.container


NOWHERE = Place()
"""Nothing is known of where a server runs."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One poll of one device: a cumulative counter in µJ, or a power in mW where there is no counter."""

    t_ns: int
    device: str
    counter_uj: int | None = None
    power_mw: int | None = None
    wraps_at_uj: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a device's capacity each watched process held from `t0_ns` to `t1_ns` (ratios 0 to 1).

    `shares` maps pid to ratio, `other_ratio` is every process that is not watched, `unknown_ratio` is use that
    cannot be told apart, and the rest was unused. An accelerator names each process that holds it, if only at 0.
    """

    t0_ns: int
    t1_ns: int
    device: str
    shares: Mapping[int, float]
    other_ratio: float
    unknown_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Condition:
    """How a device is beside its energy; context for people and for alarms, never part of a sum.

    `throttled_ns` is cumulative by reason. A change of `power_limit_watts` begins a new regime.
    """

    t_ns: int
    device: str
    utilization_ratio: float | None = None
    clock_hertz: float | None = None
    temperature_celsius: float | None = None
    power_limit_watts: float | None = None
    throttled_ns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Activity:
    """`Usage` after pids were joined with engines: who held a device from `t0_ns` to `t1_ns` (activity.jsonl)."""

    t0_ns: int
    t1_ns: int
    device: str
    shares: Mapping[str, float]
    other_ratio: float
    unknown_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One engine step and its members: (request, new tokens, context tokens before the step, phase)."""

    t0_ns: int
    t1_ns: int
    engine: str
    members: tuple[tuple[str, int, int, Phase], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What is known of one request; open while `end_ns` is None. A later record of the same request replaces it.

    `prompt_tokens` counts the whole prompt, `cached_tokens` the part of it that was not computed. `request` is the
    internal id, unique per producer; `response_id` and `trace_id` are what others call it.
    `namespace`, `pod` and `container` are where it was served; `units` is work that is not tokens (`{"images": 2}`).
    `provider` is the managed API that served it: no device here did, its joules are estimated.
    `traceparent` is its caller's span, as the W3C's header has it; the ledger does not keep it.
    `queued_ns` is how long it waited at its server before anything of it was computed, where the server says so.
    """

    request: str
    engine: str = ""
    model: str = ""
    tenant: str = UNKNOWN_TENANT
    arrival_ns: int = 0
    first_token_ns: int | None = None
    end_ns: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    outcome: Outcome | None = None
    chunk_ns: tuple[int, ...] = ()
    recomputed_tokens: int | None = None
    rejected_tokens: int | None = None
    wasted_tokens: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    response_id: str = ""
    trace_id: str = ""
    producer: str = ""
    namespace: str = ""
    pod: str = ""
    container: str = ""
    units: Mapping[str, int] = field(default_factory=dict)
    provider: str = ""
    traceparent: str = ""
    ending: Ending | None = None
    queued_ns: int | None = None

    @property
    def begun_ns(self) -> int:
        """Before when nothing of it was computed: its arrival, and what it waited as its server says."""
        return self.arrival_ns + (self.queued_ns or 0)

    @property
    def thrown_away(self) -> dict[str, int]:
        """Tokens that were computed and that nobody got, by reason: how the request ended, or a rejected draft."""
        found = {REJECTED_DRAFT: self.rejected_tokens, self.ending or UNKNOWN_ENDING: self.wasted_tokens}
        return {str(reason): tokens for reason, tokens in found.items() if tokens}


@dataclass(frozen=True, slots=True)
class Observed:
    """What a server's own histogram gained: `counts` of each bucket alone, the last above all `bounds`; their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Sums:
    """What a server itself counted from `t0_ns` to `t1_ns`, from its own metrics page (sums.jsonl).

    `prompt_tokens` are the computed ones, `cached_tokens` the reused ones; `running` is a gauge at `t1_ns`.
    `units` is work that is not told in tokens (`{"inferences": 2}`); `latencies` are by what they measure
    (`first_token_seconds`, `inter_token_seconds`, `queue_seconds`).

    Where a server tells its passes, such a record is of them alone, and `steps` is known: how many there were (of all
    data-parallel ranks), and summed over them the `prefill_tokens` computed, the `decode_requests` that had a token
    each or more, the `context_tokens` in these requests' KV cache, and the device's time (`passes_ns`). `lost_passes`
    are at most so many that are in none of these sums.
    """

    t0_ns: int
    t1_ns: int
    engine: str
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    running: int | None = None
    waiting: int | None = None
    units: Mapping[str, int] = field(default_factory=dict)
    latencies: Mapping[str, Observed] = field(default_factory=dict)
    steps: int | None = None
    prefill_tokens: int | None = None
    decode_requests: int | None = None
    context_tokens: int | None = None
    passes_ns: int | None = None
    lost_passes: int | None = None


class EventKind(StrEnum):
    """What happened that is not a reading or work (events.jsonl)."""

    MODEL_LOAD = "model_load"
    MODEL_UNLOAD = "model_unload"
    READ_FAILURE = "read_failure"
    DEVICE_GONE = "device_gone"
    CLOCK_STEP = "clock_step"
    REGIME = "regime"
    BEAT = "beat"
    """Time went on although no device was read."""
    # found by the timeline from the readings themselves:
    WRAP = "wrap"
    RESET = "reset"
    STALL = "stall"
    LATE = "late"
    # found by the residual: the devices seem to use more than the server that feeds them
    NEGATIVE_RESIDUAL = "negative_residual"


@dataclass(frozen=True, slots=True)
class Event:
    """One event at `t_ns`, about a device or an engine (the other is empty)."""

    t_ns: int
    kind: EventKind
    device: str = ""
    engine: str = ""
    detail: str = ""


_DETAILS = ("shared", "context", "recomputed", "wasted", "marginal")


@dataclass(frozen=True, slots=True)
class EnergyPart:
    """A request's energy in one component of one provenance, with the 90% interval of the split.

    What it is made of, where that is known (None else): `shared_uj` is this request's equal part of what all members of
    its steps need together, `context_uj` is for its KV cache, `recomputed_uj` for tokens that were computed before and
    lost, `wasted_uj` for tokens that nobody got. `marginal_uj` is no part of it: what would have been used less had the
    request not been there, the figure for routing and scaling where the energy is the one for billing.
    """

    component: Component
    provenance: Provenance
    prefill_uj: int
    decode_uj: int
    low_uj: int
    high_uj: int
    systematic_ratio: float
    shared_uj: int | None = None
    context_uj: int | None = None
    recomputed_uj: int | None = None
    wasted_uj: int | None = None
    marginal_uj: int | None = None

    @property
    def energy_uj(self) -> int:
        """Prefill and decode together, µJ."""
        return self.prefill_uj + self.decode_uj

    @property
    def details_uj(self) -> dict[str, int]:
        """What of `_DETAILS` is known, µJ; they overlap: a recomputed token has a context too."""
        return {name: uj for name in _DETAILS if (uj := getattr(self, f"{name}_uj")) is not None}


@dataclass(frozen=True, slots=True)
class RequestEnergy:
    """The joules of one request, by component and provenance; `final` figures never change."""

    request: str
    parts: tuple[EnergyPart, ...]
    tier: Tier
    final: bool

    @property
    def energy_uj(self) -> int:
        """All components together, µJ; look at `provenance` before you use it."""
        return sum(part.energy_uj for part in self.parts)

    @property
    def prefill_uj(self) -> int:
        """Prefill of all components, µJ."""
        return sum(part.prefill_uj for part in self.parts)

    @property
    def decode_uj(self) -> int:
        """Decode of all components, µJ."""
        return sum(part.decode_uj for part in self.parts)

    @property
    def low_uj(self) -> int:
        """Lower end of the split's 90% interval, µJ, summed linearly over components."""
        return sum(part.low_uj for part in self.parts)

    @property
    def high_uj(self) -> int:
        """Upper end of the split's 90% interval, µJ, summed linearly over components."""
        return sum(part.high_uj for part in self.parts)

    @property
    def is_unsure(self) -> bool:
        """Whether the split could have come out otherwise by much: its interval is wider than its energy's half."""
        return self.high_uj - self.low_uj > self.energy_uj / 2

    @property
    def details_uj(self) -> dict[str, int]:
        """The details of all components together, µJ; what is not known of each component is not there."""
        each = [part.details_uj for part in self.parts]
        known = [name for name in _DETAILS if each and all(name in details for details in each)]
        return {name: sum(details[name] for details in each) for name in known}

    @property
    def provenance(self) -> Provenance | None:
        """The weakest provenance among the parts: a sum is only as good as its worst part."""
        return max((part.provenance for part in self.parts), key=_PROVENANCE_RANK.__getitem__, default=None)

    @property
    def systematic_ratio(self) -> float:
        """The 90% bound of the sensors, as a ratio of the whole: parts add linearly."""
        total_uj = self.energy_uj
        if total_uj == 0:
            return max((part.systematic_ratio for part in self.parts), default=0.0)
        return sum(part.energy_uj * part.systematic_ratio for part in self.parts) / total_uj
