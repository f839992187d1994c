"""What is known of a call when its answer ends: a part that is settled, an average of the last ones, or nothing."""

from dataclasses import replace

import pytest

from inferwatt.answering.figures import figure
from inferwatt.answering.provisional import RECENT, SETTLED, Known, provisional
from inferwatt.answering.usage import Used
from inferwatt.rates import Band, Rates
from inferwatt.records import Component, EnergyPart, Provenance, RequestEnergy, Tier

BANDS = (Band(1, 2, 4), Band(0, 1, 3), Band(10, 20, 30))
RATES = Rates("vllm:1", "m", 20, Tier.STEP_EXACT, Provenance.MEASURED, 0.05, *BANDS)
USED = Used(model="m", prompt=100, output=11)  # 100 (0 to 300) for the prompt, 200 (100 to 300) for ten more tokens


def settled(prefill_uj: int, decode_uj: int, *, final: bool = False) -> RequestEnergy:
    """Return what is settled of a call, give or take one."""
    uj = prefill_uj + decode_uj
    part = EnergyPart(Component.CPU, Provenance.MODELLED, prefill_uj, decode_uj, uj - 1, uj + 1, 0.4)
    return RequestEnergy("1", (part,), Tier.REQUEST_SPAN, final)


def known(part: RequestEnergy | None, *rates: Rates, used: Used = USED) -> Known:
    """Return what is known of a call whose final joules have not come."""
    found = provisional(part, rates, used)
    assert isinstance(found, Known)
    return found


def test_of_what_nothing_is_known_nothing_is_said() -> None:
    """Without joules and rates, without tokens, for another model: None, and in the answer no number."""
    nothing_settled = RequestEnergy("1", (), Tier.STEP_EXACT, final=False)

    assert provisional(None, (), USED) is None
    assert provisional(nothing_settled, [RATES], Used(model="m", prompt=5)) is None
    assert provisional(None, [RATES], replace(USED, model="other")) is None
    assert figure("x", None, url=None) == {"id": "x", "final": False, "state": "pending"}


def test_what_is_final_stands() -> None:
    """Where the final joules are there before the answer ends, nothing else counts."""
    final = settled(1, 1, final=True)

    assert provisional(final, [RATES], USED) is final


def test_by_rates_it_is_what_its_tokens_cost_lately() -> None:
    """Prefill and decode apart, with the interval of the whole, and how good the average's figures were."""
    found = known(None, RATES)

    assert found == Known(RECENT, 100, 200, 100, 600, Tier.STEP_EXACT, Provenance.MEASURED, 0.05)


def test_without_rates_it_is_the_part_that_is_settled() -> None:
    """At least so much, and no upper bound: the rest is not known, and the object has none."""
    found = known(settled(30, 50))
    told = figure("x", found, url="http://a")

    assert found == Known(SETTLED, 30, 50, 79, None, Tier.REQUEST_SPAN, Provenance.MODELLED, 0.4)
    assert "high_joules" not in told
    assert (told["basis"], told["final"], told["link"]) == (SETTLED, False, "http://a/v1/requests/x")


@pytest.mark.parametrize(
    ("part", "basis", "low_uj", "high_uj"),
    [
        (settled(50, 150), RECENT, 199, 600),  # it cannot be less than what is settled
        (settled(0, 10), RECENT, 100, 600),
        (settled(150, 350), SETTLED, 499, 600),  # dearer than the average
        (settled(150, 650), SETTLED, 799, None),  # dearer than nine of ten: who knows by how much
    ],
)
def test_the_larger_of_both_stands(part: RequestEnergy, basis: str, low_uj: int, high_uj: int | None) -> None:
    """What is settled is a part of the whole, so that the average may not be below it."""
    found = known(part, RATES)

    assert (found.basis, found.low_uj, found.high_uj) == (basis, low_uj, high_uj)
    assert found.energy_uj >= part.energy_uj
    assert found.low_uj <= found.energy_uj <= (found.high_uj or found.energy_uj)


def test_of_several_engines_any_may_have_served_it() -> None:
    """The interval holds that of each, the figures say what the worst of them is."""
    dearer = Rates(
        "vllm:1/1", "m", 20, Tier.TOKEN_SHARE, Provenance.SAMPLED, 0.1, None, Band(0, 3, 5), Band(10, 40, 50)
    )

    found = known(None, RATES, dearer)

    assert found == Known(RECENT, 200, 300, 100, 1000, Tier.TOKEN_SHARE, Provenance.SAMPLED, 0.1)
