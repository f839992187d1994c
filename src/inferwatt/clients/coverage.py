"""How much of what a provider reports passed us, and an estimate of the rest, by day and model.

Tokens are compared, not requests: Anthropic tells none. A day's requests are estimated as that many of the mean size.
Energy rises faster than linearly with a prompt's length, so where sizes differ much this is too low: within the
interval, and said here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from inferwatt.clients import ours
from inferwatt.clients.estimates import Shape, Work
from inferwatt.clients.ours import Coefficients
from inferwatt.clients.usage_reports import Usage

ASSUMED_PROMPT_TOKENS = 4000
ASSUMED_OUTPUT_TOKENS = 1000
"""Of one request, where the report tells no requests: an assumption, and named in the basis. No publication."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one model on one day; `requests` is None where nobody counted them."""

    prompt: int = 0
    cached: int = 0
    output: int = 0
    requests: int | None = 0

    def less(self, seen: "Tokens") -> "Tokens":
        """Return what is left when what was seen is taken away, never less than nothing."""
        requests = None
        if self.requests is not None and seen.requests is not None:
            requests = max(self.requests - seen.requests, 0)
        prompt = max(self.prompt - seen.prompt, 0)
        cached = min(max(self.cached - seen.cached, 0), prompt)
        return Tokens(prompt, cached, max(self.output - seen.output, 0), requests)

    def plus(self, more: "Tokens") -> "Tokens":
        """Return both together."""
        requests = None if self.requests is None or more.requests is None else self.requests + more.requests
        return Tokens(self.prompt + more.prompt, self.cached + more.cached, self.output + more.output, requests)

    @property
    def total(self) -> int:
        """Prompt and output."""
        return self.prompt + self.output


@dataclass(frozen=True, slots=True)
class Line:
    """One model on one day: what its provider reports, what passed us, the rest and its estimate; joules as ever."""

    day: str
    provider: str
    model: str
    reported: Tokens
    seen: Tokens
    rest: Tokens
    energy_joules: float | None
    low_joules: float | None
    high_joules: float | None
    known_model: bool
    basis: str

    @property
    def beyond(self) -> int:
        """Tokens that passed us and that the report does not have: a disagreement."""
        return self.seen.less(self.reported).total


@dataclass(frozen=True, slots=True)
class Coverage:
    """All lines; `ratio` is the part of the reported tokens that passed us, None where nothing is reported."""

    lines: tuple[Line, ...]
    ratio: float | None
    beyond_tokens: int


def compare(lines: Iterable[Line]) -> Coverage:
    """Sum up the lines: the figure, and by how much the two disagree the other way."""
    made = tuple(lines)
    reported = sum(line.reported.total for line in made)
    missed = sum(line.rest.total for line in made)
    return Coverage(made, None if reported == 0 else 1 - missed / reported, sum(line.beyond for line in made))


def line(key: tuple[str, str, str], reported: Tokens, seen: Tokens, shape: Shape, coefficients: Coefficients) -> Line:
    """Return one model's day: the rest estimated as requests of the mean size."""
    rest = reported.less(seen)
    if rest.total == 0:
        return Line(*key, reported, seen, rest, None, None, None, shape.known, "all of it passed us")
    requests, words = _requests(rest)
    work = Work(
        prompt_tokens=rest.prompt / requests,
        cached_tokens=rest.cached / requests,
        output_tokens=rest.output / requests,
    )
    one = ours.estimate(shape, work, coefficients)
    return Line(
        *key,
        reported,
        seen,
        rest,
        one.energy_joules * requests,
        one.low_joules * requests,
        one.high_joules * requests,
        shape.known,
        f"{words}; {one.basis}",
    )


def _requests(rest: Tokens) -> tuple[int, str]:
    """Return into how many requests the rest is divided, and in words how that is known."""
    if rest.requests:
        return rest.requests, f"{rest.requests} requests of the mean size"
    least = max(ceil(rest.prompt / ASSUMED_PROMPT_TOKENS), ceil(rest.output / ASSUMED_OUTPUT_TOKENS), 1)
    size = f"{ASSUMED_PROMPT_TOKENS} prompt and {ASSUMED_OUTPUT_TOKENS} output tokens at most"
    return least, f"requests not told, taken for {least} of {size}"


def matched(
    usages: Iterable[Usage], seen: Mapping[tuple[str, str], Tokens], key: Callable[[str], str]
) -> list[tuple[tuple[str, str, str], Tokens, Tokens]]:
    """Return reported and seen tokens for each day, provider and model, by whatever names the two call the model.

    `key` is what all names of one model have in common. A model that is seen and not reported is none of the
    provider's: it is left out.
    """
    reported: dict[tuple[str, str, str], Tokens] = {}
    names: dict[tuple[str, str, str], str] = {}
    for usage in usages:
        where = (usage.day.isoformat(), usage.provider, key(usage.model))
        told = Tokens(usage.prompt_tokens, usage.cached_tokens, usage.output_tokens, usage.requests)
        reported[where] = reported[where].plus(told) if where in reported else told
        names.setdefault(where, usage.model)
    had: dict[tuple[str, str], Tokens] = {}
    for (day, model), tokens in seen.items():
        had[day, key(model)] = had.get((day, key(model)), Tokens()).plus(tokens)
    return [
        ((where[0], where[1], names[where]), told, had.get((where[0], where[2]), Tokens()))
        for where, told in reported.items()
    ]
