"""What every estimate holds to, whatever the model and the tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.clients.estimates import Estimate, Figure, Work, between, within
from inferwatt.clients.estimator import estimate
from inferwatt.clients.ours import estimate as estimate_shape
from inferwatt.clients.registry import coefficients, load
from inferwatt.records import Provenance

TOKENS = st.integers(min_value=0, max_value=2_000_000)
MODELS = st.sampled_from([*load().shapes, "a model that nobody has heard of"])
SECONDS = st.one_of(st.none(), st.floats(min_value=1e-3, max_value=1e5))
BATCHES = st.floats(min_value=1, max_value=10_000)
ROUNDING = 1 - 1e-12


def rises(before: Estimate, after: Estimate) -> bool:
    """Say whether the figure and both ends of its interval are at least what they were, but for rounding."""
    return (
        after.energy_joules >= before.energy_joules * ROUNDING
        and after.low_joules >= before.low_joules * ROUNDING
        and after.high_joules >= before.high_joules * ROUNDING
    )


@given(MODELS, TOKENS, TOKENS, TOKENS, SECONDS)
def test_an_estimate_is_never_nothing(model: str, prompt: int, cached: int, output: int, seconds: float | None) -> None:
    """Low end, figure and high end are above 0 and in this order, however little was asked."""
    made = estimate(model, prompt_tokens=prompt, cached_tokens=cached, output_tokens=output, seconds=seconds)

    assert 0 < made.low_joules < made.energy_joules < made.high_joules
    assert 0 < made.accelerator_joules < made.energy_joules
    assert made.provenance is Provenance.ESTIMATED


@given(MODELS, TOKENS, TOKENS, TOKENS, SECONDS)
def test_the_parts_are_the_whole(model: str, prompt: int, cached: int, output: int, seconds: float | None) -> None:
    """Prefill and decode sum to the estimate."""
    made = estimate(model, prompt_tokens=prompt, cached_tokens=cached, output_tokens=output, seconds=seconds)

    assert sum(part.energy_joules for part in made.parts) == pytest.approx(made.energy_joules)


@given(MODELS, TOKENS, st.integers(min_value=1, max_value=100_000), TOKENS, TOKENS, SECONDS)
def test_more_prompt_is_more_energy(
    model: str, prompt: int, more: int, cached: int, output: int, seconds: float | None
) -> None:
    """An estimate rises with input tokens, and so do both ends of its interval."""
    cached = min(cached, prompt)
    before = estimate(model, prompt_tokens=prompt, cached_tokens=cached, output_tokens=output, seconds=seconds)
    after = estimate(model, prompt_tokens=prompt + more, cached_tokens=cached, output_tokens=output, seconds=seconds)

    assert rises(before, after)
    assert prompt - cached == 0 or after.energy_joules > before.energy_joules


@given(MODELS, TOKENS, TOKENS, st.integers(min_value=1, max_value=100_000), SECONDS)
def test_more_output_is_more_energy(model: str, prompt: int, output: int, more: int, seconds: float | None) -> None:
    """An estimate rises with output tokens, and so do both ends of its interval."""
    before = estimate(model, prompt_tokens=prompt, output_tokens=output, seconds=seconds)
    after = estimate(model, prompt_tokens=prompt, output_tokens=output + more, seconds=seconds)

    assert rises(before, after)
    assert after.energy_joules > before.energy_joules


@given(MODELS, st.integers(min_value=2, max_value=1_000_000), st.floats(min_value=0, max_value=1), TOKENS)
def test_a_cached_token_costs_less_than_a_computed_one_and_more_than_none(
    model: str, prompt: int, ratio: float, output: int
) -> None:
    """What was read from a cache is cheaper than what was computed, and not free."""
    cached = int(prompt * ratio)
    computed = estimate(model, prompt_tokens=prompt, output_tokens=output)
    read = estimate(model, prompt_tokens=prompt, cached_tokens=cached, output_tokens=output)
    shorter = estimate(model, prompt_tokens=prompt - cached, output_tokens=output)

    assert read.energy_joules <= computed.energy_joules / ROUNDING
    assert read.energy_joules >= shorter.energy_joules * ROUNDING


@given(MODELS, BATCHES, st.floats(min_value=1.01, max_value=100), st.sampled_from(["", "H100", "B200"]), SECONDS)
def test_a_larger_batch_is_less_energy(
    model: str, batch: float, ratio: float, kind: str, seconds: float | None
) -> None:
    """An estimate falls with the batch where that is known, whichever fit knows it."""
    gpus = 8 if kind else None
    small, large = (
        estimate_shape(
            load().find(model),
            Work(prompt_tokens=100, output_tokens=300, seconds=seconds, batch=size, gpus=gpus, gpu_kind=kind),
            coefficients(),
        )
        for size in (batch, batch * ratio)
    )

    assert large.energy_joules < small.energy_joules
    assert rises(large, small)


def test_an_unknown_model_is_wide_and_says_so() -> None:
    """A name that is in no registry gets the interval of any model, not a guess in disguise."""
    unknown = estimate("a model that nobody has heard of", prompt_tokens=100, output_tokens=300)
    known = estimate("gpt-oss-120b", prompt_tokens=100, output_tokens=300)

    assert (unknown.known_model, known.known_model) == (False, True)
    assert "unknown model" in unknown.basis
    assert unknown.high_joules / unknown.low_joules > 100 > known.high_joules / known.low_joules


def test_what_is_not_known_is_left_out_and_named() -> None:
    """A prompt of unknown length has no prefill, and the basis says so; nothing at all is an error."""
    made = estimate("gpt-4o", prompt_tokens=None, output_tokens=300)

    assert made.prefill is None
    assert made.decode is not None
    assert "prompt not known" in made.basis
    with pytest.raises(ValueError, match="nothing to estimate from"):
        estimate("gpt-4o", prompt_tokens=None, output_tokens=None)


def test_negative_tokens_are_refused() -> None:
    """No request has fewer than no tokens."""
    with pytest.raises(ValueError, match="output_tokens is -1"):
        estimate("gpt-4o", prompt_tokens=1, output_tokens=-1)


def test_reasoning_is_a_part_of_the_output() -> None:
    """Half of the output is half of the decode; it adds nothing to the whole."""
    plain = estimate("gpt-4o", prompt_tokens=100, output_tokens=400)
    thought = estimate("gpt-4o", prompt_tokens=100, output_tokens=400, reasoning_tokens=200)

    assert thought.energy_joules == plain.energy_joules
    assert thought.decode is not None
    assert thought.reasoning_joules == pytest.approx(thought.decode.energy_joules / 2)


def test_the_time_to_the_last_token_tells_something() -> None:
    """With the time between tokens the interval is narrower than without."""
    blind = estimate("gpt-4o", prompt_tokens=100, output_tokens=400)
    timed = estimate("gpt-4o", prompt_tokens=100, output_tokens=400, seconds=12.4, first_token_seconds=0.4)

    assert timed.high_joules / timed.low_joules < blind.high_joules / blind.low_joules
    assert "time between tokens" in timed.basis


def test_independent_doubts_add_as_roots_of_squares() -> None:
    """A factor of e and a factor of e are e to the root of two; what shares its cause adds end to end."""
    product = within(2.0, 2.718281828459045).times(within(3.0, 2.718281828459045))

    assert product.value == 6.0
    assert product.high == pytest.approx(6.0 * 2.718281828459045 ** (2**0.5))
    assert between(1.0, 4.0) + between(4.0, 9.0) == Figure(8.0, 5.0, 13.0)
