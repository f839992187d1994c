"""How many request-steps one core attributes in a second, at batches of 1, 32 and 256.

A request-step is one member of one engine step: decoded from its record, placed on the counter's ticks, priced by the
cost model, rounded to the microjoule and written to its request's account. Records are made before the clock starts.
Prints one JSON line; the baseline is the same law written as a loop over dictionaries, in the same run.
"""

import json
import platform
import sys
import time
from collections.abc import Iterator

import numpy as np

from inferwatt.attribution.attributor import Attributor
from inferwatt.records import Device, Engine, Model, Outcome, Phase, Reading, Request, Step

MS = 1_000_000
STEP_NS = 20 * MS
TICK_NS = 100 * MS
UJ_PER_TICK = 40_000_000


def steps(batch: int, count: int) -> list[Step]:
    """Return decode steps; every 50th lets one member go and prefills a new one."""
    members = [(f"r{i}", 100 + i) for i in range(batch)]
    made, newest = [], batch
    for number in range(count):
        rows = [(name, 1, context + number, Phase.DECODE) for name, context in members]
        if number % 50 == 49:
            members[number % batch] = (f"r{newest}", 100 - number)
            rows[number % batch] = (f"r{newest}", 100, 0, Phase.PREFILL)
            newest += 1
        made.append(Step(number * STEP_NS, (number + 1) * STEP_NS, "e0", tuple(rows)))
    return made


def story(batch: int, count: int) -> Iterator[Step | Reading | Request]:
    """Return steps with the readings that close their ticks, and the ends of requests."""
    newest = batch
    for number, step in enumerate(steps(batch, count)):
        yield step
        if number % 50 == 49 and number > 50:
            yield Request(f"r{newest - batch}", "e0", "m", end_ns=step.t0_ns, outcome=Outcome.FINISHED)
            newest += 1
        if step.t1_ns % TICK_NS == 0:
            yield Reading(step.t1_ns, "gpu-0", counter_uj=step.t1_ns // TICK_NS * UJ_PER_TICK)


def measured(batch: int, count: int) -> float:
    """Return request-steps attributed per CPU second."""
    records = list(story(batch, count))
    attributor = Attributor()
    attributor.add_device(Device("gpu-0", "H100", peak_flops=495e12, peak_bytes_per_second=2.68e12))
    attributor.add_model(Model("m", 16e9, 16e9, 524288.0, 131072.0))
    attributor.add_engine(Engine("e0", "m", ("gpu-0",)))
    began = time.process_time()
    for record in records:
        attributor.feed(record)
        if isinstance(record, Reading):
            attributor.advance(record.t_ns)
    elapsed = time.process_time() - began
    totals = attributor.devices["gpu-0"]
    assert totals.requests_uj > 0.9 * totals.measured_uj
    return batch * count / elapsed


def looped(batch: int, count: int) -> float:
    """Return the same figure of the law written as a loop: split each step's share of its tick over a dictionary."""
    made = steps(batch, count)
    accounts: dict[str, int] = {}
    began = time.process_time()
    for step in made:
        weights = {name: new * 16e9 + 131072.0 * (context + new) for name, new, context, _ in step.members}
        total = sum(weights.values())
        energy_uj = UJ_PER_TICK // 5
        shares = {name: int(energy_uj * weight / total) for name, weight in weights.items()}
        left = energy_uj - sum(shares.values())
        for name in sorted(shares, key=lambda n: -weights[n])[:left]:
            shares[name] += 1
        for name, share in shares.items():
            accounts[name] = accounts.get(name, 0) + share
    return batch * count / (time.process_time() - began)


def main() -> None:
    """Measure and print the JSON line."""
    figures = {}
    for batch, count in ((1, 20_000), (32, 10_000), (256, 4_000)):
        best = max(measured(batch, count) for _ in range(3))
        figures[f"request_steps_per_second_b{batch}"] = round(best)
    figures["loop_request_steps_per_second_b256"] = round(max(looped(256, 2_000) for _ in range(3)))
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    notes = "best of 3, CPU time; from Step records; ticks of 100 ms, steps of 20 ms; baseline: a loop over dicts"
    sys.stdout.write(
        json.dumps({"bench": "attribution", "machine": machine, "figures": figures, "notes": notes}) + "\n"
    )


if __name__ == "__main__":
    main()
