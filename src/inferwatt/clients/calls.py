"""What a call took, as its caller reads it: `energy_of(response)`, or `with calls() as made`.

A figure is a server's own where its answer carried one, else an estimate by tokens: never both. Standard library only.
"""

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from inferwatt.records import Outcome, Provenance

UNKNOWN, PENDING = "unknown", "pending"
"""States of a figure that is none: nobody can say; its server will say, under `link`."""


EMISSIONS = ("emissions_co2e_grams", "emissions_low_co2e_grams", "emissions_high_co2e_grams")
"""Fields of a call, and of calls together, in the order in which `Total` has them."""


@dataclass(frozen=True, slots=True)
class CallEnergy:
    """One call to a model and what it took: joules with a 90% interval, None where nobody knows.

    `high_joules` alone is None where a server has said only what is settled by then, a part of the whole.

    `provenance` says where they come from: `estimated` (by tokens), or what the server says of its own figure.
    `state` is `final`, `provisional` (the server may say more under `link`), `pending` or `unknown`. Tokens are those
    that the answer told; `output_counted` says that pieces of a stream were counted, since it told none. Emissions are
    those of an estimate's joules at the intensity that the host gave, or what a server said; `emissions_source` says
    by which.
    """

    library: str
    provider: str
    model: str
    outcome: Outcome
    energy_joules: float | None = None
    low_joules: float | None = None
    high_joules: float | None = None
    provenance: Provenance | None = None
    state: str = UNKNOWN
    method: str = ""
    basis: str = ""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    output_counted: bool = False
    seconds: float | None = None
    first_token_seconds: float | None = None
    response_id: str = ""
    request: str = ""
    link: str = ""
    emissions_co2e_grams: float | None = None
    emissions_low_co2e_grams: float | None = None
    emissions_high_co2e_grams: float | None = None
    emissions_source: str = ""


@dataclass(frozen=True, slots=True)
class Total:
    """Calls of one provenance together. They share their causes, so the ends of their intervals are added.

    What is not known of each of them is None.
    """

    calls: int
    energy_joules: float
    low_joules: float
    high_joules: float | None
    emissions_co2e_grams: float | None = None
    emissions_low_co2e_grams: float | None = None
    emissions_high_co2e_grams: float | None = None


class Calls(list[CallEnergy]):
    """Calls in the order in which they ended."""

    @property
    def totals(self) -> dict[Provenance, Total]:
        """What the calls took, by provenance: an estimate is never added to a measurement."""
        known: dict[Provenance, list[CallEnergy]] = {}
        for call in self:
            if call.provenance is not None:
                known.setdefault(call.provenance, []).append(call)
        return {provenance: _total(made) for provenance, made in known.items()}

    @property
    def unknown(self) -> int:
        """How many calls have no figure."""
        return sum(call.energy_joules is None for call in self)


def _total(made: list[CallEnergy]) -> Total:
    def summed(name: str) -> float | None:
        known = [value for call in made if (value := getattr(call, name)) is not None]
        return sum(known) if len(known) == len(made) else None

    return Total(
        len(made),
        summed("energy_joules") or 0.0,
        summed("low_joules") or 0.0,
        summed("high_joules"),
        *(summed(name) for name in EMISSIONS),
    )


@dataclass(frozen=True, slots=True)
class Block:
    """One `with calls()`: where its calls go, and whose they are."""

    made: Calls
    tenant: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


blocks: ContextVar[tuple[Block, ...]] = ContextVar("inferwatt_calls", default=())
"""The blocks that the current code runs in, the innermost last."""


@contextmanager
def calls(*, tenant: str = "", tags: Mapping[str, str] | None = None) -> Iterator[Calls]:
    """Collect the calls that are made within, also by asyncio's tasks that start within (a new thread has its own).

    Args:
        tenant: whose they are, as the agent is told; absent: that of the block around it.
        tags: a small map (team, project, environment, task), as the agent is told.
    """
    around = blocks.get()
    outer = around[-1] if around else Block(Calls())
    block = Block(Calls(), tenant or outer.tenant, {**outer.tags, **(tags or {})})
    token = blocks.set((*around, block))
    try:
        yield block.made
    finally:
        end_what_is_left()
        blocks.reset(token)


left: deque[Callable[[], None]] = deque()
"""Calls whose streams were dropped: the garbage collector may have said so, where nothing else can be done."""


def end_what_is_left() -> None:
    """End the calls whose streams were dropped."""
    with suppress(IndexError):  # another thread may take the last one
        while left:
            left.popleft()()


class Known:
    """What is known of answers that are still alive: none is kept alive by it."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[weakref.ref[Any], list[CallEnergy]]] = {}

    def add(self, answer: object, ended: list[CallEnergy]) -> None:
        """Note which call an answer is of: `ended` holds what it took, once it has ended. Plain text is not noted."""
        key = id(answer)
        with suppress(TypeError):  # it cannot be referred to without being kept
            self._by_id[key] = weakref.ref(answer, lambda _: self._by_id.pop(key, None)), ended

    def find(self, answer: object) -> CallEnergy | None:
        """Return what the call of an answer took."""
        reference, ended = self._by_id.get(id(answer), (None, []))
        return ended[0] if ended and reference is not None and reference() is answer else None


known = Known()


def energy_of(answer: object) -> CallEnergy | None:
    """Return what the call took that gave this answer or stream; None where it goes on, or was not instrumented.

    Other instrumentations put a stream into one of their own, which says what it holds.
    """
    end_what_is_left()
    found = known.find(answer)
    inner = getattr(answer, "__wrapped__", None) if found is None else None
    return found if inner is None else known.find(inner)
