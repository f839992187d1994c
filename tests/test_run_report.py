"""What `inferwatt run` says: two figures, never one, and nothing added across provenances."""

import json
from pathlib import Path

import pytest

from inferwatt.records import Component, Device, Provenance
from inferwatt.run import Report
from inferwatt.run_meter import DeviceFigures, Share
from inferwatt.run_report import as_document, as_text, write
from inferwatt.snapshot import Lack

PACKAGE = Device("package-0", component=Component.CPU, systematic_ratio=0.1, provenance=Provenance.MEASURED)
DRAM = Device("dram-0", component=Component.DRAM, systematic_ratio=0.1, provenance=Provenance.MEASURED)
GPU = Device("gpu-0", systematic_ratio=0.05, provenance=Provenance.SAMPLED)


def report(*devices: DeviceFigures) -> Report:
    """Return a report of a command of two seconds."""
    return Report(["sleep", "2"], 0, 2.0, 0.5, devices, [Lack("no RAPL", "/sys", "modprobe")])


def test_the_devices_and_the_command_are_two_figures() -> None:
    """Each device has its own line and the command's share another, with bounds and provenance."""
    text = " ".join(as_text(report(DeviceFigures(PACKAGE, 20.0, Share(5.0, 4.0, 6.0), 0))).split())

    assert "devices in that time 20 J (18 to 22 J) 10 W package-0, measured, ±10%" in text
    assert "the command's share 5 J (3.6 to 6.6 J) 2.5 W by CPU time" in text
    assert "lacks: no RAPL (/sys); fix: modprobe" in text


def test_a_share_that_cannot_be_told_is_not_a_number() -> None:
    """A device without a way to tell its users says so, in words and as null."""
    unknown = report(DeviceFigures(GPU, 20.0, None, 0))

    assert "not known: nothing tells who used gpu-0" in as_text(unknown)
    assert as_document(unknown)["devices"][0]["command"] is None
    assert as_document(unknown)["totals"][0]["command_energy_joules"] is None


def test_totals_stay_apart_by_provenance() -> None:
    """Measured joules are summed with measured ones alone."""
    share = Share(1.0, 1.0, 1.0)
    devices = (
        DeviceFigures(PACKAGE, 20.0, share, 0),
        DeviceFigures(DRAM, 2.0, share, 0),
        DeviceFigures(GPU, 100.0, None, 0),
    )
    totals = {total["provenance"]: total for total in as_document(report(*devices))["totals"]}

    assert totals["measured"]["energy_joules"] == pytest.approx(22.0)
    assert totals["measured"]["command_energy_joules"] == pytest.approx(2.0)
    assert totals["sampled"]["energy_joules"] == pytest.approx(100.0)


def test_json_goes_to_the_file_that_was_named(tmp_path: Path) -> None:
    """`--output` holds one document with what was run."""
    write(report(), as_json=True, output=str(tmp_path / "out.json"))
    document = json.loads((tmp_path / "out.json").read_text())

    assert document["command"] == ["sleep", "2"]
    assert document["devices"] == []
    assert document["lacks"] == [{"what": "no RAPL", "where": "/sys", "fix": "modprobe"}]
