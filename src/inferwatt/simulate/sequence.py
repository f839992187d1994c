"""One request while it is served, and what an engine did, step by step, as tables. Pure."""

from dataclasses import dataclass, field

import numpy as np

from inferwatt.records import Model
from inferwatt.simulate.costs import Condition, Floats, member_work
from inferwatt.simulate.shapley import Ints, Steps

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Wish:
    """One request of a load: when it comes, and how large it will turn out to be; `patience_ns`: its client leaves."""

    arrival_ns: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    tenant: str = ""
    patience_ns: int | None = None


@dataclass(slots=True)
class Sequence:
    """One request while and after it is served."""

    number: int
    wish: Wish
    computed: int = 0
    generated: int = 0
    recomputed: int = 0
    rejected: int = 0
    aborted_ns: int | None = None
    token_ns: list[int] = field(default_factory=list)

    @property
    def known(self) -> int:
        """Tokens whose KV entries are wanted: the prompt and what was generated."""
        return self.wish.prompt_tokens + self.generated

    @property
    def decodes(self) -> bool:
        """Whether all is computed but the token generated last."""
        return self.generated > 0 and self.known - self.computed == 1

    @property
    def restart_at(self) -> int:
        """Where it begins to be computed: behind what the cache holds of its prompt."""
        return min(self.wish.cached_tokens, self.wish.prompt_tokens - 1)

    @property
    def done(self) -> bool:
        """Whether it has all its output."""
        return self.generated >= self.wish.output_tokens


@dataclass(slots=True)
class Trace:
    """What an engine did: its steps, row by row, and its sequences."""

    sequences: list[Sequence] = field(default_factory=list)
    t0_ns: list[int] = field(default_factory=list)
    t1_ns: list[int] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    members: list[list[tuple[int, int, int, bool]]] = field(default_factory=list)
    """Of each step: (sequence, new tokens, context tokens, whether it is prefill)."""

    def columns(self) -> tuple[Ints, Ints, Floats, Floats, Ints]:
        """Return offsets of steps, and of each row: sequence, new tokens, context, whether it is prefill."""
        offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in self.members])]).astype(np.int64)
        flat = np.array([row for rows in self.members for row in rows], dtype=np.int64).reshape(-1, 4)
        return offsets, flat[:, 0], flat[:, 1].astype(np.float64), flat[:, 2].astype(np.float64), flat[:, 3]

    def steps(self, shape: Model) -> Steps:
        """Return the steps as a table of work."""
        offsets, _, new, context, _ = self.columns()
        clock = np.array([condition.clock_ratio for condition in self.conditions])
        power = np.array([condition.power_ratio for condition in self.conditions])
        return Steps(offsets, member_work(shape, new, context), clock, power)
