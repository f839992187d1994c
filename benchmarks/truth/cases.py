"""The worlds of the accuracy benchmark, from loads.toml; and a trace of real requests, where one is at hand."""

import csv
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from inferwatt.records import Model
from inferwatt.simulate.costs import EXPERTS, Costs
from inferwatt.simulate.loads import LOADS, shortened
from inferwatt.simulate.meter import Meter
from inferwatt.simulate.world import World

DATA = Path(__file__).with_name("loads.toml")
TRACED = "azure"
"""The load that a real trace replaces, where there is one."""
_BETWEEN_SEEDS = 100_000
Group = Literal["loads", "forms", "unlearnable", "sensor"]
Overrides = dict[str, Any]


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """One row of loads.toml."""

    name: str
    load: str
    seed: int
    truth: str
    meter: str
    group: Group = "loads"
    forms: tuple[str, ...] = ()


class Form(msgspec.Struct, forbid_unknown_fields=True):
    """What is laid over a case: overrides of the parts of a world, and what is told of the model and the device."""

    costs: Overrides = {}
    climate: Overrides = {}
    scheduler: Overrides = {}
    witness: Overrides = {}
    shape: Literal["dense", "experts", ""] = ""
    told: Literal["all", "nothing"] = "all"
    told_times: dict[str, float] = {}
    peaks: bool = True
    world: Overrides = {}
    devices: tuple[float, ...] = ()


class Cases(msgspec.Struct, forbid_unknown_fields=True):
    """The whole of loads.toml."""

    truths: dict[str, Overrides]
    meters: dict[str, Overrides]
    forms: dict[str, Form]
    tune: list[Case]
    report: list[Case]


@dataclass(frozen=True, slots=True)
class Task:
    """A world to be measured, and the group that it is of."""

    group: Group
    world: World


def tasks(which: str, requests: int, trace: Path | None, repeat: int = 1) -> dict[str, Task]:
    """Return the worlds of a set ("tune" or "report") by name, each with at most so many requests.

    Each is there `repeat` times, with other seeds.
    """
    cases = msgspec.convert(tomllib.loads(DATA.read_text()), Cases)
    rows = read_trace(trace) if trace else ()
    found = {}
    for case in cases.tune if which == "tune" else cases.report:
        world = World(
            shortened(LOADS[case.load], requests),
            seed=case.seed,
            costs=replace(Costs(), **cases.truths[case.truth]),
            meter=replace(Meter(), **cases.meters[case.meter]),
            trace=rows if case.load == TRACED else (),
        )
        for name in case.forms:
            world = laid_over(world, cases.forms[name])
        for turn in range(repeat):
            name = case.name if turn == 0 else f"{case.name}#{turn + 1}"
            found[name] = Task(case.group, replace(world, seed=case.seed + turn * _BETWEEN_SEEDS))
    return found


def laid_over(world: World, form: Form) -> World:
    """Return the world in another form."""
    shape = EXPERTS if form.shape == "experts" else world.shape
    return replace(
        replace(world, **form.world),
        shape=shape,
        told_shape=_told(shape, form) or world.told_shape,
        told_peaks=world.told_peaks and form.peaks,
        costs=replace(world.costs, **form.costs),
        climate=replace(world.climate, **form.climate),
        scheduler=replace(world.scheduler, **form.scheduler),
        witness=replace(world.witness, **form.witness),
        device_shares=form.devices or world.device_shares,
    )


def _told(shape: Model, form: Form) -> Model | None:
    """Return what is told of the model where that is not the truth."""
    if form.told == "nothing":
        return Model(shape.model)
    if form.told_times:
        wrong: Mapping[str, Any] = {name: getattr(shape, name) * times for name, times in form.told_times.items()}
        return replace(shape, **wrong)
    return None


def read_trace(path: Path) -> tuple[tuple[float, int, int], ...]:
    """Return (seconds, prompt tokens, output tokens) of each row; columns as in the Azure LLM inference traces."""
    with path.open(newline="") as stream:
        return tuple(_row(row) for row in csv.DictReader(stream))


def _row(row: dict[str, str]) -> tuple[float, int, int]:
    moment = datetime.fromisoformat(row["TIMESTAMP"][:26])
    return moment.timestamp(), int(row["ContextTokens"]), int(row["GeneratedTokens"])


def chosen(found: dict[str, Task], names: Sequence[str]) -> dict[str, Task]:
    """Return the tasks of these names or groups, all where none is named.

    Raises:
        SystemExit: there is no such load.
    """
    groups = {task.group for task in found.values()}
    unknown = [name for name in names if name not in found and name not in groups]
    if unknown:
        raise SystemExit(f"there is no load {unknown[0]}; one of: {', '.join(found)}; or a group: {', '.join(groups)}")
    return {
        name: task for name, task in found.items() if not names or {name, name.partition("#")[0], task.group} & {*names}
    }
