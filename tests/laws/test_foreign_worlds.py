"""Meters and witnesses unlike the usual ones, replayed from their recordings."""

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.truth.scores import score

from inferwatt import simulating_disk
from inferwatt.records import Tier
from inferwatt.replay import replay
from inferwatt.simulate.loads import LOADS
from inferwatt.simulate.meter import Meter
from inferwatt.simulate.witness import Witness
from inferwatt.simulate.world import World, simulate
from tests.laws.test_foreign import figures


def worlds() -> dict[str, World]:
    """Return worlds whose meters and witnesses are unlike the usual ones."""
    base = World(replace(LOADS["mixed"], requests=60), seed=11)
    meters = {
        "tick 20": Meter(tick_seconds=0.02),
        "tick 500": Meter(tick_seconds=0.5),
        "lag": Meter(lag_seconds=0.06),
        "averaged": Meter(window_seconds=0.05),
        "polled once a second": Meter(poll_seconds=1.0),
        "polls lost": Meter(lost_ratio=0.1, failed_ratio=0.02),
        "power": Meter(shows_power=True),
        "power 20": Meter(shows_power=True, tick_seconds=0.02),
    }
    found = {name: replace(base, meter=meter) for name, meter in meters.items()}
    return found | {
        "three devices": replace(base, device_shares=(0.4, 0.35, 0.25)),
        "chunks": replace(base, witness=Witness(chunks=True)),
        "sums": replace(base, witness=Witness(sums="step")),
    }


@pytest.mark.parametrize("name", worlds())
def test_other_meters_and_witnesses_are_split_as_well(tmp_path: Path, name: str) -> None:
    """Ticks of 20 to 500 ms, lag, averages, power alone, lost polls, several devices: near the truth all the same."""
    made = simulate(worlds()[name])
    simulating_disk.write(tmp_path, made)

    for tier, most in ((Tier.STEP_EXACT, 0.04), (Tier.STEP_RECONSTRUCTED, 0.05), (Tier.REQUEST_SPAN, 0.08)):
        result = replay(tmp_path, tier=tier)
        figures(result)
        found = score(made.truth, {record.request: energy for record, energy in result.requests})
        assert found.misplaced < most, tier
