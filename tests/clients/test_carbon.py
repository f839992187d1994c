"""Emissions are told only where somebody has said what a kWh emits, and where that is from."""

import pytest

import inferwatt
from inferwatt.clients.border import troubles
from inferwatt.clients.carbon import Intensity, intensity, of_environment
from inferwatt.clients.life import Asked, Call
from inferwatt.records import Provenance

SOURCE = "Ember 2024, Sweden"
GRAMS, FROM = "INFERWATT_ESTIMATES__CARBON_GRAMS_PER_KWH", "INFERWATT_ESTIMATES__CARBON_SOURCE"
USAGE = {"usage": {"prompt_tokens": 100, "completion_tokens": 20}}


def took(host: str = "api.openai.com", **answer: object) -> inferwatt.CallEnergy:
    """Return what a call took."""
    call = Call(Asked("openai", "gpt-4o", host))
    call.see({**USAGE, **answer})
    call.end()
    return call.ended[0]


def test_a_kwh_is_3600000_joules() -> None:
    """By hand: 360 J at 400 g/kWh are 0.04 g; a small one is told to its digits, not as 0."""
    told = Intensity(400.0, SOURCE).of(360.0, 36.0, 3600.0)
    small = Intensity(400.0, SOURCE).of(0.0423, 0.001, 1.0)

    assert told == {
        "emissions_co2e_grams": pytest.approx(0.04),
        "emissions_low_co2e_grams": pytest.approx(0.004),
        "emissions_high_co2e_grams": pytest.approx(0.4),
        "emissions_source": "400 g/kWh, Ember 2024, Sweden",
    }
    assert small["emissions_co2e_grams"] == pytest.approx(4.7e-6)


@pytest.mark.parametrize("grams", [0.0, -1.0, 2501.0, float("nan"), float("inf")])
def test_what_no_grid_emits_is_refused(grams: float) -> None:
    """Neither zero, nor kilograms for grams, nor no number; what is wrong is said with its key."""
    with pytest.raises(ValueError, match="carbon_grams_per_kwh is"):
        Intensity(grams, SOURCE)


def test_a_figure_needs_its_source() -> None:
    """One without the other is an error; without both there is none."""
    assert intensity(None, "") is None
    assert intensity(21.0, SOURCE) == Intensity(21.0, SOURCE)
    with pytest.raises(ValueError, match="carbon_source"):
        intensity(21.0, " ")
    with pytest.raises(ValueError, match="without carbon_grams_per_kwh"):
        intensity(None, SOURCE)
    with pytest.raises(ValueError, match="21 g"):
        of_environment({GRAMS: "21 g", FROM: SOURCE})
    assert of_environment({GRAMS: "21", FROM: SOURCE}) == Intensity(21.0, SOURCE)
    assert of_environment({}) is None


def test_a_call_says_what_it_emitted() -> None:
    """With its interval and its source; calls together have their sums."""
    inferwatt.instrument(carbon_grams_per_kwh=400, carbon_source=SOURCE)
    try:
        with inferwatt.calls() as calls:
            took()
            call = took()
    finally:
        inferwatt.uninstrument()
    total = calls.totals[Provenance.ESTIMATED]

    assert call.energy_joules is not None
    assert call.high_joules is not None
    assert call.emissions_co2e_grams == pytest.approx(call.energy_joules / 9000)
    assert call.emissions_high_co2e_grams == pytest.approx(call.high_joules / 9000)
    assert call.emissions_source == "400 g/kWh, Ember 2024, Sweden"
    assert total.emissions_co2e_grams == pytest.approx(call.energy_joules / 4500)


def test_without_a_figure_no_gram_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for a server of one's own, which stands elsewhere; a wrong environment is warned of, never raised."""
    monkeypatch.setenv(GRAMS, "400")
    troubles.clear()
    inferwatt.instrument()
    unknown = took()
    monkeypatch.setenv(FROM, SOURCE)
    inferwatt.instrument()
    known, own = took(), took("localhost")
    inferwatt.uninstrument()

    assert (unknown.emissions_co2e_grams, own.emissions_co2e_grams, took().emissions_co2e_grams) == (None, None, None)
    assert known.emissions_co2e_grams is not None
    assert own.energy_joules is not None
    assert troubles.pop("the carbon intensity") == 1


def test_a_server_that_says_its_emissions_is_believed() -> None:
    """As with its joules: its figure stands, with its own source."""
    said = {"id": "1", "energy_joules": 2.0, "low_joules": 1.0, "high_joules": 3.0, "provenance": "measured"}
    call = took("localhost", inferwatt={**said, "emissions_co2e_grams": 0.5, "emissions_source": "its grid"})

    assert (call.emissions_co2e_grams, call.emissions_low_co2e_grams) == (0.5, None)
    assert call.emissions_source == "its grid"
