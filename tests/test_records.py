import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt import records
from inferwatt.records import Component, EnergyPart, Provenance, Request, RequestEnergy, Tier

UJ = st.integers(0, 10**12)
PARTS = st.builds(
    EnergyPart,
    st.sampled_from(Component),
    st.sampled_from(Provenance),
    UJ,
    UJ,
    UJ,
    UJ,
    st.floats(0, 1),
)
KINDS = [kind for kind in vars(records).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_frozen_and_small(kind: type) -> None:
    """What crosses between rooms and threads cannot be changed, and takes no dictionary of its own."""
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert hasattr(kind, "__slots__")


@given(st.lists(PARTS, max_size=5))
def test_a_requests_sums_are_those_of_its_parts(parts: list[EnergyPart]) -> None:
    """Energy is prefill and decode, and each bound is the sum of the parts' bounds."""
    energy = RequestEnergy("r", tuple(parts), Tier.STEP_EXACT, final=True)

    assert energy.energy_uj == energy.prefill_uj + energy.decode_uj == sum(part.energy_uj for part in parts)
    assert energy.prefill_uj == sum(part.prefill_uj for part in parts)
    assert (energy.low_uj, energy.high_uj) == (sum(p.low_uj for p in parts), sum(p.high_uj for p in parts))


@given(st.lists(PARTS, min_size=1, max_size=5))
def test_a_sum_is_only_as_good_as_its_worst_part(parts: list[EnergyPart]) -> None:
    """No part has a weaker provenance than the sum says."""
    order = list(Provenance)
    worst = RequestEnergy("r", tuple(parts), Tier.STEP_EXACT, final=True).provenance

    assert worst is not None
    assert order.index(worst) == max(order.index(part.provenance) for part in parts)


@given(st.lists(PARTS, min_size=1, max_size=5))
def test_the_sensors_bound_of_a_sum_is_linear(parts: list[EnergyPart]) -> None:
    """The bound in microjoules is the sum of the parts' bounds."""
    energy = RequestEnergy("r", tuple(parts), Tier.STEP_EXACT, final=True)
    bound_uj = sum(part.energy_uj * part.systematic_ratio for part in parts)

    assert energy.systematic_ratio * energy.energy_uj == pytest.approx(bound_uj)


def test_the_bound_of_no_energy_is_that_of_the_worst_sensor() -> None:
    """A request that used nothing still says how far its sensors can be trusted."""
    parts = [EnergyPart(Component.CPU, Provenance.MODELLED, 0, 0, 0, 0, ratio) for ratio in (0.1, 0.4, 0.2)]

    assert RequestEnergy("r", tuple(parts), Tier.STEP_EXACT, final=True).systematic_ratio == 0.4


def test_no_part_is_no_provenance() -> None:
    """A request of which no device was read has no provenance and no bound."""
    energy = RequestEnergy("r", (), Tier.REQUEST_SPAN, final=True)

    assert (energy.provenance, energy.systematic_ratio, energy.energy_uj) == (None, 0.0, 0)


def test_what_is_not_known_of_a_request_is_absent() -> None:
    """A new request claims nothing: no token, no end, no outcome, and a tenant that says so."""
    request = Request("r")

    assert request.tenant == "__unknown__"
    assert {request.first_token_ns, request.end_ns, request.outcome} == {None}
    assert {getattr(request, f.name) for f in dataclasses.fields(Request) if f.name.endswith("_tokens")} == {None}


def test_the_best_comes_first() -> None:
    """Provenances and tiers are ordered from best to worst: comparisons count on it."""
    assert [one.value for one in Provenance] == [
        "measured", "sampled", "reported", "modelled", "estimated", "simulated",
    ]  # fmt: skip
    assert [one.value for one in Tier] == ["step_exact", "step_reconstructed", "request_span", "token_share"]
