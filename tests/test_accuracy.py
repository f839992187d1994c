"""The accuracy benchmark: its worlds, its scores, and its last line."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.truth.cases import read_trace, tasks
from benchmarks.truth.rules import live_residence
from benchmarks.truth.scores import score_joules

from inferwatt.records import Reading, Request
from inferwatt.simulate.world import Truth

ROOT = Path(__file__).resolve().parent.parent
TRUTH = {"a": Truth(1.0, 3.0, 0.0), "b": Truth(2.0, 4.0, 0.0)}


def test_what_is_reported_on_was_not_tuned_on() -> None:
    """The two sets share no seed and no truth, but for names of loads."""
    tuned, reported = tasks("tune", 10, None), tasks("report", 10, None)

    assert list(tuned) == list(reported)
    assert not {task.world.seed for task in tuned.values()} & {task.world.seed for task in reported.values()}
    assert all(tuned[name].world.costs != reported[name].world.costs for name in tuned)


def test_a_load_is_repeated_with_other_seeds() -> None:
    """Each time it is another run of the same world."""
    repeated = tasks("tune", 10, None, repeat=2)
    first, second = repeated["chat"].world, repeated["chat#2"].world

    assert first.seed != second.seed
    assert replace(second, seed=first.seed) == first


def test_misplaced_is_half_the_difference() -> None:
    """A joule that one has too much and another too little is one joule misplaced; of twice all, half is too much."""
    swapped, doubled = score_joules(TRUTH, {"a": 5.0, "b": 5.0}), score_joules(TRUTH, {"a": 8.0, "b": 12.0})

    assert swapped.misplaced == pytest.approx(0.1)
    assert swapped.errors == pytest.approx((0.25, 1 / 6))
    assert (doubled.misplaced, doubled.split) == (0.5, 0.0)


def test_live_residence_divides_by_who_is_there() -> None:
    """Alone for a second at 10 W, then a second shared."""
    readings = [Reading(second * 10**9, "gpu-0", counter_uj=second * 10_000_000) for second in range(4)]
    requests = {
        "a": Request("a", arrival_ns=0, end_ns=2 * 10**9),
        "b": Request("b", arrival_ns=10**9, end_ns=2 * 10**9),
    }
    true = {"a": Truth(0.0, 15.0, 0.0), "b": Truth(0.0, 5.0, 0.0)}

    assert live_residence(true, requests, readings).misplaced == pytest.approx(0.0, abs=1e-9)


def test_a_trace_is_read(tmp_path: Path) -> None:
    """Rows are seconds, prompt and output; the fraction of a second may have seven digits."""
    path = tmp_path / "trace.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:47,9,8\n"
    )

    (first, prompt, output), (second, *_) = read_trace(path)

    assert (prompt, output) == (374, 44)
    assert second - first == pytest.approx(0.31941, abs=1e-6)


def test_the_benchmark_ends_with_its_figures(tmp_path: Path) -> None:
    """`python -m benchmarks.accuracy` prints a table and one JSON line with the figures, and keeps the recording."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.accuracy", "--loads", "light", "--requests", "15", "--keep", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = run.stdout.splitlines()
    figures = json.loads(lines[-1])["figures"]

    assert {"misplaced_step_exact_max", "misplaced_reconstructed_max", "coverage_of_90"} <= set(figures)
    assert 0 < figures["misplaced_step_exact_max"] < 0.2
    assert any(line.startswith("step_exact") for line in lines)
    assert (tmp_path / "light" / "truth.json").exists()
