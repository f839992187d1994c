"""Simulated worlds on disk, a recording with its truth beside it (docs/simulate.md)."""

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path

import msgspec

from inferwatt import __version__, recording
from inferwatt.errors import Unavailable
from inferwatt.recording import Meta
from inferwatt.simulate.loads import LOADS
from inferwatt.simulate.world import Run, World, simulate

TRUTH = "truth.json"
_META = "meta.json"


def record(folder: Path, *, load: str, seconds: float, seed: int) -> Iterator[str]:
    """Simulate a load for so long, write its recording into `folder`, and return what there is to say about it.

    Raises:
        Unavailable: the folder holds a recording already, or cannot be written.
    """
    if (folder / _META).exists():
        raise Unavailable("there is a recording here already", where=folder, fix="choose an empty folder")
    chosen = LOADS[load]
    run = simulate(World(replace(chosen, requests=max(1, ceil(chosen.rate_per_second * seconds))), seed=seed))
    try:
        write(folder, run)
    except OSError as exc:
        raise Unavailable(f"cannot write: {exc.strerror}", where=folder, fix="choose another folder") from exc
    joules = f"{run.active_joules:.1f} J of work in {run.total_joules:.1f} J, simulated"
    yield f"{folder}: {len(run.truth)} requests, {joules}"
    yield f"what each truly used: {folder / TRUTH}"
    yield f"next: inferwatt replay {folder}"


def write(folder: Path, run: Run) -> None:
    """Write a run as a recording, and what each request truly used as truth.json.

    Raises:
        OSError: the folder cannot be written.
    """
    meta = Meta(run.engines, run.models, run.devices, host="simulated", agent="inferwatt simulate", version=__version__)
    recording.write(folder, meta, run.records)
    truth = {
        name: {
            "energy_joules": true.energy_joules,
            "prefill_joules": true.prefill_joules,
            "decode_joules": true.decode_joules,
        }
        for name, true in run.truth.items()
    }
    (folder / TRUTH).write_bytes(msgspec.json.format(msgspec.json.encode(truth), indent=1) + b"\n")
