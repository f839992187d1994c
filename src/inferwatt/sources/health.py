"""How sampling goes, in immutable records that any thread may read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """One device of the sampler: `up` is a device whose last read worked, `stale` one whose read hangs."""

    device: str
    source: str
    up: bool
    stale: bool
    samples: int
    lost: int
    hung: int


@dataclass(frozen=True, slots=True)
class SamplerHealth:
    """How sampling goes: the sources; beats made, missed, and ended by an error of who takes the records."""

    sources: tuple[SourceHealth, ...]
    beats: int
    missed_beats: int
    errors: int
    hz: float
    running: bool
