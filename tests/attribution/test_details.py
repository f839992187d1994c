"""What a request's energy is made of: parts of the cost model's account, and the marginal figure."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.attributor import Attributor
from inferwatt.attribution.details import wasted_ratio
from inferwatt.records import Device, Engine, Model, Outcome, Phase, Reading, Request, RequestEnergy, Step

MODEL = Model("m", 16e9, 16e9, 524288.0, 131072.0)
Member = tuple[str, int, int, Phase]


def cost(members: list[Member]) -> tuple[int, int]:
    """Return how long a step takes, nanoseconds, and what it uses, µJ: a roofline."""
    flops = sum(16e9 * new for _, new, _, _ in members)
    read_bytes = sum(131072.0 * (context + new) for _, new, context, _ in members)
    seconds = max(7e-3 + read_bytes / 2.7e12, 1e-3 + flops / 500e12)
    return round(seconds * 1e9), round(1e6 * (200 * seconds + 1.1 + 0.7e-12 * flops + 70e-12 * read_bytes))


def before() -> list[list[Member]]:
    """Return steps from which the costs can be learnt."""
    random = np.random.default_rng(7)
    steps: list[list[Member]] = []
    for number in range(300):
        steps.append([(f"d{i}", 1, int(random.integers(0, 8000)), Phase.DECODE) for i in range(random.integers(1, 20))])
        if number % 3 == 0:
            steps[-1].append((f"w{number}", int(random.integers(100, 3000)), 0, Phase.PREFILL))
    return steps


def energies(steps: list[list[Member]], **told: Any) -> dict[str, RequestEnergy]:
    """Return the final energy of each request of these steps, after enough other work that the costs are known."""
    attributor = Attributor()
    attributor.add_device(Device("gpu-0"))
    attributor.add_model(MODEL)
    attributor.add_engine(Engine("e0", "m", ("gpu-0",)))
    t_ns = counter_uj = 0
    for members in [*before(), *steps]:
        lasting_ns, uj = cost(members)
        attributor.feed(Step(t_ns, t_ns + lasting_ns, "e0", tuple(members)))
        t_ns, counter_uj = t_ns + lasting_ns, counter_uj + uj
        attributor.feed(Reading(t_ns, "gpu-0", counter_uj=counter_uj))
        attributor.advance(t_ns)
    for name in {name for members in steps for name, *_ in members}:
        attributor.feed(Request(name, "e0", "m", end_ns=t_ns, outcome=Outcome.FINISHED, **told))
    return {record.request: energy for record, energy in attributor.advance(t_ns, last=True).requests}


def decoding(name: str, context: int, count: int) -> list[Member]:
    """Return a request's decode steps."""
    return [(name, 1, context + number, Phase.DECODE) for number in range(count)]


def test_a_long_context_costs_what_is_called_context() -> None:
    """Beside a short one, the same steps differ by their KV cache alone, and so do the figures."""
    both = zip(decoding("long", 4000, 20), decoding("short", 10, 20), strict=True)

    found = energies([list(members) for members in both])

    long, short = found["long"].details_uj, found["short"].details_uj
    assert long["context"] > 50 * short["context"]
    assert long["shared"] == pytest.approx(short["shared"], rel=0.01)
    assert long["context"] - short["context"] == pytest.approx(
        found["long"].energy_uj - found["short"].energy_uj, rel=0.1
    )


def test_alone_a_request_saves_all_of_its_energy_beside_others_less() -> None:
    """The marginal figure is all of it where nobody else is there; beside others the shared part would stay."""
    alone = energies([[member] for member in decoding("a", 100, 10)])["a"]
    beside = energies([[member, *other] for member, other in zip(
        decoding("a", 100, 10), zip(*(decoding(f"b{i}", 100, 10) for i in range(9)), strict=True), strict=True
    )])["a"]  # fmt: skip

    assert alone.details_uj["marginal"] == pytest.approx(alone.energy_uj, rel=0.05)
    assert beside.details_uj["marginal"] < beside.energy_uj
    assert beside.details_uj["shared"] + beside.details_uj["marginal"] == pytest.approx(beside.energy_uj, rel=0.05)


def test_what_was_computed_before_is_recomputed() -> None:
    """After a preemption the prompt and its answer are computed again: that much of it is called so."""
    first = [("a", 1000, 0, Phase.PREFILL), *decoding("a", 1000, 5)]
    again: Member = ("a", 1005, 0, Phase.PREFILL)
    untouched = energies([[member] for member in first])["a"]

    found = energies([[member] for member in [*first, again, *decoding("a", 1005, 5)]])["a"]

    assert untouched.details_uj["recomputed"] == 0
    assert found.details_uj["recomputed"] == pytest.approx(untouched.prefill_uj, rel=0.05)


def test_a_chunk_and_a_rejected_draft_are_not_computed_again() -> None:
    """A prompt in chunks goes on where it was, and a draft that was rejected had never been kept."""
    steps: list[list[Member]] = [
        [("a", 500, 0, Phase.PREFILL)],
        [("a", 500, 500, Phase.PREFILL)],
        [("a", 4, 1000, Phase.DECODE)],
        [("a", 4, 1001, Phase.DECODE)],
    ]

    assert energies(steps)["a"].details_uj["recomputed"] == 0


def test_without_steps_nothing_is_said_of_recomputing() -> None:
    """Unknown is absent; so is waste, where the server does not tell it."""
    steps = [[member] for member in [("a", 100, 0, Phase.PREFILL), *decoding("a", 100, 5)]]

    assert set(energies(steps)["a"].details_uj) == {"shared", "context", "recomputed", "marginal"}
    assert set(energies(steps, rejected_tokens=2, output_tokens=4)["a"].details_uj) >= {"wasted"}


@given(st.integers(0, 1000) | st.none(), st.integers(0, 1000) | st.none(), st.integers(0, 1000) | st.none())
def test_waste_is_a_part_of_what_was_decoded(wasted: int | None, rejected: int | None, output: int | None) -> None:
    """Between none and all of it; not known where neither count is told."""
    ratio = wasted_ratio(Request("r", wasted_tokens=wasted, rejected_tokens=rejected, output_tokens=output))

    if wasted is None and rejected is None:
        assert ratio is None
    else:
        assert ratio is not None
        assert 0.0 <= ratio <= 1.0
