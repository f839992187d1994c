"""Engines that work side by side on one device."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.truth.scores import score

from inferwatt import recording
from inferwatt.attribution.beside import Beside
from inferwatt.attribution.work import Shape, StepRows, from_steps
from inferwatt.recording import Meta, Record
from inferwatt.records import Engine, Reading, Request, Step, Tier
from inferwatt.replay import replay
from inferwatt.simulate.costs import Costs
from inferwatt.simulate.loads import LOADS
from inferwatt.simulate.meter import Meter
from inferwatt.simulate.world import Run, Truth, World, simulate

METER = Meter(phase_ratio=0.3, jitter_seconds=0.0, poll_jitter_seconds=0.0)


def half(load: str, seed: int) -> Run:
    """Return a run of one of two engines on a device, at half a load's rate; at rest it draws nothing."""
    chosen = LOADS[load]
    slower = replace(chosen, requests=80, rate_per_second=chosen.rate_per_second / 2)
    return simulate(World(slower, seed=seed, meter=METER, costs=Costs(idle_watts=0.0)))


def beside(runs: list[Run]) -> tuple[Meta, list[Record], dict[str, Truth]]:
    """Return the recording of a device on which these ran side by side, and what each request truly used."""
    engines = tuple(Engine(f"e{number}", f"m{number}", ("gpu-0",)) for number in range(len(runs)))
    models = tuple(replace(run.models[0], model=f"m{number}") for number, run in enumerate(runs))
    polls: list[tuple[int, int, int]] = []
    records: list[Record] = []
    for number, run in enumerate(runs):
        for record in run.records:
            if isinstance(record, Reading):
                polls.append((record.t_ns, number, record.counter_uj or 0))
            if isinstance(record, Step):
                members = tuple((f"{number}{name}", *rest) for name, *rest in record.members)
                records.append(replace(record, engine=f"e{number}", members=members))  # type: ignore[arg-type]
            if isinstance(record, Request):
                name, model = f"{number}{record.request}", f"m{number}"
                records.append(replace(record, engine=f"e{number}", model=model, request=name))
    shown = [0] * len(runs)
    sums: dict[int, int] = {}
    for t_ns, number, counter_uj in sorted(polls):
        shown[number] = counter_uj  # who has ended shows what it last showed
        sums[t_ns] = sum(shown)
    records += [Reading(t_ns, "gpu-0", counter_uj) for t_ns, counter_uj in sums.items()]
    truth = {f"{number}{name}": true for number, run in enumerate(runs) for name, true in run.truth.items()}
    return Meta(engines, models, runs[0].devices), records, truth


@pytest.mark.parametrize(("first", "second"), [("chat", "mixed"), ("long", "chat")])
def test_engines_that_are_never_alone_are_told_apart(tmp_path: Path, first: str, second: str) -> None:
    """Two busy engines share a device: each request is charged as if its engine had had a counter of its own."""
    meta, records, truth = beside([half(first, 3), half(second, 4)])
    recording.write(tmp_path, meta, records)

    for tier, most in ((Tier.STEP_EXACT, 0.01), (Tier.STEP_RECONSTRUCTED, 0.03)):
        found = {record.request: energy for record, energy in replay(tmp_path, tier=tier).requests}
        assert score(truth, found).misplaced < most, tier


def test_before_anything_is_learnt_time_decides() -> None:
    """An engine that worked twice as long is supposed to have used twice as much, until ticks say otherwise."""
    one = np.ones(1)
    step = StepRows(0, 10_000_000, np.zeros(1, dtype=np.int64), one, one, np.zeros(1, dtype=np.bool_))
    steps = {"a": step, "b": replace(step, t1_ns=20_000_000)}
    work = {name: rows for name, each in steps.items() if (rows := from_steps([each], 0, each.t1_ns, Shape()))}

    assert Beside().amounts(work).tolist() == [0.01, 0.02]
