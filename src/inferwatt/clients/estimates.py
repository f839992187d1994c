"""What an estimate is, and what is asked: shapes, work, figures with 90% intervals and how they add up. Pure.

An estimate is never a measurement: its provenance is `estimated`, its joules are families of metrics of their own,
and nothing conserves them. Intervals are ratios, so they live in logarithms: independent causes add as roots of sums
of squares of their logarithms, parts of one request linearly, because they share their causes.
"""

from dataclasses import dataclass
from math import exp, hypot, log

from inferwatt.records import Phase, Provenance


@dataclass(frozen=True, slots=True)
class Figure:
    """A positive quantity and its 90% interval."""

    value: float
    low: float
    high: float

    def __add__(self, other: "Figure") -> "Figure":
        """Add what shares its causes: ends to ends."""
        return Figure(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, factor: "Figure") -> "Figure":
        """Multiply by what is independent: the logarithms of the ends as roots of squares."""
        value = self.value * factor.value
        down = hypot(log(self.value / self.low), log(factor.value / factor.low))
        up = hypot(log(self.high / self.value), log(factor.high / factor.value))
        return Figure(value, value * exp(-down), value * exp(up))

    def scaled(self, factor: float) -> "Figure":
        """Multiply by what is exact."""
        return Figure(self.value * factor, self.low * factor, self.high * factor)


def between(low: float, high: float) -> Figure:
    """Return the figure of which only the ends of its interval are known: its value is their geometric mean."""
    return Figure((low * high) ** 0.5, low, high)


def within(value: float, ratio: float) -> Figure:
    """Return the figure that may be `ratio` times as much or as little."""
    return Figure(value, value / ratio, value * ratio)


@dataclass(frozen=True, slots=True)
class Shape:
    """A model as estimates see it: parameters in 1e9, bits per weight, each as the ends of a 90% interval.

    `source` says where the figures are from; `assumed` that they are somebody's assumption and not the maker's word;
    `known` is False where the model is in no registry: the interval is then that of any model.
    """

    model: str
    active_billions: Figure
    total_billions: Figure
    weight_bits: Figure
    source: str
    assumed: bool = False
    known: bool = True
    retired: bool = False

    @property
    def weight_gigabytes(self) -> Figure:
        """The weights, 1e9 bytes; total parameters and bits at their ends together."""
        value = self.total_billions.value * self.weight_bits.value / 8
        low = self.total_billions.low * self.weight_bits.low / 8
        return Figure(value, low, self.total_billions.high * self.weight_bits.high / 8)


@dataclass(frozen=True, slots=True)
class Work:
    """What is known of one request, in the words of `records.Request`; None is not known.

    `prompt_tokens` counts the whole prompt, `cached_tokens` the part that was read from a cache; `output_tokens`
    counts reasoning too, `reasoning_tokens` is that part of it. `seconds` is from the request to its last token,
    `first_token_seconds` to its first. `batch` is the mean number of requests that the server runs at once,
    `gpus` and `gpu_kind` (H100, B200) what one replica runs on.
    """

    prompt_tokens: float | None = None
    cached_tokens: float | None = None
    output_tokens: float | None = None
    reasoning_tokens: float | None = None
    seconds: float | None = None
    first_token_seconds: float | None = None
    batch: float | None = None
    gpus: int | None = None
    gpu_kind: str = ""

    def __post_init__(self) -> None:
        """Refuse what no request can be.

        Raises:
            ValueError: a number is negative or no number, or neither prompt nor output is known.
        """
        for name in ("prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value}, must be a number of tokens, 0 or more")
        for name in ("batch", "gpus"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}, must be more than 0")
        if self.prompt_tokens is None and not self.output_tokens:
            raise ValueError("prompt_tokens is not known and there is no output: there is nothing to estimate from")

    @property
    def cached(self) -> float:
        """Cached tokens, never more than the prompt."""
        return min(self.cached_tokens or 0, self.prompt_tokens or 0)

    @property
    def computed(self) -> float:
        """Prompt tokens that are computed: one at least, from which the first output token comes."""
        return max((self.prompt_tokens or 0) - self.cached, 1)

    @property
    def inter_token_ms(self) -> float | None:
        """Time for each output token, as the client saw it; None where the time or the tokens are not known."""
        if not self.seconds or not self.output_tokens or self.seconds <= 0:
            return None
        waited = self.first_token_seconds or 0
        spent = self.seconds - waited if 0 < waited < self.seconds else self.seconds
        return 1000 * spent / self.output_tokens


@dataclass(frozen=True, slots=True)
class Part:
    """One phase of an estimate, as the whole: energy of the serving machines, joules."""

    phase: Phase
    energy_joules: float
    low_joules: float
    high_joules: float
    basis: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one request is estimated to have used: IT energy of the serving machines, without the building (PUE).

    `accelerator_joules` is the accelerators' part of `energy_joules`. `method` names the method and its version,
    `basis` what it was told and what it had to assume. `prefill` and `decode` are absent where their tokens are not
    known; reasoning is part of decode, `reasoning_joules` says how much.
    """

    energy_joules: float
    low_joules: float
    high_joules: float
    accelerator_joules: float
    method: str
    basis: str
    model: str
    known_model: bool
    prefill: Part | None = None
    decode: Part | None = None
    reasoning_joules: float | None = None
    provenance: Provenance = Provenance.ESTIMATED

    @property
    def parts(self) -> tuple[Part, ...]:
        """Prefill and decode, as far as they are known; they sum to the whole."""
        return tuple(part for part in (self.prefill, self.decode) if part is not None)
