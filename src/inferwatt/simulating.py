"""Simulated worlds on disk: a recording with its truth beside it (docs/simulate.md)."""

from pathlib import Path

import msgspec

from inferwatt import __version__, recording
from inferwatt.recording import Meta
from inferwatt.simulate.world import Run

TRUTH = "truth.json"


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
