"""Fit the coefficients of the estimates: `python -m benchmarks.mlenergy.fit FOLDER` writes clients/coefficients.toml.

Each fit is linear in logarithms: ln(joules per output token) = constant + sum(exponent * ln(input)) + kind. Ridge
regression (1 on standardised inputs), each row weighted by 1/sqrt(rows of its family), so that a family that was
measured often does not decide alone. The interval is of the residuals that each family has when the others alone
are fitted: its 5% and 95% quantiles, by the same weights.
"""

import argparse
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.mlenergy.data import FITTED, PUBLICATION, Row, read

Floats = NDArray[np.float64]
RIDGE = 1.0
TAIL = 0.05
INPUTS: dict[str, Callable[[Row], float]] = {
    "active_billions": lambda row: row.active_billions,
    "weight_gigabytes": lambda row: row.total_billions * row.weight_bits / 8,
    "batch": lambda row: row.batch,
    "gpus": lambda row: row.gpus,
    "inter_token_ms": lambda row: row.inter_token_ms,
}
FITS = {
    "blind": ("active_billions", "weight_gigabytes"),
    "client": ("active_billions", "weight_gigabytes", "inter_token_ms"),
    "batch": ("active_billions", "weight_gigabytes", "batch"),
    "served": ("active_billions", "weight_gigabytes", "batch", "gpus", "kind"),
    "hosted": ("active_billions", "weight_gigabytes", "batch", "gpus", "kind", "inter_token_ms"),
}
"""What each fit is told. `kind` is 1 on a B200 and 0 on an H100."""
TARGET = files("inferwatt.clients") / "coefficients.toml"


@dataclass(frozen=True, slots=True)
class Fitted:
    """One fit: constant and exponents in the order of its inputs."""

    inputs: tuple[str, ...]
    numbers: Floats

    def predict(self, rows: Sequence[Row]) -> Floats:
        """Return ln(joules per output token)."""
        logarithms: Floats = design(rows, self.inputs) @ self.numbers[1:] + self.numbers[0]
        return logarithms


def design(rows: Sequence[Row], inputs: Sequence[str]) -> Floats:
    """Return the inputs of the rows, one column each, in logarithms but for `kind`."""
    columns = [
        [float(row.gpu_kind == "B200") for row in rows] if name == "kind" else np.log([INPUTS[name](r) for r in rows])
        for name in inputs
    ]
    return np.array(columns, dtype=np.float64).T


def target(rows: Sequence[Row]) -> Floats:
    """Return ln(joules per output token)."""
    return np.log(np.array([row.joules_per_token for row in rows], dtype=np.float64))


def weights(rows: Sequence[Row]) -> Floats:
    """Return the weight of each row, mean 1."""
    families = [row.family for row in rows]
    counts = {family: families.count(family) for family in set(families)}
    given = np.array([counts[family] ** -0.5 for family in families], dtype=np.float64)
    return given / np.mean(given)


def fit(rows: Sequence[Row], inputs: tuple[str, ...]) -> Fitted:
    """Return the ridge regression of the rows."""
    given, wanted, weight = design(rows, inputs), target(rows), weights(rows)
    centre = np.average(given, axis=0, weights=weight)
    scale = np.sqrt(np.average((given - centre) ** 2, axis=0, weights=weight))
    standard = (given - centre) / scale
    weighted = standard * weight[:, None]
    middle = np.average(wanted, weights=weight)
    slopes = np.linalg.solve(weighted.T @ standard + RIDGE * np.eye(len(inputs)), weighted.T @ (wanted - middle))
    exponents = slopes / scale
    return Fitted(inputs, np.concatenate([[middle - exponents @ centre], exponents]))


def residuals(rows: Sequence[Row], inputs: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Return the residuals of each row when its whole family is left out of the fit, and their weights."""
    found = np.empty(len(rows))
    for family in sorted({row.family for row in rows}):
        others = [row for row in rows if row.family != family]
        own = np.array([row.family == family for row in rows])
        held = [row for row in rows if row.family == family]
        found[own] = target(held) - fit(others, inputs).predict(held)
    return found, weights(rows)


def quantiles(found: Floats, weight: Floats, tail: float = TAIL) -> tuple[float, float]:
    """Return the two quantiles that leave `tail` below and above."""
    order = np.argsort(found)
    below = np.cumsum(weight[order]) / np.sum(weight)
    low, high = (int(np.searchsorted(below, at)) for at in (tail, 1 - tail))
    return float(found[order][low]), float(found[order][min(high, len(found) - 1)])


def watts_of_kind(rows: Sequence[Row], kind: str) -> float:
    """Return the W in joules per token = GPUs * W * inter-token time / batch: the median over the rows of a kind."""
    return float(np.median([_implied_watts(row) for row in rows if row.gpu_kind == kind]))


def _implied_watts(row: Row) -> float:
    return row.joules_per_token * row.batch / (row.gpus * row.inter_token_ms / 1000)


def visible_residuals(rows: Sequence[Row]) -> tuple[Floats, Floats]:
    """Return the residuals of the rule of one constant for each kind, each family left out."""
    found = np.empty(len(rows))
    for place, row in enumerate(rows):
        others = [other for other in rows if other.family != row.family]
        found[place] = np.log(_implied_watts(row) / watts_of_kind(others, row.gpu_kind))
    return found, weights(rows)


def render(rows: Sequence[Row], today: str) -> str:
    """Return the text of coefficients.toml."""
    lines = [
        "# Coefficients of the estimates (estimates.py, ours.py). Written by",
        "# `python -m benchmarks.mlenergy.fit FOLDER` (that file says how); a test computes them again.",
        "",
        "[data]",
        f'publication = "{PUBLICATION}"',
        f'tables = "{", ".join(FITTED)}: every row"',
        'script = "benchmarks/mlenergy/fit.py"',
        f'fitted = "{today}"',
        f"rows = {len(rows)}",
        f"families = {len({row.family for row in rows})}",
        f"models = {len({row.model for row in rows})}",
        "",
        "[ranges] # what was measured; beyond it a fit is a guess",
        *(_range(rows, name) for name in INPUTS),
    ]
    for name, inputs in FITS.items():
        lines += _fit_lines(rows, name, inputs)
    low, high = quantiles(*visible_residuals(rows))
    lines += ["", "[visible] # joules per output token = GPUs * watts of the kind * inter-token seconds / batch"]
    lines += [f"low_log = {low:.4f}", f"high_log = {high:.4f}", "", "[visible.watts]"]
    lines += [f"{kind} = {watts_of_kind(rows, kind):.1f}" for kind in ("H100", "B200")]
    return "\n".join(lines) + "\n"


def _range(rows: Sequence[Row], name: str) -> str:
    values = [INPUTS[name](row) for row in rows]
    return f"{name} = [{min(values):.4g}, {max(values):.4g}]"


def _fit_lines(rows: Sequence[Row], name: str, inputs: tuple[str, ...]) -> list[str]:
    numbers = fit(rows, inputs).numbers
    low, high = quantiles(*residuals(rows, inputs))
    return [
        "",
        f"[fit.{name}]",
        f"constant = {numbers[0]:.6f}",
        f"low_log = {low:.4f} # 5% and 95% of ln(measured / fitted), each family left out of its own fit",
        f"high_log = {high:.4f}",
        f"[fit.{name}.exponents]",
        *(f"{given} = {exponent:.6f}" for given, exponent in zip(inputs, numbers[1:], strict=True)),
    ]


def main() -> None:
    """Fit, and write the coefficients where the package reads them."""
    parser = argparse.ArgumentParser(description="Fit the coefficients of the estimates, and write them.")
    parser.add_argument("folder", type=Path, help="with gpqa.json and lm-arena-chat.json")
    rows = read(parser.parse_args().folder, FITTED)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    Path(str(TARGET)).write_text(render(rows, today), encoding="utf-8")
    print(f"{TARGET}: {len(rows)} rows")


if __name__ == "__main__":
    main()
