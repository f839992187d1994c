"""How many joules are misplaced in worlds unlike those by which the attribution was made; the worst come first.

One thing at a time differs from a usual world: model, cards, load, meter, scheduler, climate, witness, true cost. A row
says what our tiers misplace, how many intervals hold the truth, and which aim is missed:

    E  `step_exact` misplaces over 1%
    R  `step_reconstructed` over 4%
    B  `step_exact` more than half of what the best simple rule misplaces, where that is over 3%
    P  a request's median error over 3%, or its 95th percentile over 10% (`step_exact`)

    python -m benchmarks.unlike [--requests 200] [PART_OF_A_NAME ...]
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.accuracy import WORTH, Scored, measure
from benchmarks.truth.cases import Task
from benchmarks.truth.unlike import worlds
from inferwatt.records import Tier

MOST = {Tier.STEP_EXACT: 0.01, Tier.STEP_RECONSTRUCTED: 0.04}
_HEAD = f"{'world':34}  exact    p95  held  rebuilt    p95  held   span  best rule"


def badness(scored: Scored) -> float:
    """Return by how much the worse of two tiers misses its aim; 1 is the aim."""
    return max(scored.tiers[tier].misplaced / most for tier, most in MOST.items())


def missed(scored: Scored) -> str:
    """Return the letters of the aims that are missed."""
    exact, rebuilt = (scored.tiers[tier] for tier in MOST)
    best = scored.best_rule[1].misplaced
    found = {
        "E": exact.misplaced > MOST[Tier.STEP_EXACT],
        "R": rebuilt.misplaced > MOST[Tier.STEP_RECONSTRUCTED],
        "B": best > WORTH and exact.misplaced > best / 2,
        "P": exact.median > 0.03 or exact.p95 > 0.1,
    }
    return "".join(letter for letter, is_missed in found.items() if is_missed)


def row(name: str, scored: Scored) -> str:
    """Return one world's line."""
    exact, rebuilt, span = (scored.tiers[tier] for tier in (*MOST, Tier.REQUEST_SPAN))
    cells = [
        f"{name:34} {100 * exact.misplaced:5.2f}% {100 * exact.p95:5.1f}% {100 * (exact.covered or 0):4.0f}%",
        f"{100 * rebuilt.misplaced:7.2f}% {100 * rebuilt.p95:5.1f}% {100 * (rebuilt.covered or 0):4.0f}%",
        f"{100 * span.misplaced:5.1f}% {100 * scored.best_rule[1].misplaced:9.1f}% {missed(scored)}",
    ]
    return " ".join(cells)


def figures(scores: list[Scored]) -> dict[str, float]:
    """Return the figures of the JSON line."""
    found: dict[str, float] = {}
    for tier, most in MOST.items():
        rows = [scored.tiers[tier] for scored in scores]
        count = sum(len(each.errors) for each in rows)
        found |= {
            f"misplaced_{tier.value}_median": float(np.median([each.misplaced for each in rows])),
            f"misplaced_{tier.value}_max": max(each.misplaced for each in rows),
            f"{tier.value}_within_aim": float(np.mean([each.misplaced <= most for each in rows])),
            f"{tier.value}_coverage_of_90": sum((each.covered or 0.0) * len(each.errors) for each in rows) / count,
        }
    return found


def main() -> None:
    """Measure each world, and print the rows, the worst first, and the JSON line."""
    parser = argparse.ArgumentParser(description="Accuracy in worlds unlike the tuning ones.")
    parser.add_argument("names", nargs="*", help="parts of the worlds' names; all else")
    parser.add_argument("--requests", type=int, default=200)
    given = parser.parse_args()
    began = time.perf_counter()
    scores: dict[str, Scored] = {}
    for name, world in worlds(given.requests):
        if given.names and not any(part in name for part in given.names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            scores[name] = measure(Task("forms", world), Path(folder))
        print(row(name, scores[name]), file=sys.stderr, flush=True)
    if not scores:
        raise SystemExit("no world has such a name")
    print(_HEAD, *(row(name, scores[name]) for name in sorted(scores, key=lambda n: -badness(scores[n]))), sep="\n")
    rounded = {key: round(value, 4) for key, value in figures(list(scores.values())).items()}
    machine = {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()}
    notes = f"{len(scores)} worlds, {given.requests} requests each; {time.perf_counter() - began:.0f} s"
    sys.stdout.write(json.dumps({"bench": "unlike", "machine": machine, "figures": rounded, "notes": notes}) + "\n")


if __name__ == "__main__":
    main()
