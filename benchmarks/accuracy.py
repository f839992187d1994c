"""How many joules are misplaced, against simulated worlds whose truth is known.

Each load is simulated, written as a recording, read and replayed by the code of `inferwatt replay`, in each tier and
by each simple rule. Misplaced is half the sum of absolute differences over the true active energy. The truth of a
request is its Shapley value under the true cost function, step by step. The last line is JSON.

    python -m benchmarks.accuracy [--set tune|report] [--loads chat,mixed] [--quick] [--trace FILE.csv] [--keep FOLDER]
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.truth.cases import Group, Task, chosen, tasks
from benchmarks.truth.rules import best_price, live_residence
from benchmarks.truth.scores import Score, score
from inferwatt import recording, simulating_disk
from inferwatt.recording import Recording
from inferwatt.records import Reading, Request, Rule, Tier
from inferwatt.replay import ReplayResult, replay_recording
from inferwatt.simulate.world import Truth, simulate

QUICK_REQUESTS = 80
TRACE = "INFERWATT_TRACE"
WORTH = 0.03
"""Only where the best simple rule misplaces more than this is it worth being better."""
_HEAD = f"{'':22} {'misplaced':>9} {'split':>7} {'phases':>7} {'median':>7} {'p95':>7} {'covered':>8} {'width':>7}"


@dataclass(slots=True)
class Scored:
    """One load's scores: ours by tier, and the simple rules' by name."""

    group: Group
    tiers: dict[Tier, Score] = field(default_factory=dict)
    rules: dict[str, Score] = field(default_factory=dict)

    @property
    def best_rule(self) -> tuple[str, Score]:
        """The simple rule that misplaces least."""
        return min(self.rules.items(), key=lambda item: item[1].misplaced)


def measure(task: Task, folder: Path) -> Scored:
    """Simulate a world into `folder`, replay it in every way, and score each."""
    run = simulate(task.world)
    simulating_disk.write(folder, run)
    source = recording.read(folder)
    if source.rejected:
        raise SystemExit(f"the recording has lines that cannot be read: {source.rejected[0]}")
    scored = Scored(task.group)
    for tier in Tier:
        scored.tiers[tier] = _replayed(run.truth, source, tier=tier)[0]
    total = 0.0
    for rule in Rule:
        if rule is not Rule.SHAPLEY:
            scored.rules[rule.value], result = _replayed(run.truth, source, rule=rule)
            total = sum(totals.requests_uj for _, totals in result.devices) / 1e6
    requests = {record.request: record for record in run.records if isinstance(record, Request)}
    name, price = best_price(run.truth, requests, total)
    scored.rules[name] = price
    seen = [record for record in run.records if isinstance(record, Reading)]
    scored.rules["residence, live"] = live_residence(run.truth, requests, seen)
    return scored


def _replayed(
    truth: dict[str, Truth], source: Recording, tier: Tier | None = None, rule: Rule = Rule.SHAPLEY
) -> tuple[Score, ReplayResult]:
    result = replay_recording(source, tier=tier, rule=rule)
    return score(truth, {record.request: energy for record, energy in result.requests}), result


def show(name: str, scored: Scored) -> None:
    """Print one load's table."""
    print(f"\n{name} ({scored.group})\n{_HEAD}")
    for tier, row in scored.tiers.items():
        print(_line(tier.value, row))
    for rule, row in scored.rules.items():
        print(_line(f"  {rule}", Score(row.misplaced, row.split, row.errors)), flush=True)


def _line(label: str, row: Score) -> str:
    numbers = ((row.misplaced, 9), (row.split, 7), (row.phases, 7), (row.median, 7), (row.p95, 7), (row.covered, 8))
    cells = [f"{100 * value:{width - 1}.2f}%" if value is not None else " " * width for value, width in numbers]
    width = f"{100 * row.width:6.1f}%" if row.width is not None else ""
    return " ".join([f"{label:22}", *cells, width]).rstrip()


def summary(scores: dict[str, Scored]) -> Iterator[str]:
    """Yield the table of docs/simulate.md: what ours misplace, and the best and the usual simple rule."""
    heads = ("load", "group", "`step_exact`", "request median, p95", "covered", "`step_reconstructed`")
    yield f"| {' | '.join((*heads, 'best simple rule', 'output tokens'))} |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, scored in scores.items():
        exact, rebuilt = scored.tiers[Tier.STEP_EXACT], scored.tiers[Tier.STEP_RECONSTRUCTED]
        rule, best = scored.best_rule
        cells = [
            name,
            scored.group,
            _percent(exact.misplaced),
            f"{_percent(exact.median)}, {_percent(exact.p95)}",
            f"{exact.covered or 0.0:.0%}",
            _percent(rebuilt.misplaced),
            f"{_percent(best.misplaced)} ({rule})",
            _percent(scored.rules[Rule.OUTPUT_TOKENS.value].misplaced),
        ]
        yield f"| {' | '.join(cells)} |"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.1f}%"


def figures(scores: dict[str, Scored]) -> dict[str, float]:
    """Return the figures of the JSON line: those of the first two groups, and apart what nobody can learn."""
    learnable = [scored for scored in scores.values() if scored.group in {"loads", "forms"}]
    sensor = [scored.tiers[Tier.STEP_EXACT] for scored in scores.values() if scored.group == "sensor"]
    return {
        **_figures(learnable, ""),
        **_figures([scored for scored in learnable if scored.group == "loads"], "loads_"),
        **_figures([scored for scored in scores.values() if scored.group == "unlearnable"], "unlearnable_"),
        **_held(sensor),
    }


def _held(sensor: list[Score]) -> dict[str, float]:
    """Return how well total intervals hold the truth where the counter's gain is off: of a request, and of a sum."""
    if not sensor:
        return {}
    return {
        "gained_requests_covered": min(row.covered_total or 0.0 for row in sensor),
        "gained_sums_covered": min(float(row.sum_covered or False) for row in sensor),
    }


def _figures(scores: list[Scored], prefix: str) -> dict[str, float]:
    if not scores:
        return {}
    exact = [scored.tiers[Tier.STEP_EXACT] for scored in scores]
    rebuilt = [scored.tiers[Tier.STEP_RECONSTRUCTED] for scored in scores]
    ratios = [
        scored.tiers[Tier.STEP_EXACT].misplaced / scored.best_rule[1].misplaced
        for scored in scores
        if scored.best_rule[1].misplaced > WORTH
    ]
    errors = [error for row in exact for error in row.errors]
    named = {
        "misplaced_step_exact_max": max(row.misplaced for row in exact),
        "misplaced_reconstructed_max": max(row.misplaced for row in rebuilt),
        "misplaced_ratio_to_best_baseline_max": max(ratios, default=0.0),
        "request_error_median": float(np.median(errors)),
        "request_error_p95": float(np.percentile(errors, 95)),
        "coverage_of_90": _coverage(exact),
        "coverage_of_90_reconstructed": _coverage(rebuilt),
    }
    return {f"{prefix}{name}": value for name, value in named.items()}


def _coverage(rows: list[Score]) -> float:
    count = sum(len(row.errors) for row in rows)
    return sum((row.covered or 0.0) * len(row.errors) for row in rows) / count


def main() -> None:
    """Measure, print a table for each load, and the JSON line."""
    parser = argparse.ArgumentParser(description="How many joules are misplaced, against known truth.")
    parser.add_argument("--set", dest="which", choices=["tune", "report"], default="report")
    parser.add_argument("--loads", default="", help="names or groups, with commas between; all else")
    parser.add_argument("--quick", action="store_true", help=f"at most {QUICK_REQUESTS} requests a load")
    parser.add_argument("--requests", type=int, help="at most so many requests a load")
    parser.add_argument("--repeat", type=int, default=1, help="each load so often, with other seeds")
    parser.add_argument("--trace", type=Path, default=os.environ.get(TRACE), help="CSV of real requests")
    parser.add_argument("--keep", type=Path, help="keep the recordings in this folder")
    given = parser.parse_args()
    most = given.requests or (QUICK_REQUESTS if given.quick else 10**9)
    found = tasks(given.which, most, Path(given.trace) if given.trace else None, given.repeat)
    names = [name for name in given.loads.split(",") if name]
    scores = {}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        for name, task in chosen(found, names).items():
            scores[name] = measure(task, (given.keep or Path(temporary)) / name)
            show(name, scores[name])
    print("", *summary(scores), sep="\n")
    rounded = {key: round(value, 4) for key, value in figures(scores).items()}
    machine = {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()}
    notes = (
        f"set {given.which}{', quick' if given.quick else ''}: {', '.join(scores)}; sizes and arrivals of azure "
        f"{'from the trace itself' if given.trace else 'drawn by its quantiles'}; {time.perf_counter() - began:.0f} s"
    )
    line = {"bench": "accuracy", "machine": machine, "figures": rounded, "notes": notes}
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
