"""Who asks what, when: the demo's load as a plan, a pure function of its seed."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from random import Random

LEAVING_RATIO = 0.07
"""Of the streamed requests: how many clients close the connection before the answer is complete."""
_LEAVES_AFTER_TOKENS = (2, 10)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant's habits; `output_tokens` is the range of its `max_tokens`."""

    name: str
    weight: float
    streamed_ratio: float
    output_tokens: tuple[int, int]
    system: str
    passages: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: `wait_seconds` after the one before it; its client leaves after `leaves_after_tokens` if set."""

    wait_seconds: float
    tenant: str
    system: str
    question: str
    max_tokens: int
    streamed: bool
    leaves_after_tokens: int | None


def read_tenants() -> tuple[Tenant, ...]:
    """Return the tenants of `questions.toml`."""
    document = tomllib.loads((files("inferwatt.demo") / "questions.toml").read_text(encoding="utf-8"))
    return tuple(
        Tenant(
            name=row["name"],
            weight=row["weight"],
            streamed_ratio=row["streamed_ratio"],
            output_tokens=(row["output_tokens"][0], row["output_tokens"][1]),
            system=row["system"],
            passages=tuple(row["passages"]),
            questions=tuple(row["questions"]),
        )
        for row in document["tenants"]
    )


def plan(tenants: tuple[Tenant, ...], *, seed: int, requests_per_second: float) -> Iterator[Arrival]:
    """Yield arrivals without end: a Poisson process of `requests_per_second`, the same for the same seed."""
    random = Random(seed)
    while True:
        tenant = random.choices(tenants, weights=[tenant.weight for tenant in tenants])[0]
        wait_seconds = random.expovariate(requests_per_second)
        question = random.choice(tenant.questions)
        if "{passage}" in question:
            question = question.replace("{passage}", random.choice(tenant.passages))
        streamed = random.random() < tenant.streamed_ratio
        leaves = streamed and random.random() < LEAVING_RATIO
        yield Arrival(
            wait_seconds=wait_seconds,
            tenant=tenant.name,
            system=tenant.system,
            question=question,
            max_tokens=random.randint(*tenant.output_tokens),
            streamed=streamed,
            leaves_after_tokens=random.randint(*_LEAVES_AFTER_TOKENS) if leaves else None,
        )
