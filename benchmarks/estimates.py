"""How far estimates are from measured energy: ours, EcoLogits' and others', on ML.ENERGY's rows.

    python -m benchmarks.estimates [--data FOLDER] [--more FOLDER] [--peers PYTHON]

Whole families of models are held out, one after another (the split is benchmarks/mlenergy/data.py), so that every row
is predicted by coefficients, and by an interval, that have seen neither it nor its relatives. The rows are GPU energy,
so every method's figure is that of the GPUs. The last line is JSON.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.mlenergy.data import FAMILIES, FITTED, PUBLICATION, UNSEEN, DataMissing, Row, read
from benchmarks.mlenergy.fit import FITS, Fitted, fit, quantiles, residuals, target, visible_residuals
from inferwatt.clients import ecologits

Floats = NDArray[np.float64]
DATA = "INFERWATT_MLENERGY"
MORE = "INFERWATT_MLENERGY_MORE"
PEERS = "ESTIMATES_PYTHON"
TOLD = {
    "blind": "model alone",
    "client": "model, time between tokens",
    "batch": "model, batch",
    "served": "model, batch, GPUs, kind",
    "hosted": "all of these",
}


@dataclass(frozen=True, slots=True)
class Score:
    """One method on the rows: median relative error, how often the 90% interval held, and how wide it was."""

    error: float
    coverage: float | None = None
    width: float | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What one of our fits says of rows whose family it has not seen: relative error, and whether the interval held."""

    errors: dict[int, float]
    covered: dict[int, bool]
    width: float

    def score(self, rows: Iterable[Row]) -> Score:
        """Return the score on some of the rows."""
        places = [id(row) for row in rows]
        error = float(np.median([self.errors[place] for place in places]))
        return Score(error, float(np.mean([self.covered[place] for place in places])), self.width, len(places))


def held_out(rows: Sequence[Row], name: str) -> Held:
    """Hold each family out once: its rows by a fit, and by an interval, of the others alone."""
    inputs = FITS[name]
    errors: dict[int, float] = {}
    covered: dict[int, bool] = {}
    widths: list[float] = []
    for family in sorted({row.family for row in rows}):
        own = [row for row in rows if row.family == family]
        others = [row for row in rows if row.family != family]
        missed = target(own) - fit(others, inputs).predict(own)
        low, high = quantiles(*residuals(others, inputs))
        places = [id(row) for row in own]
        errors.update(zip(places, relative(missed).tolist(), strict=True))
        covered.update(zip(places, ((missed >= low) & (missed <= high)).tolist(), strict=True))
        widths += [float(np.exp((high - low) / 2))] * len(own)
    return Held(errors, covered, float(np.median(widths)))


def relative(missed: Floats) -> Floats:
    """Return the relative error of ln(measured / said)."""
    errors: Floats = np.abs(np.exp(-missed) - 1)
    return errors


def median_error(rows: Iterable[Row], said: Callable[[Row], float]) -> Score:
    """Return the score of a method that needs no fitting."""
    errors = [abs(said(row) / row.joules_per_token - 1) for row in rows]
    return Score(float(np.median(errors)), rows=len(errors))


def theirs(row: Row, batch: float | None = None) -> float:
    """Return EcoLogits' joules of the GPUs per output token, by default with the row's true batch."""
    gpus = ecologits.gpus_needed(row.total_billions)
    return gpus * ecologits.gpu_joules_per_token(row.active_billions, row.batch if batch is None else batch)


def ask_peers(python: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what other tools say, from an environment that has them; nothing where there is none."""
    if not python or not Path(python).exists():
        return {}
    script = Path(__file__).with_name("mlenergy") / "peers.py"
    asked = json.dumps([asdict(row) for row in rows])
    made = subprocess.run([python, str(script)], input=asked, capture_output=True, text=True, check=True)
    answers: dict[str, Any] = json.loads(made.stdout)
    return answers


def peer_scores(
    name: str, rows: Sequence[Row], said: Sequence[float | None], keep: Callable[[Row], bool], ours: Held
) -> dict[str, Score]:
    """Return the score of a peer over the rows that it knows, and ours on the same; nothing where it knows none."""
    known = {id(row): value for row, value in zip(rows, said, strict=True) if value is not None and keep(row)}
    answered = [row for row in rows if id(row) in known]
    if not answered:
        return {}
    return {
        name: median_error(answered, lambda row: known[id(row)]),
        "  ours on those, as much told": ours.score(answered),
    }


def table(lines: dict[str, Score]) -> None:
    """Print the scores: rows, median relative error, how often the interval held, how wide it was."""
    for name, score in lines.items():
        held = "" if score.coverage is None else f"{score.coverage:7.3f}"
        width = "" if score.width is None else f"x{score.width:6.2f}"
        print(f"{name:52} {score.rows:5} {score.error:7.3f} {held:>7} {width:>7}")


def unseen(folder: Path, rows: Sequence[Row]) -> dict[str, Score]:
    """Return the scores on tasks that nothing is fitted to: pictures and films in the prompt."""
    lines: dict[str, Score] = {}
    fitted: Fitted = fit(rows, FITS["served"])
    for name in UNSEEN:
        try:
            more = read(folder, [name])
        except DataMissing as missing:
            print(f"left out: {missing}")
            continue
        missed = target(more) - fitted.predict(more)
        label = name.removesuffix(".json")
        lines[f"{label}, ours (never fitted to)"] = Score(float(np.median(relative(missed))), rows=len(more))
        lines[f"{label}, EcoLogits, true batch"] = median_error(more, theirs)
    return lines


def options() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description="How far estimates are from measured energy.")
    parser.add_argument("--data", type=Path, default=os.environ.get(DATA), help=f"{', '.join(FITTED)}; or {DATA}")
    parser.add_argument("--more", type=Path, default=os.environ.get(MORE), help=f"{', '.join(UNSEEN)}; or {MORE}")
    parser.add_argument("--peers", default=os.environ.get(PEERS, ""), help=f"a Python with the other tools; or {PEERS}")
    return parser.parse_args()


def main() -> None:
    """Score every method, print the table and the figures."""
    given = options()
    try:
        rows = read(Path(given.data or "benchmarks/data/mlenergy"), FITTED)
    except DataMissing as missing:
        sys.exit(f"bench-estimates: {missing}\n  fix:   {DATA}=FOLDER make bench-estimates")
    print(f"{'':52} {'rows':>5} {'error':>7} {'held':>7} {'width':>7}")
    ours = {name: held_out(rows, name) for name in TOLD}
    lines = {f"ours: {TOLD[name]}": held.score(rows) for name, held in ours.items()}
    missed, _ = visible_residuals(rows)
    lines["seen, not metered: GPUs * watts * time / batch"] = Score(float(np.median(relative(missed))), rows=len(rows))
    lines["EcoLogits' method, true batch"] = median_error(rows, theirs)
    lines["EcoLogits' method, batch 64"] = median_error(rows, lambda row: theirs(row, ecologits.BATCH))
    table(lines)
    figures = _figures(lines)
    answers = ask_peers(given.peers, rows)
    notes = _peers(answers, rows, ours)
    if "ecologits" in answers:
        said = answers["ecologits"]["joules_per_token"]
        figures["ecologits_made_again_difference"] = max(
            abs(theirs(row) / value - 1) for row, value in zip(rows, said, strict=True)
        )
    if given.more:
        table(unseen(Path(given.more), rows))
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    rounded = {name: round(value, 6) for name, value in figures.items()}
    print(json.dumps({"bench": "estimates", "machine": machine, "figures": rounded, "notes": notes}))


def _figures(lines: dict[str, Score]) -> dict[str, float]:
    ours, without, client = (lines[f"ours: {TOLD[name]}"] for name in ("served", "blind", "client"))
    same = lines["EcoLogits' method, true batch"]
    return {
        "median_relative_error": ours.error,
        "ecologits_median_relative_error": same.error,
        "ratio_to_ecologits": ours.error / same.error,
        "coverage_of_90": ours.coverage or 0.0,
        "coverage_of_90_without_batch": without.coverage or 0.0,
        "width_factor_without_batch": without.width or 0.0,
        "coverage_of_90_client": client.coverage or 0.0,
        "width_factor_client": client.width or 0.0,
        "rows": ours.rows,
    }


KEPT: dict[str, tuple[str, str, Callable[[Row], bool]]] = {
    "ecologits": ("its own code, true batch", "batch", lambda _row: True),
    "ecocost": ("H100, not from this table, no batch", "blind", lambda row: row.family != "gpt-oss"),
    "leadgreen": ("gpqa, models of its chat table", "served", lambda row: row.task == "gpqa"),
}
"""What each peer is asked, which of our fits is told as much, and the rows that are not the peer's own data.

ecocost has its figures of gpt-oss from gpqa.json, Lead Green looks up lm-arena-chat.json."""


def _peers(answers: dict[str, Any], rows: Sequence[Row], ours: dict[str, Held]) -> str:
    """Print the peers' lines, and return the notes."""
    said = []
    for name, (what, as_much, keep) in KEPT.items():
        if name not in answers:
            said.append(f"{name} is not installed")
            continue
        label = f"{name} {answers[name]['version']}: {what}"
        table(peer_scores(label, rows, answers[name]["joules_per_token"], keep, ours[as_much]))
    width = "width is the factor from the middle to either end"
    return "; ".join([f"{PUBLICATION}; GPU energy; {len(FAMILIES)} families, each held out once; {width}", *said])


if __name__ == "__main__":
    main()
