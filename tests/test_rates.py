"""What tokens cost lately: an average that says how far it can be trusted, or nothing."""

import random
from dataclasses import replace
from typing import Any

import pytest

from inferwatt import wire
from inferwatt.errors import RecordRejected
from inferwatt.rates import LEAST_REQUESTS, MOST_REQUESTS, RECENT_NS, Band, Rates, Recent, estimate
from inferwatt.records import Component, EnergyPart, Outcome, Provenance, Request, RequestEnergy, Tier
from inferwatt.wire_rates import rates_from_wire, rates_message

RATES = Rates(
    "vllm:1", "m", 20, Tier.STEP_EXACT, Provenance.SAMPLED, 0.05, Band(1, 2, 4), Band(0, 1, 3), Band(10, 20, 30)
)


def final(
    prefill_uj: int, decode_uj: int, provenance: Provenance = Provenance.MEASURED, tier: Tier = Tier.STEP_EXACT
) -> RequestEnergy:
    """Return final joules."""
    part = EnergyPart(Component.ACCELERATOR, provenance, prefill_uj, decode_uj, prefill_uj, decode_uj, 0.05)
    return RequestEnergy("r", (part,), tier, final=True)


def request(end_ns: int = 1, **more: Any) -> Request:
    """Return a request of 10 prompt tokens, 4 of them cached, and 5 output tokens."""
    known = {"prompt_tokens": 10, "cached_tokens": 4, "output_tokens": 5, "outcome": Outcome.FINISHED}
    return Request("r", "vllm:1", "m", end_ns=end_ns, **{**known, **more})


def test_nothing_is_said_of_fewer_requests_than_an_interval_takes() -> None:
    """Eighteen requests give no rate; the nineteenth gives the whole range as 90%."""
    recent = Recent()
    for uj in range(1, LEAST_REQUESTS):
        recent.add(request(), final(6 * uj, 4 * uj))
    assert recent.changed() == []
    recent.add(request(), final(6 * LEAST_REQUESTS, 4 * LEAST_REQUESTS))

    (rates,) = recent.changed()
    assert (rates.engine, rates.model, rates.requests) == ("vllm:1", "m", LEAST_REQUESTS)
    assert rates.computed == rates.output == Band(1, 10, LEAST_REQUESTS)
    assert rates.prompt == Band(0.6, 6, 0.6 * LEAST_REQUESTS)
    assert recent.changed() == []
    assert recent.all() == [rates]


def test_nine_of_ten_of_the_next_requests_are_inside() -> None:
    """Whatever the distribution: of many next requests that are alike, 90% are within the interval."""
    chance = random.Random(1)
    inside, rounds = 0, 2000
    for _ in range(rounds):
        recent = Recent()
        costs = [round(1e6 * chance.lognormvariate(0, 1)) for _ in range(60)]
        for uj in costs[:-1]:
            recent.add(request(cached_tokens=0), final(uj, 0))
        known = estimate(recent.all()[0], prompt=10, output=1, cached=0)
        assert known is not None
        inside += known.low_uj <= costs[-1] <= known.high_uj

    assert 0.88 <= inside / rounds <= 0.93


def test_only_the_last_requests_count() -> None:
    """The newest 256 of the last ten minutes, of one tier and provenance."""
    recent = Recent()
    for _ in range(MOST_REQUESTS):
        recent.add(request(), final(6000, 4000))
    for _ in range(MOST_REQUESTS):
        recent.add(request(end_ns=2), final(6, 4))
    assert recent.all()[0].output == Band(1, 1, 1)

    recent.add(request(end_ns=2 + RECENT_NS + 1), final(6, 4))
    assert recent.all() == []

    for _ in range(LEAST_REQUESTS):
        recent.add(request(), final(6, 4, Provenance.MODELLED, Tier.REQUEST_SPAN))
    assert (recent.all()[0].provenance, recent.all()[0].tier) == (Provenance.MODELLED, Tier.REQUEST_SPAN)


@pytest.mark.parametrize(
    ("more", "energy"),
    [
        ({"outcome": Outcome.ABORTED}, final(1, 1)),
        ({"prompt_tokens": None, "cached_tokens": None}, final(1, 1)),
        ({"output_tokens": None}, final(1, 1)),
        ({}, RequestEnergy("r", (), Tier.STEP_EXACT, final=True)),
    ],
)
def test_what_was_not_answered_or_has_no_joules_says_nothing(more: dict[str, Any], energy: RequestEnergy) -> None:
    """An aborted request, one without tokens, one of which no device was read."""
    recent = Recent()
    for _ in range(LEAST_REQUESTS):
        recent.add(request(**more), energy)

    assert recent.all() == []


def test_an_estimate_is_tokens_times_rates() -> None:
    """Cached tokens are left out where they are known; each answer has its first token from its prompt."""
    known = estimate(RATES, prompt=100, output=11, cached=40)
    assert known is not None
    assert known == (120, 200, 60 * 1 + 100, 60 * 4 + 300)

    two = estimate(RATES, prompt=200, output=12, answers=2)
    assert two is not None
    assert two == (200, 200, 0 + 100, 200 * 3 + 300)


def test_an_estimate_without_its_rate_is_none() -> None:
    """Nothing is made up; what takes no token of a kind does not need its rate."""
    no_output = replace(RATES, output=None)

    assert estimate(no_output, prompt=10, output=2) is None
    assert estimate(no_output, prompt=10, output=1) == (10, 0, 0, 30)


def test_rates_cross_the_wire() -> None:
    """What is read is what was said, an unknown rate stays unknown."""
    said = [RATES, replace(RATES, model="n", output=None)]
    (message,) = wire.Decoder().feed(wire.encode(rates_message(said)))

    assert isinstance(message, dict)
    assert rates_from_wire(message) == said


@pytest.mark.parametrize(
    "change",
    [
        {"requests": 0}, {"tier": "best"}, {"provenance": None}, {"systematic_ratio": "0.1"}, {"output": [3, 2, 1]},
        {"output": [1, 2]}, {"output": [1, 2, float("inf")]}, {"prompt": 7}, {"computed": [-1, 2, 3]},
    ],
)  # fmt: skip
def test_what_are_no_rates_is_refused(change: dict[str, Any]) -> None:
    """A value of another type or range: nothing of the message is taken."""
    message = rates_message([RATES])
    message["rates"][0] |= change

    with pytest.raises(RecordRejected, match="not rates"):
        rates_from_wire(message)


@pytest.mark.parametrize("rows", [None, {}, [None], [{}], "x"])
def test_what_is_no_list_of_rates_is_refused(rows: Any) -> None:
    """However little of it is there."""
    with pytest.raises(RecordRejected, match="not rates"):
        rates_from_wire({"t": "rates", "rates": rows})
