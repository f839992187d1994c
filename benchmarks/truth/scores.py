"""How an answer is scored against the truth of each request."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from inferwatt.records import RequestEnergy, Tier
from inferwatt.simulate.world import Truth

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Score:
    """How far an answer is from the truth; ratios.

    `misplaced` is half the sum of absolute differences over the true sum; `split` is the same after the answer was
    scaled to the true sum: what is left when idle was judged rightly. `phases` counts prefill and decode apart.
    `covered` is the part of requests whose interval holds the truth, `width` the median half-width over the truth.
    `covered_total` is the same with the sensor's bound added, `sum_covered` whether that of all together holds theirs.
    """

    misplaced: float
    split: float
    errors: tuple[float, ...]
    phases: float | None = None
    covered: float | None = None
    width: float | None = None
    covered_total: float | None = None
    sum_covered: bool | None = None

    @property
    def median(self) -> float:
        """Median relative error of a request."""
        return float(np.median(self.errors))

    @property
    def p95(self) -> float:
        """95th percentile of the relative error of a request."""
        return float(np.percentile(self.errors, 95))


def score(truth: Mapping[str, Truth], answers: Mapping[str, RequestEnergy]) -> Score:
    """Score what a replay said; a request without an answer got nothing, and one that used nothing has no error."""
    plain = score_joules(truth, {name: answer.energy_uj / 1e6 for name, answer in answers.items()})
    nothing = RequestEnergy("", (), Tier.TOKEN_SHARE, final=True)
    told = [(true, answers.get(name, nothing)) for name, true in truth.items() if true.energy_joules > 0]
    true, low, high = (
        np.array(column) / 1e6
        for column in zip(*((row.energy_joules * 1e6, said.low_uj, said.high_uj) for row, said in told), strict=True)
    )
    sensor = np.array([said.systematic_ratio * said.energy_uj / 1e6 for _, said in told])
    energy = sum(said.energy_uj for _, said in told) / 1e6
    bound = float(np.sqrt((((high - low) / 2) ** 2).sum()) + sensor.sum())
    phases = sum(
        abs(said.prefill_uj / 1e6 - row.prefill_joules) + abs(said.decode_uj / 1e6 - row.decode_joules)
        for row, said in told
    )
    return replace(
        plain,
        phases=phases / 2 / float(true.sum()),
        covered=float(((low <= true) & (true <= high)).mean()),
        width=float(np.median((high - low) / 2 / true)),
        covered_total=float(((low - sensor <= true) & (true <= high + sensor)).mean()),
        sum_covered=bool(abs(energy - float(true.sum())) <= bound),
    )


def score_joules(truth: Mapping[str, Truth], joules: Mapping[str, float]) -> Score:
    """Score joules by request alone."""
    true = np.array([row.energy_joules for row in truth.values()])
    told = np.array([joules.get(name, 0.0) for name in truth])
    scale = true.sum() / told.sum() if told.sum() > 0 else 1.0
    return Score(
        misplaced=float(np.abs(told - true).sum() / 2 / true.sum()),
        split=float(np.abs(told * scale - true).sum() / 2 / true.sum()),
        errors=tuple((np.abs(told - true)[true > 0] / true[true > 0]).tolist()),
    )
