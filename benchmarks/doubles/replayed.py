"""Eight devices that replay made-up readings: steady noise around a few watts, the same in each run."""

import random

from inferwatt.records import Component, Device, Provenance
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.replay import ReplaySource

DEVICES = 8
POINTS = 1000
STEP_NS = 100_000_000
"""How often a counter moves: 100 ms, as on Ampere, Ada and Hopper boards (Yang, Adamek and Armour, SC'24,
arXiv 2312.02741, results by architecture)."""


def devices() -> tuple[ReplaySource, ...]:
    """Return the devices: parts of the host, so that an engine found by its page runs on all eight."""
    return tuple(_device(number) for number in range(DEVICES))


def discover(_settings: SourcesConfig) -> Found:
    """Return them as the agent finds its sources."""
    return Found(devices())


def _device(number: int) -> ReplaySource:
    noise = random.Random(number)
    points, energy_uj = [], 0
    for at in range(POINTS):
        points.append((at * STEP_NS, energy_uj))
        energy_uj += round(STEP_NS / 1000 * noise.uniform(100.0, 400.0))
    device = Device(
        f"package-{number}",
        kind="replayed",
        domain="package",
        component=Component.CPU,
        provenance=Provenance.SIMULATED,
        max_watts=700.0,
        source="replay",
    )
    return ReplaySource(device, points)
