"""Our method, by hand."""

from math import exp, log

import pytest

from inferwatt.clients import ours
from inferwatt.clients.estimates import Figure, Shape, Work, between
from inferwatt.clients.registry import coefficients

SHAPE = Shape("m", between(70, 70), between(70, 70), between(16, 16), "a test")
HELD = coefficients()


def test_prefill_by_hand() -> None:
    """1,000 computed tokens of 70e9 parameters: 2 * 70e9 FLOPs each, attention on top, at 1.5 pJ."""
    found = ours.prefill_joules(SHAPE, Work(prompt_tokens=1000, output_tokens=1))
    pair_flops = 0.16 * 1e6 * 4900 ** (1 / 3)

    assert found is not None
    assert found.value == pytest.approx((2 * 70e9 * 1000 + pair_flops * 1000**2 / 2) * 1.5e-12)


def test_a_cached_token_costs_its_keys_and_values() -> None:
    """999 of 1,000 cached: one is computed against 999, whose keys and values are read at 0.2 nJ a byte."""
    found = ours.prefill_joules(SHAPE, Work(prompt_tokens=1000, cached_tokens=999, output_tokens=1))
    root = 1e6 * 4900 ** (1 / 3)

    assert found is not None
    assert found.value == pytest.approx(
        (2 * 70e9 + 0.16 * root * (999 + 0.5)) * 1.5e-12 + 999 * 0.01 * root * 2e-10, rel=1e-6
    )


def test_decode_by_hand() -> None:
    """The blind fit's constant and exponents, times the tokens."""
    fit = HELD.fits["blind"]
    found = ours.decode_joules(SHAPE, Work(output_tokens=100), HELD)
    logarithm = fit.constant + fit.exponents["active_billions"] * log(70) + fit.exponents["weight_gigabytes"] * log(140)

    assert found is not None
    assert found.value == pytest.approx(100 * exp(logarithm))
    assert (found.low / found.value, found.high / found.value) == pytest.approx((exp(fit.low_log), exp(fit.high_log)))


def test_a_long_prompt_is_read_again_for_each_output_token() -> None:
    """What the fit has not seen, a long context, comes on top of it."""
    short, long = (ours.decode_joules(SHAPE, Work(prompt_tokens=n, output_tokens=10), HELD) for n in (0, 100_000))
    root = 1e6 * 4900 ** (1 / 3)

    assert short is not None
    assert long is not None
    assert long.value - short.value == pytest.approx(10 * 100_000 * 0.01 * root * 2e-10)


@pytest.mark.parametrize(
    ("told", "fit"),
    [
        ({}, "blind"),
        ({"seconds": 3.0}, "client"),
        ({"batch": 8}, "batch"),
        ({"batch": 8, "gpus": 8}, "batch"),
        ({"batch": 8, "gpus": 8, "gpu_kind": "H100"}, "served"),
        ({"batch": 8, "gpus": 8, "gpu_kind": "MI300X", "seconds": 3.0}, "batch"),
        ({"batch": 8, "gpus": 8, "gpu_kind": "B200", "seconds": 3.0}, "hosted"),
    ],
)
def test_the_fit_that_is_told_most_is_used(told: dict[str, float], fit: str) -> None:
    """All that is known is used; a kind of GPU that was not measured is not known."""
    assert ours.choose(Work(output_tokens=100, **told)) == fit  # type: ignore[arg-type]


def test_a_time_beyond_what_was_measured_counts_as_its_end() -> None:
    """A queue of ten minutes is no batch of a million; a chip that answers at once is no batch below 1."""
    shortest, longest = HELD.ranges["inter_token_ms"]
    fit = HELD.fits["client"]

    def at(milliseconds: float) -> Figure:
        return ours.joules_per_token(SHAPE, Work(output_tokens=1, seconds=milliseconds / 1000), fit, HELD.ranges)

    assert at(longest * 100).value == pytest.approx(at(longest).value)
    assert at(shortest / 100).value == pytest.approx(at(shortest).value)
    assert at(longest).value < at(shortest).value


def test_the_wait_for_the_first_token_is_not_between_tokens() -> None:
    """Prefill and queue are taken off where the client saw them; a first token after the last is not believed."""
    assert Work(output_tokens=100, seconds=4.0, first_token_seconds=1.0).inter_token_ms == pytest.approx(30)
    assert Work(output_tokens=100, seconds=4.0, first_token_seconds=9.0).inter_token_ms == pytest.approx(40)
    assert Work(output_tokens=0, prompt_tokens=1, seconds=4.0).inter_token_ms is None


def test_an_assumed_size_is_less_sure_than_a_published_one() -> None:
    """The same numbers, named an assumption, have a wider interval around the same figure."""
    assumed = Shape("m", between(70, 70), between(70, 70), between(16, 16), "a test", assumed=True)
    ones = [ours.estimate(shape, Work(prompt_tokens=10, output_tokens=100), HELD) for shape in (SHAPE, assumed)]

    assert ones[0].energy_joules == ones[1].energy_joules
    assert ones[1].low_joules < ones[0].low_joules
    assert ones[1].high_joules > ones[0].high_joules


def test_what_is_seen_needs_all_of_it() -> None:
    """GPUs, kind, batch, time and output: without one of them there is no figure."""
    with pytest.raises(ValueError, match="needs gpus, batch, seconds"):
        ours.visible_joules(Work(output_tokens=10, seconds=1.0), HELD)
    with pytest.raises(ValueError, match="watts of A100 were not measured: H100, B200"):
        ours.visible_joules(Work(output_tokens=10, seconds=1.0, batch=1, gpus=1, gpu_kind="A100"), HELD)
