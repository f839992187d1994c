"""What the benchmark of attribution on a GPU computes, on numbers whose answer is known. No GPU is needed for it."""

import json
import os
import subprocess
import sys

import pytest
from benchmarks.gpu.attribution import Log, misplaced, residence, rules, shapley, subsets, used
from benchmarks.gpu.decoder import SHAPES

NAMES = ("a", "b", "c")


def test_shapley_of_measured_sets_is_each_ones_own_and_an_equal_part_of_what_is_shared() -> None:
    """Of 30 J that any set costs once and 1, 2 and 3 J of its own, each pays a third of the 30 and its own."""
    own = dict(zip(NAMES, (1.0, 2.0, 3.0), strict=True))
    cost = {frozenset(chosen): 30.0 + sum(own[name] for name in chosen) for chosen in subsets(NAMES)}

    assert shapley(NAMES, cost) == pytest.approx({name: 10 + own[name] for name in NAMES})


def test_idle_is_taken_off_what_the_counter_gained() -> None:
    """Between two polls the counter is taken to grow evenly."""
    log = Log(polls=[(0, 0), (1_000_000_000, 100_000_000), (2_000_000_000, 300_000_000)])

    assert used(log, 500_000_000, 1_500_000_000, 50.0) == pytest.approx(50 + 100 - 50)


def test_rules_divide_all_of_a_group() -> None:
    """Whatever they divide by; and what they misplace is what somebody has too much."""
    group = (("a", 1000, 10), ("b", 10, 30))

    by_rule = rules(group, {"a": 3.0, "b": 1.0}, 80.0)

    assert {sum(each.values()) for each in by_rule.values()} == {80.0}
    assert by_rule["output_tokens"] == {"a": 20.0, "b": 60.0}
    assert by_rule["residence"] == {"a": 60.0, "b": 20.0}
    assert misplaced(by_rule["output_tokens"], {"a": 60.0, "b": 20.0}) == 0.5


def test_residence_is_the_time_of_a_member_s_own_steps() -> None:
    """A long step counts by its length, and the steps of other runs not at all."""
    steps = [(0, 10**9, ["0/0/a+b/a"]), (10**9, 10**9 + 10**8, ["0/0/a+b/a", "0/0/a+b/b"]), (0, 10**9, ["0/0/a/a"])]
    log = Log(steps=[(t0, t1, [(name, 1, 0, False) for name in names]) for t0, t1, names in steps])

    assert residence(log, "0/0/a+b") == pytest.approx({"a": 1.1, "b": 0.1})


def test_the_models_are_of_the_size_that_they_are_called_by() -> None:
    """One and eight billion parameters, and bytes of KV cache a token as Llama 3.1 8B has them."""
    assert round(SHAPES["1b"].parameters / 1e9) == 1
    assert round(SHAPES["8b"].parameters / 1e9) in {7, 8}
    assert SHAPES["8b"].model().kv_bytes_per_token == 131_072


def test_without_a_gpu_it_says_what_is_missing() -> None:
    """One line, and no traceback."""
    command = [sys.executable, "-m", "benchmarks.gpu.attribution"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


@pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="it needs torch: make test-vllm has it")
def test_over_a_stand_in_meter_it_runs_to_its_end() -> None:
    """Every set of a group of three runs on the CPU; the figures are of a stand-in, and are called so."""
    python = os.environ["VLLM_PYTHON"]
    command = [python, "-m", "benchmarks.gpu.attribution", "--model", "tiny", "--repeats", "1"]
    run = subprocess.run([*command, "--meter", "stand-in"], capture_output=True, text=True, check=True, timeout=300)

    line = json.loads(run.stdout)
    [group] = line["figures"]["groups"]
    assert line["machine"]["gpu"] == "stand-in meter"
    assert len(group["joules"]) == 7
    assert group["our_joules"].keys() == group["shapley_joules"].keys() == group["our_marginal_joules"].keys()
