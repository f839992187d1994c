"""A simulated accelerator, as the simulator keeps it in a folder."""

import json
import os
from pathlib import Path

import pytest

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Condition, Provenance, Reading, Usage
from inferwatt.simulating_live import SimulatedDevice
from inferwatt.sources import SourcesConfig
from inferwatt.sources.simulated import discover

MS = 1_000_000


def test_nothing_is_simulated_unless_it_is_asked_for() -> None:
    """Without a folder in the configuration there is neither a device nor a lack."""
    found = discover(SourcesConfig())

    assert (found.sources, found.lacks) == ((), ())


def test_what_the_simulator_shows_is_read(tmp_path: Path) -> None:
    """The counter at each read, in whole millijoules, and a few times a second who used the device."""
    shown = SimulatedDevice(tmp_path)
    shown.show(12.34567, 0.75)
    (source,) = discover(SourcesConfig(simulated=str(tmp_path))).sources

    assert source.device.device == "gpu-0"
    assert source.read(5 * MS) == Reading(5 * MS, "gpu-0", counter_uj=12_345_000)
    shown.show(20.0, 0.5)
    assert source.read(300 * MS) == (
        Reading(300 * MS, "gpu-0", counter_uj=20_000_000),
        Usage(5 * MS, 300 * MS, "gpu-0", {os.getpid(): 0.5}, 0.0),
        Condition(300 * MS, "gpu-0", utilization_ratio=0.5),
    )
    source.close()


def test_its_joules_are_simulated_whatever_it_says(tmp_path: Path) -> None:
    """A device that calls itself measured is simulated all the same."""
    shown = SimulatedDevice(tmp_path)
    path = shown.folder / "device.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "provenance": "measured"}))
    (source,) = discover(SourcesConfig(simulated=str(tmp_path))).sources

    assert source.device.provenance is Provenance.SIMULATED
    assert source.device.source == "simulated"


def test_a_folder_without_a_device_is_a_lack(tmp_path: Path) -> None:
    """What was asked for and is not there is said, with the command that makes it."""
    found = discover(SourcesConfig(simulated=str(tmp_path / "nothing")))

    assert [(lack.what, lack.fix) for lack in found.lacks] == [
        ("there is no simulated device", "inferwatt simulate --live")
    ]


def test_a_device_that_cannot_be_read_is_a_lack(tmp_path: Path) -> None:
    """What is no device is said, and is not read."""
    SimulatedDevice(tmp_path).folder.joinpath("device.json").write_text("{")

    found = discover(SourcesConfig(simulated=str(tmp_path)))

    assert found.sources == ()
    assert "cannot be read" in found.lacks[0].what


def test_a_device_that_was_taken_away_is_gone(tmp_path: Path) -> None:
    """The simulator takes its device away when it ends."""
    shown = SimulatedDevice(tmp_path)
    shown.show(0.0, 0.0)
    (source,) = discover(SourcesConfig(simulated=str(tmp_path))).sources
    shown.remove()

    with pytest.raises(SourceGone):
        source.read(0)


def test_a_state_that_makes_no_sense_is_tried_again(tmp_path: Path) -> None:
    """A broken file is one lost sample."""
    shown = SimulatedDevice(tmp_path)
    (source,) = discover(SourcesConfig(simulated=str(tmp_path))).sources
    (shown.folder / "state.json").write_text('{"counter_uj": "many"}')

    with pytest.raises(SourceRetry):
        source.read(0)
