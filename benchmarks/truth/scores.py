"""How an answer is scored against the truth of each request."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inferwatt.records import Request, RequestEnergy
from inferwatt.simulate.world import Truth

Floats = npt.NDArray[np.float64]

PRICES = (1 / 5, 1 / 10, 1 / 20, 1 / 50)
"""Prices of a computed prompt token, in output tokens."""


@dataclass(frozen=True, slots=True)
class Score:
    """How far an answer is from the truth; ratios.

    `misplaced` is half the sum of absolute differences over the true sum; `split` is the same after the answer was
    scaled to the true sum: what is left when idle was judged rightly. `phases` counts prefill and decode apart.
    `covered` is the part of requests whose interval holds the truth, `width` the median half-width over the truth.
    """

    misplaced: float
    split: float
    errors: tuple[float, ...]
    phases: float | None = None
    covered: float | None = None
    width: float | None = None

    @property
    def median(self) -> float:
        """Median relative error of a request."""
        return float(np.median(self.errors))

    @property
    def p95(self) -> float:
        """95th percentile of the relative error of a request."""
        return float(np.percentile(self.errors, 95))


def score(truth: Mapping[str, Truth], answers: Mapping[str, RequestEnergy]) -> Score:
    """Score what a replay said; a request without an answer got nothing."""
    joules = {name: answer.energy_uj / 1e6 for name, answer in answers.items()}
    plain = score_joules(truth, joules)
    phases = covered = 0.0
    widths = []
    for name, true in truth.items():
        answer = answers.get(name)
        prefill, decode = (answer.prefill_uj / 1e6, answer.decode_uj / 1e6) if answer else (0.0, 0.0)
        phases += abs(prefill - true.prefill_joules) + abs(decode - true.decode_joules)
        low, high = (answer.low_uj / 1e6, answer.high_uj / 1e6) if answer else (0.0, 0.0)
        covered += low <= true.energy_joules <= high
        widths.append((high - low) / 2 / true.energy_joules)
    total = sum(true.energy_joules for true in truth.values())
    return Score(
        plain.misplaced,
        plain.split,
        plain.errors,
        phases=phases / 2 / total,
        covered=covered / len(truth),
        width=float(np.median(widths)),
    )


def score_joules(truth: Mapping[str, Truth], joules: Mapping[str, float]) -> Score:
    """Score joules by request alone."""
    true = np.array([row.energy_joules for row in truth.values()])
    told = np.array([joules.get(name, 0.0) for name in truth])
    scale = true.sum() / told.sum() if told.sum() > 0 else 1.0
    return Score(
        misplaced=float(np.abs(told - true).sum() / 2 / true.sum()),
        split=float(np.abs(told * scale - true).sum() / 2 / true.sum()),
        errors=tuple((np.abs(told - true) / true).tolist()),
    )


def best_price(truth: Mapping[str, Truth], requests: Mapping[str, Request], total_joules: float) -> tuple[str, Score]:
    """Return the best of a few token prices, chosen with the truth in hand, which no user could."""
    scored = {f"token price 1/{round(1 / price)}": _priced(truth, requests, price, total_joules) for price in PRICES}
    return min(scored.items(), key=lambda item: item[1].misplaced)


def _priced(truth: Mapping[str, Truth], requests: Mapping[str, Request], price: float, total_joules: float) -> Score:
    weights = {
        name: price * ((row.prompt_tokens or 0) - (row.cached_tokens or 0)) + (row.output_tokens or 0)
        for name, row in requests.items()
    }
    total = sum(weights.values())
    return score_joules(truth, {name: weight / total * total_joules for name, weight in weights.items()})
