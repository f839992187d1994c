"""The worlds of the accuracy benchmark, from loads.toml; and a trace of real requests, where one is at hand."""

import csv
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from inferwatt.simulate.costs import Costs
from inferwatt.simulate.loads import LOADS, shortened
from inferwatt.simulate.meter import Meter
from inferwatt.simulate.world import World

DATA = Path(__file__).with_name("loads.toml")
TRACED = "azure"
"""The load that a real trace replaces, where there is one."""


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """One row of loads.toml."""

    name: str
    load: str
    seed: int
    truth: str
    meter: str


class Cases(msgspec.Struct, forbid_unknown_fields=True):
    """The whole of loads.toml."""

    truths: dict[str, dict[str, Any]]
    meters: dict[str, dict[str, Any]]
    tune: list[Case]
    report: list[Case]


def worlds(which: str, requests: int, trace: Path | None) -> dict[str, World]:
    """Return the worlds of a set ("tune" or "report") by name, each with at most so many requests."""
    cases = msgspec.convert(tomllib.loads(DATA.read_text()), Cases)
    rows = read_trace(trace) if trace else ()
    return {
        case.name: World(
            shortened(LOADS[case.load], requests),
            seed=case.seed,
            costs=replace(Costs(), **cases.truths[case.truth]),
            meter=replace(Meter(), **cases.meters[case.meter]),
            trace=rows if case.load == TRACED else (),
        )
        for case in getattr(cases, which)
    }


def read_trace(path: Path) -> tuple[tuple[float, int, int], ...]:
    """Return (seconds, prompt tokens, output tokens) of each row; columns as in the Azure LLM inference traces."""
    with path.open(newline="") as stream:
        return tuple(_row(row) for row in csv.DictReader(stream))


def _row(row: dict[str, str]) -> tuple[float, int, int]:
    moment = datetime.fromisoformat(row["TIMESTAMP"][:26])
    return moment.timestamp(), int(row["ContextTokens"]), int(row["GeneratedTokens"])


def chosen(found: dict[str, World], names: Sequence[str]) -> dict[str, World]:
    """Return the worlds of these names, all where none is named.

    Raises:
        SystemExit: there is no such world.
    """
    unknown = [name for name in names if name not in found]
    if unknown:
        raise SystemExit(f"there is no load {unknown[0]}; one of: {', '.join(found)}")
    return {name: found[name] for name in names} if names else found
