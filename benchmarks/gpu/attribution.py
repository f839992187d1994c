"""On a machine with an NVIDIA GPU: how far our split is from what requests really cost, and how far simple rules are.

    python -m benchmarks.gpu.attribution --model 1b > result.json

A decoder of random weights (decoder.py) runs groups of three requests with continuous batching. Each group runs as a
whole and in every smaller set of its members, so that the truth is measured, by NVML's counter and nothing else:

- `alone`: what a request uses when it runs by itself;
- `without`: what the group uses less where it is left out (the differential truth of the marginal figure);
- `shapley`: the mean over all orders of joining, of what each adds (the truth of the energy).

Idle power, measured before, is taken off. The attribution sees every step and every poll of the counter, as the agent
does, and no more. Ends with one JSON line; `--save` also writes it to benchmarks/results/. Needs torch with CUDA and
nvidia-ml-py; nothing else should run on the GPU. `--meter stand-in` tries the program without a GPU: it counts 20 W of
this process' CPU time, and its figures mean nothing.
"""

import argparse
import importlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.decoder import SHAPES, Decoder, Running
from inferwatt.attribution.over_arrays import Split, Steps, attribute

RESULTS = Path(__file__).resolve().parent.parent / "results"
POLL_SECONDS = 0.02
REST_SECONDS = 0.5
IDLE_SECONDS = 3.0
STAND_IN_WATTS = 20.0
GROUPS = (
    (("long prompt", 3000, 200), ("chat", 200, 250), ("short", 40, 60)),
    (("long answer", 100, 400), ("chat", 200, 150), ("prompt only", 2500, 2)),
    (("chat", 200, 200), ("chat again", 200, 200), ("long context", 6000, 200)),
)
"""Name, prompt tokens and output tokens of each member."""
TINY = ((("long prompt", 300, 20), ("chat", 20, 25), ("short", 4, 6)),)
Sets = dict[frozenset[str], float]


@dataclass(slots=True)
class Log:
    """What the attribution is given: each step with its members, and each poll of the counter."""

    steps: list[tuple[int, int, list[tuple[str, int, int, bool]]]] = field(default_factory=list)
    polls: list[tuple[int, int]] = field(default_factory=list)


class Poller:
    """Reads a counter of microjoules each 20 ms, in a thread."""

    def __init__(self, read_uj: Callable[[], int], log: Log) -> None:
        self._read_uj, self._log = read_uj, log
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            uj = self._read_uj()
            self._log.polls.append((time.monotonic_ns(), uj))

    def stop(self) -> None:
        """Read no more."""
        self._ended.set()
        self._thread.join()


def nvml_counter(index: int) -> tuple[str, Callable[[], int]]:
    """Return the name of a GPU, and its counter.

    Raises:
        SystemExit: there is no binding, no GPU, or none with a counter.
    """
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        name = nvml.nvmlDeviceGetName(handle)
    except ImportError:
        raise SystemExit("nvidia-ml-py is missing: pip install nvidia-ml-py") from None
    except Exception as error:  # noqa: BLE001 - whatever NVML says, there is nothing to measure
        raise SystemExit(f"GPU {index} has no energy counter that can be read here: {error}") from None
    return name, lambda: int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * 1000


def run(decoder: Decoder, log: Log, members: Sequence[tuple[str, int, int]], tag: str) -> None:
    """Run requests together, the prompts first, until each has its answer; idle before and after."""
    time.sleep(REST_SECONDS)
    waiting = [Running(f"{tag}/{name}", prompt, output) for name, prompt, output in members]
    running: list[Running] = []
    while waiting or running:
        if waiting:
            running.append(waiting.pop(0))
        seen = [(each.name, each.new_tokens, each.context, each.context == 0) for each in running]
        began_ns = time.monotonic_ns()
        decoder.step(running)
        log.steps.append((began_ns, time.monotonic_ns(), seen))
        running = [each for each in running if not each.is_done]
    time.sleep(REST_SECONDS)


def used(log: Log, t0_ns: int, t1_ns: int, idle_watts: float) -> float:
    """Return what the counter gained between two moments, less idle, joules."""
    t_ns, uj = np.array(log.polls, dtype=np.float64).T
    gained = np.interp(t1_ns, t_ns, uj) - np.interp(t0_ns, t_ns, uj)
    return float(gained) / 1e6 - idle_watts * (t1_ns - t0_ns) / 1e9


def subsets(members: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield every set of members but the empty one, the whole last."""
    for size in range(1, len(members) + 1):
        yield from itertools.combinations(members, size)


def shapley(members: Sequence[str], cost: Sets) -> dict[str, float]:
    """Return each member's Shapley value of measured costs of all sets."""
    whole = frozenset(members)
    found = dict.fromkeys(members, 0.0)
    for name in members:
        others = whole - {name}
        for size in range(len(others) + 1):
            weight = factorial(size) * factorial(len(others) - size) / factorial(len(whole))
            for before in map(frozenset, itertools.combinations(sorted(others), size)):
                found[name] += weight * (cost[before | {name}] - cost.get(before, 0.0))
    return found


def split(log: Log, decoder: Decoder) -> Split:
    """Return what our attribution makes of all that was logged."""
    rows = [(number, *member) for number, (_, _, members) in enumerate(log.steps) for member in members]
    step, request, new, context, prefill = zip(*rows, strict=True)
    t_ns, uj = zip(*log.polls, strict=True)
    starts, ends, _ = zip(*log.steps, strict=True)
    return attribute(t_ns, uj, Steps(starts, ends, step, request, new, context, prefill), model=decoder.shape.model())


def residence(log: Log, tag: str) -> dict[str, float]:
    """Return how long each member of a run was in steps, seconds."""
    found: dict[str, float] = {}
    for t0_ns, t1_ns, members in log.steps:
        for name, *_ in members:
            run_tag, _, member = name.rpartition("/")
            if run_tag == tag:
                found[member] = found.get(member, 0.0) + (t1_ns - t0_ns) / 1e9
    return found


def rules(
    members: Sequence[tuple[str, int, int]], seconds: dict[str, float], total: float
) -> dict[str, dict[str, float]]:
    """Return what simple rules make of a group's energy; `seconds` is how long each member was there."""
    weights = {
        "output_tokens": {name: float(output) for name, _, output in members},
        "all_tokens": {name: float(prompt + output) for name, prompt, output in members},
        "residence": seconds,
        "equal": {name: 1.0 for name, _, _ in members},
    }
    return {rule: {name: total * each / sum(by.values()) for name, each in by.items()} for rule, by in weights.items()}


def misplaced(told: dict[str, float], true: dict[str, float]) -> float:
    """Return half the sum of absolute differences over the true sum."""
    return sum(abs(told[name] - true[name]) for name in true) / 2 / sum(true.values())


def measure(
    decoder: Decoder, log: Log, groups: Sequence[Sequence[tuple[str, int, int]]], repeats: int
) -> dict[str, Any]:
    """Run all sets of all groups, and compare."""
    began_ns = time.monotonic_ns()
    time.sleep(IDLE_SECONDS)
    idle_watts = used(log, began_ns, time.monotonic_ns(), 0.0) / ((time.monotonic_ns() - began_ns) / 1e9)
    runs: dict[str, tuple[int, int]] = {}
    for turn, (number, group) in itertools.product(range(repeats), enumerate(groups)):
        sizes = {name: (name, prompt, output) for name, prompt, output in group}
        for chosen in subsets(list(sizes)):
            tag = f"{number}/{turn}/{'+'.join(chosen)}"
            start_ns = time.monotonic_ns()
            run(decoder, log, [sizes[name] for name in chosen], tag)
            runs[tag] = (start_ns, time.monotonic_ns())
            print(f"{tag}: {used(log, *runs[tag], idle_watts):.1f} J", file=sys.stderr)
    ours = split(log, decoder)
    energy = dict(zip(ours.request, ours.energy_joules.tolist(), strict=True))
    marginal = dict(zip(ours.request, ours.marginal_joules.tolist(), strict=True))
    found = []
    for number, group in enumerate(groups):
        names = [name for name, _, _ in group]
        cost: Sets = {
            frozenset(chosen): float(
                np.mean(
                    [used(log, *runs[f"{number}/{turn}/{'+'.join(chosen)}"], idle_watts) for turn in range(repeats)]
                )
            )
            for chosen in subsets(names)
        }
        seconds = residence(log, f"{number}/0/{'+'.join(names)}")
        found.append(_compared(number, group, cost, seconds, energy, marginal, repeats))
    return {"idle_watts": round(idle_watts, 1), "groups": found}


def _compared(
    number: int,
    group: Sequence[tuple[str, int, int]],
    cost: Sets,
    seconds: dict[str, float],
    energy: dict[str, float],
    marginal: dict[str, float],
    repeats: int,
) -> dict[str, Any]:
    names = [name for name, _, _ in group]
    whole = frozenset(names)

    def mean(table: dict[str, float], tag: str, name: str) -> float:
        return float(np.mean([table[f"{number}/{turn}/{tag}/{name}"] for turn in range(repeats)]))

    together = "+".join(names)
    told = {name: mean(energy, together, name) for name in names}
    true = shapley(names, cost)
    simple = rules(group, seconds, cost[whole])
    without = {name: cost[whole] - cost[whole - {name}] for name in names}
    return {
        "members": [list(each) for each in group],
        "joules": {"+".join(sorted(chosen)): round(each, 1) for chosen, each in cost.items()},
        "shapley_joules": {name: round(each, 1) for name, each in true.items()},
        "our_joules": {name: round(each, 1) for name, each in told.items()},
        "misplaced": round(misplaced(told, true), 4),
        "misplaced_by_rules": {rule: round(misplaced(each, true), 4) for rule, each in simple.items()},
        "without_joules": {name: round(each, 1) for name, each in without.items()},
        "our_marginal_joules": {name: round(mean(marginal, together, name), 1) for name in names},
        "alone_error": {name: round(mean(energy, name, name) / cost[frozenset({name})] - 1, 4) for name in names},
    }


def main() -> None:
    """Measure, and print the JSON line."""
    parser = argparse.ArgumentParser(description="Attribution error on a real GPU.")
    parser.add_argument("--model", choices=list(SHAPES), default="1b")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--meter", choices=["nvml", "stand-in"], default="nvml")
    parser.add_argument("--save", action="store_true", help="write it to benchmarks/results too")
    given = parser.parse_args()
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        raise SystemExit("torch is missing: install it with CUDA") from None
    is_real = given.meter == "nvml"
    name, read_uj = (
        nvml_counter(given.gpu)
        if is_real
        else ("stand-in meter", lambda: round(time.process_time() * STAND_IN_WATTS * 1e6))
    )
    if is_real and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU: install it with CUDA")
    decoder = Decoder(torch, SHAPES[given.model], f"cuda:{given.gpu}" if is_real else "cpu")
    log = Log()
    poller = Poller(read_uj, log)
    time.sleep(10 * POLL_SECONDS)
    figures = measure(decoder, log, GROUPS if is_real else TINY, given.repeats)
    poller.stop()
    line = {
        "bench": "gpu-attribution",
        "machine": {"gpu": name, "model": decoder.shape.model().model, "torch": torch.__version__},
        "date": datetime.now(UTC).date().isoformat(),
        "figures": figures,
        "notes": f"{given.repeats} turns of every set of each group; idle taken off; counter polled each 20 ms",
    }
    text = json.dumps(line)
    if given.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"gpu-attribution-{name.replace(' ', '-').lower()}-{line['date']}.json").write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
