"""The demo's last word: the recording of the run attributed once more, and compared with what the agent had settled.

`--json` prints one document:

    {"format": "inferwatt-demo/1", "duration_seconds", "seed", "rate",
     "devices": [{"device", "domain", "component", "provenance", "systematic_ratio",
                  "measured_joules", "requests_joules", "unlisted_joules", "idle_resident_joules", "idle_empty_joules",
                  "other_joules", "unattributed_joules", "missing_microjoules", "low_joules", "high_joules"}],
     "models":  [{"model", "provenance", "requests", "prompt_tokens", "cached_tokens", "output_tokens",
                  "energy_joules", "prefill_joules", "decode_joules", "low_joules", "high_joules", "systematic_ratio",
                  "joules_per_output_token", "low_joules_per_output_token", "high_joules_per_output_token"}],
     "tenants": [the same, with "tenant" in place of "model"],
     "tiers": {"step_reconstructed": 12, ...},
     "tokens": {"records": {"prompt_computed", "cached", "output"}, "server": {the same} or null,
                "requests_without_tokens"},
     "clients": {"finished", "aborted", "failed", "prompt_tokens", "cached_tokens", "output_tokens"} or null,
     "replay": {"matches", "compared", "differences": ["...", ...]},
     "lacks": [{"what", "where", "fix"}], "recording": folder or null}

`missing_microjoules` is the counter less the sum of the parts: 0. `energy_joules` is active energy. A model's or
tenant's `low_joules` and `high_joules` hold the split's 90% interval (independent: root of the sum of squares) and
the sensor's bound (shared: linear) together; a device's only the sensor's. What is not known is null.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from inferwatt.attribution.accounts import DeviceTotals
from inferwatt.records import Device, EnergyPart, Provenance, Request, RequestEnergy
from inferwatt.replay import ReplayResult
from inferwatt.units import joules, named_joules

FORMAT = "inferwatt-demo/1"

Settled = tuple[Request, RequestEnergy]
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Accounts:
    """What the agent had settled when it ended: requests by id, devices by name and account, microjoules."""

    requests_uj: Mapping[str, int]
    devices_uj: Mapping[str, int]


def group(settled: Iterable[Settled], key: Callable[[Request], str], name: str) -> list[Document]:
    """Return one row for each value of `key` and provenance, sorted by both; `name` is what the key is called."""
    rows: dict[tuple[str, Provenance], list[tuple[Request, list[EnergyPart]]]] = {}
    for record, energy in settled:
        for provenance in sorted({part.provenance for part in energy.parts}):
            parts = [part for part in energy.parts if part.provenance is provenance]
            rows.setdefault((key(record), provenance), []).append((record, parts))
    return [
        {name: value, "provenance": provenance.value, **_row(rows[value, provenance])}
        for value, provenance in sorted(rows)
    ]


def _row(members: list[tuple[Request, list[EnergyPart]]]) -> Document:
    parts = [part for _, own in members for part in own]
    energy_uj = sum(part.energy_uj for part in parts)
    split_uj = sqrt(sum(((part.high_uj - part.low_uj) / 2) ** 2 for part in parts))
    systematic_uj = sum(part.energy_uj * part.systematic_ratio for part in parts)
    ratio = systematic_uj / energy_uj if energy_uj else max((part.systematic_ratio for part in parts), default=0.0)
    low_joules = joules(max(0.0, energy_uj - split_uj)) * (1 - ratio)
    high_joules = joules(energy_uj + split_uj) * (1 + ratio)
    output = sum(record.output_tokens or 0 for record, _ in members)

    def each(energy_joules: float) -> float | None:
        return energy_joules / output if output else None

    return {
        "requests": len(members),
        "prompt_tokens": sum(record.prompt_tokens or 0 for record, _ in members),
        "cached_tokens": sum(record.cached_tokens or 0 for record, _ in members),
        "output_tokens": output,
        "energy_joules": joules(energy_uj),
        "prefill_joules": joules(sum(part.prefill_uj for part in parts)),
        "decode_joules": joules(sum(part.decode_uj for part in parts)),
        "low_joules": low_joules,
        "high_joules": high_joules,
        "systematic_ratio": ratio,
        "joules_per_output_token": each(joules(energy_uj)),
        "low_joules_per_output_token": each(low_joules),
        "high_joules_per_output_token": each(high_joules),
    }


def device_row(device: Device, totals: DeviceTotals) -> Document:
    """Return a device's accounts and what is missing between their sum and the counter: nothing."""
    accounts = totals.accounts()
    parts_uj = sum(uj for name, uj in accounts.items() if name != "measured")
    measured_joules = joules(totals.measured_uj)
    return {
        "device": device.device,
        "domain": device.domain,
        "component": device.component.value,
        "provenance": device.provenance.value,
        "systematic_ratio": device.systematic_ratio,
        **named_joules(accounts),
        "missing_microjoules": totals.measured_uj - parts_uj,
        "low_joules": measured_joules * (1 - device.systematic_ratio),
        "high_joules": measured_joules * (1 + device.systematic_ratio),
    }


def compare(replayed: ReplayResult, live: Accounts) -> Document:
    """Return whether the replay and the agent agree to the microjoule, request by request and device by device."""
    again = {record.request: energy.energy_uj for record, energy in replayed.requests}
    differences = _differ("request", again, live.requests_uj)
    devices = {device.device: totals.measured_uj for device, totals in replayed.devices}
    differences += _differ("device", devices, live.devices_uj)
    compared = len(again.keys() & live.requests_uj.keys()) + len(devices.keys() & live.devices_uj.keys())
    return {"matches": not differences, "compared": compared, "differences": differences}


def _differ(what: str, again: Mapping[str, int], live: Mapping[str, int]) -> list[str]:
    return [
        f"{what} {name}: {again.get(name)} µJ by replay, {live.get(name)} µJ live"
        for name in sorted(again.keys() | live.keys())
        if again.get(name) != live.get(name)
    ]


def tokens(settled: Iterable[Settled], server: Mapping[str, int] | None) -> Document:
    """Return the tokens of the records beside those of the server's own page; None where that could not be read."""
    records = [record for record, _ in settled]
    known = [record for record in records if record.prompt_tokens is not None and record.output_tokens is not None]
    sums = Counter(prompt_computed=0, cached=0, output=0)
    for record in known:
        cached, output = record.cached_tokens or 0, record.output_tokens or 0
        sums.update(prompt_computed=(record.prompt_tokens or 0) - cached, cached=cached, output=output)
    return {
        "records": dict(sums),
        "server": None if server is None else dict(server),
        "requests_without_tokens": len(records) - len(known),
    }


def summarise(
    replayed: ReplayResult,
    live: Accounts,
    *,
    server_tokens: Mapping[str, int] | None,
    clients: Mapping[str, int] | None,
    run: Mapping[str, Any],
) -> Document:
    """Return the document; `run` holds what is known of the run itself (duration, seed, rate, lacks, recording)."""
    settled = replayed.requests
    return {
        "format": FORMAT,
        **run,
        "devices": [device_row(device, totals) for device, totals in replayed.devices],
        "models": group(settled, lambda record: record.model, "model"),
        "tenants": group(settled, lambda record: record.tenant, "tenant"),
        "tiers": dict(sorted(Counter(energy.tier.value for _, energy in settled).items())),
        "tokens": tokens(settled, server_tokens),
        "clients": None if clients is None else dict(clients),
        "replay": compare(replayed, live),
    }


def as_text(document: Mapping[str, Any]) -> str:
    """Return the summary for people."""
    lines = [f"summary of {document['duration_seconds']:.0f} s, attributed once more from the recording"]
    for row in document["models"]:
        lines += ["", f"  model  {row['model']}", *_energy_lines(row)]
    for row in document["tenants"]:
        lines += ["", f"  tenant {row['tenant']}", *_energy_lines(row)]
    for row in document["devices"]:
        lines += ["", *_device_lines(row)]
    return "\n".join([*lines, "", *_token_lines(document), *_check_lines(document)])


def _energy_lines(row: Mapping[str, Any]) -> list[str]:
    each = ""
    if row["joules_per_output_token"] is not None:
        low, high = row["low_joules_per_output_token"], row["high_joules_per_output_token"]
        each = f"; {row['joules_per_output_token']:.4f} J per output token ({low:.4f} to {high:.4f})"
    how = f"{row['provenance']}, sensor ±{row['systematic_ratio']:.0%}"
    return [
        f"    {row['energy_joules']:.3f} J ({row['low_joules']:.3f} to {row['high_joules']:.3f}; {how}){each}",
        f"    prefill {row['prefill_joules']:.3f} J, decode {row['decode_joules']:.3f} J; {row['requests']} requests, "
        f"{row['prompt_tokens']} prompt tokens ({row['cached_tokens']} cached), {row['output_tokens']} output tokens",
    ]


def _device_lines(row: Mapping[str, Any]) -> list[str]:
    how = f"{row['provenance']}, sensor ±{row['systematic_ratio']:.0%}"
    between = f"{row['low_joules']:.3f} to {row['high_joules']:.3f}"
    lines = [f"  device {row['device']}   {row['measured_joules']:.6f} J ({between}; {how})"]
    names = ("requests", "unlisted", "idle_resident", "idle_empty", "other", "unattributed")
    lines += [f"    {_WORDS[name]:<28}{row[f'{name}_joules']:14.6f} J" for name in names]
    lines.append(f"    sum of the parts less counter {-row['missing_microjoules']:11d} µJ")
    return lines


_WORDS = {
    "requests": "requests",
    "unlisted": "work without a record",
    "idle_resident": "idle, model loaded",
    "idle_empty": "idle, nothing loaded",
    "other": "other processes",
    "unattributed": "unattributed",
}


def _token_lines(document: Mapping[str, Any]) -> list[str]:
    records, server = document["tokens"]["records"], document["tokens"]["server"]
    lines = []
    for name, word in (("prompt_computed", "prompt, computed"), ("cached", "prompt, cached"), ("output", "output")):
        said = "not known" if server is None else str(server[name])
        lines.append(f"  tokens {word:<17} {records[name]:8d} by the records, {said:>8} by the server's own page")
    without, clients = document["tokens"]["requests_without_tokens"], document["clients"]
    if without:
        lines.append(f"  tokens of {without} requests are not known: their clients were cut before they were told")
    if clients is not None:
        lines.append(
            f"  clients: {clients['finished']} finished, {clients['aborted']} left early (the server computes on until "
            f"it notices), {clients['failed']} failed"
        )
    return lines


def _check_lines(document: Mapping[str, Any]) -> list[str]:
    replay = document["replay"]
    if replay["matches"]:
        lines = [f"  replay matches what was shown live, to the microjoule: {replay['compared']} figures compared"]
    else:
        lines = ["  replay DIFFERS from what was shown live:", *(f"    {line}" for line in replay["differences"][:10])]
    lines += [f"  lacks: {lack['what']} ({lack['where']}); fix: {lack['fix']}" for lack in document["lacks"]]
    if document["recording"]:
        lines.append(f"  recording: {document['recording']}; inferwatt replay {document['recording']}")
    return lines
