"""Their method, made again, against what their own release computed."""

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest

from inferwatt.clients import ecologits
from inferwatt.clients.ecologits import Speed
from inferwatt.clients.estimates import Work
from inferwatt.clients.registry import load

GOLDEN = json.loads((Path(__file__).parent / "golden" / "ecologits_0.11.3.json").read_text(encoding="utf-8"))


def name(case: dict[str, Any]) -> str:
    """Name a case."""
    return f"{case['model']}-{case['output_tokens']}-{case['seconds']}"


def test_the_golden_figures_are_of_the_release_that_is_named() -> None:
    """The fixture is of the pinned version."""
    assert GOLDEN["package"] == f"ecologits=={ecologits.VERSION}"


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=name)
def test_the_method_made_again_is_theirs(case: dict[str, Any]) -> None:
    """Both ends of the interval are those that the release computed, to rounding."""
    speed = Speed(case["tokens_per_second"], case["first_token_seconds"])
    seconds = inf if case["seconds"] is None else case["seconds"]

    for end in (0, 1):
        active, total = case["active_billions"][end], case["total_billions"][end]
        joules = sum(ecologits.it_joules(active, total, case["output_tokens"], seconds, speed))

        assert case["pue"][end] * joules == pytest.approx(case["energy_kwh"][end] * 3.6e6, rel=1e-9)


def test_the_buildings_are_theirs() -> None:
    """The PUE of each provider is that of the release."""
    ours = {"google_genai": "google", "mistralai": "mistral"}
    theirs = {ours.get(case["provider"], case["provider"]): tuple(case["pue"]) for case in GOLDEN["cases"]}

    assert theirs == {provider: ecologits.PUE[provider] for provider in theirs}


def test_their_method_knows_output_only() -> None:
    """A prompt changes nothing, and without output there is no figure."""
    shape = load().find("gpt-4o")
    short, long = (ecologits.estimate(shape, Work(prompt_tokens=n, output_tokens=250)) for n in (1, 100_000))

    assert short.energy_joules == long.energy_joules
    with pytest.raises(ValueError, match="output tokens only"):
        ecologits.estimate(shape, Work(prompt_tokens=10, output_tokens=0))


def test_without_the_building_the_figure_is_smaller_by_it() -> None:
    """What they publish is our comparison's figure times the provider's PUE."""
    shape, work = load().find("gpt-4o"), Work(prompt_tokens=1, output_tokens=250)
    inside = ecologits.estimate(shape, work)

    assert ecologits.site_joules(shape, work, "openai") == pytest.approx(
        (1.2 * inside.low_joules, 1.2 * inside.high_joules)
    )
