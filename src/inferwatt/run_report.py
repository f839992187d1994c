"""What `inferwatt run` says afterwards: a few lines for people, or one JSON document.

`--json` writes one document:

    {"command": [...], "exit_status": 0, "duration_seconds": 1.0, "cpu_seconds": 0.9,
     "devices": [{"device", "domain", "component", "provenance", "systematic_ratio", "energy_joules", "average_watts",
                  "low_joules", "high_joules", "lost_reads",
                  "command": {"energy_joules", "average_watts", "low_joules", "high_joules"} or null}],
     "totals": [{"provenance", "energy_joules", "low_joules", "high_joules",
                 "command_energy_joules", "command_low_joules", "command_high_joules"}],
     "lacks": [{"what", "where", "fix"}]}

`low_joules` and `high_joules` hold the split's and the sensor's bounds together; what is not known is null.
"""

import contextlib
import json
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from inferwatt.run import Report

if TYPE_CHECKING:  # the summary must come even where the meter cannot be imported
    from inferwatt.run_meter import DeviceFigures, Share


def bounds(energy_joules: float, share: "Share | None", systematic_ratio: float) -> tuple[float, float]:
    """Return the split's and the sensor's bounds together, joules."""
    low, high = (share.low_joules, share.high_joules) if share else (energy_joules, energy_joules)
    return max(0.0, low * (1 - systematic_ratio)), high * (1 + systematic_ratio)


def as_document(report: Report) -> dict[str, Any]:
    """Return the JSON document that the module describes."""
    return {
        "command": list(report.command),
        "exit_status": report.exit_status,
        "duration_seconds": report.duration_seconds,
        "cpu_seconds": report.cpu_seconds,
        "devices": [_device_document(figures, report.duration_seconds) for figures in report.devices],
        "totals": _totals(report.devices),
        "lacks": [{"what": lack.what, "where": lack.where, "fix": lack.fix} for lack in report.lacks],
    }


def _device_document(figures: "DeviceFigures", duration_seconds: float) -> dict[str, Any]:
    device, share = figures.device, figures.share
    low, high = bounds(figures.energy_joules, None, device.systematic_ratio)
    document: dict[str, Any] = {
        "device": device.device,
        "domain": device.domain,
        "component": device.component,
        "provenance": device.provenance,
        "systematic_ratio": device.systematic_ratio,
        "energy_joules": figures.energy_joules,
        "average_watts": figures.energy_joules / duration_seconds,
        "low_joules": low,
        "high_joules": high,
        "lost_reads": figures.lost_reads,
        "command": None,
    }
    if share is not None:
        low, high = bounds(share.energy_joules, share, device.systematic_ratio)
        document["command"] = {
            "energy_joules": share.energy_joules,
            "average_watts": share.energy_joules / duration_seconds,
            "low_joules": low,
            "high_joules": high,
        }
    return document


def _totals(devices: Sequence["DeviceFigures"]) -> list[dict[str, Any]]:
    """Sum the devices of each provenance; bounds add linearly, and an unknown share makes the sum unknown."""
    totals = []
    for provenance in sorted({figures.device.provenance for figures in devices}):
        rows = [_device_document(f, 1.0) for f in devices if f.device.provenance is provenance]
        total: dict[str, Any] = {"provenance": provenance}
        for key in ("energy_joules", "low_joules", "high_joules"):
            total[key] = sum(row[key] for row in rows)
        for key in ("energy_joules", "low_joules", "high_joules"):
            told = all(row["command"] for row in rows)
            total[f"command_{key}"] = sum(row["command"][key] for row in rows) if told else None
        totals.append(total)
    return totals


def as_text(report: Report) -> str:
    """Return the summary for people: a line for the devices and one for the command's share, per device."""
    lines = [
        f"inferwatt: {shlex.join(report.command)}: {report.duration_seconds:.2f} s, "
        f"{report.cpu_seconds:.2f} s of CPU time, exit status {report.exit_status}"
    ]
    for row in as_document(report)["devices"]:
        about = f"{row['device']}, {row['provenance']}"
        lines.append(f"  devices in that time  {_figure(row)}   {about}, ±{row['systematic_ratio']:.0%}")
        share = row["command"]
        lines.append(
            f"  the command's share   {_figure(share)}   by CPU time; split and sensor bounds together"
            if share
            else f"  the command's share   not known: nothing tells who used {row['device']}"
        )
    if not report.devices:
        lines.append("  no energy figure: nothing here could be measured")
    lines += [f"  lacks: {lack.what} ({lack.where}); fix: {lack.fix}" for lack in report.lacks]
    return "\n".join(lines)


def _figure(row: dict[str, Any]) -> str:
    between = f"({row['low_joules']:.3g} to {row['high_joules']:.3g} J)"
    return f"{row['energy_joules']:10.4g} J {between:<24} {row['average_watts']:8.3g} W"


def write(report: Report, *, as_json: bool, output: str | None) -> None:
    """Write the summary to standard error or to the file `output`; failing to do so is said, never raised."""
    text = json.dumps(as_document(report)) if as_json else as_text(report)
    try:
        if output is None:
            sys.stderr.write(text + "\n")
            return
        with open(output, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as exc:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"inferwatt run: cannot write the summary to {output}: {exc.strerror}\n")
