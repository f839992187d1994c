"""The benchmark of worlds unlike the tuning ones: what it calls a miss, and that its worlds are worlds."""

from pathlib import Path

from benchmarks.accuracy import Scored, measure
from benchmarks.truth.cases import Task
from benchmarks.truth.scores import Score
from benchmarks.truth.unlike import MODELS, worlds
from benchmarks.unlike import badness, figures, missed, row

from inferwatt.records import Tier


def scored(exact: float, rebuilt: float, best: float, error: float = 0.01) -> Scored:
    """Return a world's scores."""
    made = {Tier.STEP_EXACT: exact, Tier.STEP_RECONSTRUCTED: rebuilt, Tier.REQUEST_SPAN: 0.1}
    tiers = {tier: Score(ratio, ratio, (error,), covered=0.9) for tier, ratio in made.items()}
    return Scored("forms", tiers, {"equal": Score(best, best, (error,))})


def test_a_missed_aim_has_its_letter() -> None:
    """Each aim is missed for itself, and the worse tier decides what comes first."""
    assert missed(scored(0.01, 0.04, 0.03)) == ""
    assert missed(scored(0.011, 0.041, 0.02, 0.2)) == "ERP"
    assert missed(scored(0.009, 0.01, 0.031 / 2)) == ""
    assert missed(scored(0.02, 0.01, 0.035)) == "EB"
    assert badness(scored(0.005, 0.08, 0.1)) == 2.0
    assert figures([scored(0.01, 0.05, 0.1), scored(0.02, 0.03, 0.1)])["step_exact_within_aim"] == 0.5


def test_every_world_is_another(tmp_path: Path) -> None:
    """Names are unlike, each model is served somewhere, and a short one of them is measured."""
    found = list(worlds(8))

    assert len({name for name, _ in found}) == len(found) > 100
    assert {world.shape for _, world in found} == set(MODELS.values())
    line = row("x", measure(Task("forms", dict(found)["chat at 50%"]), tmp_path))
    assert line.startswith("x ")
    assert line.count("%") == 8
