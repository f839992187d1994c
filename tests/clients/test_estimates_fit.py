"""The shipped coefficients, and the arithmetic of their fit."""

import os
import tomllib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from benchmarks.estimates import held_out, median_error, theirs
from benchmarks.mlenergy.data import FAMILIES, FITTED, DataMissing, Row, family, read
from benchmarks.mlenergy.fit import FITS, fit, quantiles, render, residuals

from inferwatt.clients.registry import coefficients, load

SHIPPED = files("inferwatt.clients").joinpath("coefficients.toml").read_text("utf-8")
FOLDER = Path(os.environ.get("INFERWATT_MLENERGY", "benchmarks/data/mlenergy"))
HAS_DATA = all((FOLDER / name).is_file() for name in FITTED)
needs_data = pytest.mark.skipif(not HAS_DATA, reason="INFERWATT_MLENERGY names no folder with ML.ENERGY's files")

BASE = Row("t", "m", "f", 8.0, 8.0, 16.0, "H100", 1, 8.0, 10.0, 400.0, 1.0)


def rows() -> list[Row]:
    """Return rows of three families that follow a known law exactly: J = 2 * A^0.2 * GB^0.5 * batch^-0.5."""
    made = []
    for number, (active, total) in enumerate([(3.0, 30.0), (8.0, 8.0), (17.0, 400.0), (70.0, 70.0), (37.0, 671.0)] * 6):
        batch = float(8 << (number % 7))
        joules = 2 * active**0.2 * (total * 2) ** 0.5 * batch**-0.5
        made.append(
            replace(
                BASE,
                family=f"f{number % 3}",
                active_billions=active,
                total_billions=total,
                batch=batch,
                joules_per_token=joules,
            )
        )
    return made


def test_a_law_is_found_again() -> None:
    """Rows that follow a law give back its exponents, but for the ridge's pull towards 0."""
    found = fit(rows(), ("active_billions", "weight_gigabytes", "batch"))

    assert np.exp(found.numbers[0]) == pytest.approx(2, rel=0.2)
    assert found.numbers[1:] == pytest.approx([0.2, 0.5, -0.5], abs=0.05)


def test_a_family_is_never_predicted_by_itself() -> None:
    """What is measured of a family changes its residuals one for one: its own rows are not in its fit."""
    inputs = FITS["batch"]
    plain = rows()
    doubled = [replace(row, joules_per_token=2 * row.joules_per_token) if row.family == "f1" else row for row in plain]
    own = np.array([row.family == "f1" for row in plain])

    assert residuals(doubled, inputs)[0][own] == pytest.approx(residuals(plain, inputs)[0][own] + np.log(2))


def test_quantiles_go_by_weight() -> None:
    """Of four values of which the first has most of the weight, it is the lower quantile and nearly the upper."""
    assert quantiles(np.array([1.0, 2.0, 3.0, 4.0]), np.array([96.0, 1.0, 2.0, 1.0]), tail=0.02) == (1.0, 3.0)


def test_the_families_are_apart() -> None:
    """Each model is in one family; a relative by another name is in the same."""
    assert family("meta-llama/Llama-3.3-70B-Instruct") == family("meta-llama/Llama-3.1-70B-Instruct") == "llama-3-70b"
    assert family("Qwen/Qwen3-235B-A22B-Thinking-2507-FP8") == "qwen3-235b-a22b"
    assert family("somebody/else") == "somebody/else"
    assert len({name for name, _ in FAMILIES}) == len(FAMILIES)


def test_missing_data_is_named(tmp_path: Path) -> None:
    """The benchmark says which file is missing and where it is published."""
    with pytest.raises(DataMissing, match=r"gpqa.json is not there: ML.ENERGY"):
        read(tmp_path, FITTED)


def test_the_shipped_file_says_how_it_was_made() -> None:
    """Publication, tables, script and date are in it, and every fit that the code can choose."""
    data = tomllib.loads(SHIPPED)["data"]

    assert set(data) == {"publication", "tables", "script", "fitted", "rows", "families", "models"}
    assert set(coefficients().fits) == set(FITS)
    for name, held in coefficients().fits.items():
        assert tuple(held.exponents) == FITS[name]
        assert held.low_log < 0 < held.high_log


def test_energy_rises_with_size_and_falls_with_the_batch() -> None:
    """The signs that the laws of test_estimates.py rest on."""
    for held in coefficients().fits.values():
        assert held.exponents["active_billions"] > 0
        assert held.exponents["weight_gigabytes"] > 0
        assert held.exponents.get("batch", -1) < 0
        assert held.exponents.get("inter_token_ms", 0) > -1


@needs_data
def test_the_coefficients_are_what_the_script_makes_of_the_data() -> None:
    """Fitted again, the shipped file comes out to the last digit."""
    assert render(read(FOLDER, FITTED), tomllib.loads(SHIPPED)["data"]["fitted"]) == SHIPPED


@needs_data
def test_the_aims_are_met_on_families_held_out() -> None:
    """At most 0.45 of EcoLogits' error with the true batch; without it 87 to 93% within a factor of 6."""
    measured = read(FOLDER, FITTED)
    served, blind = held_out(measured, "served").score(measured), held_out(measured, "blind").score(measured)

    assert served.error <= 0.45 * median_error(measured, theirs).error
    assert blind.coverage is not None
    assert 0.87 <= blind.coverage <= 0.93
    assert blind.width is not None
    assert blind.width <= 6


@needs_data
def test_every_measured_model_is_in_the_registry() -> None:
    """The registry knows what was measured, and agrees on its size (the data rounds 14.8e9 to 14)."""
    for row in read(FOLDER, FITTED):
        shape = load().find(row.model)

        assert shape.known, row.model
        assert shape.total_billions.value == pytest.approx(row.total_billions, rel=0.08)
