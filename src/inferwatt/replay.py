"""Replay a recording through the same attribution as the agent runs: bit-identical each time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from inferwatt import recording
from inferwatt.attribution.accounts import DeviceTotals
from inferwatt.attribution.attributor import Attributor, Closed, moved_to
from inferwatt.errors import RecordRejected
from inferwatt.recording import Record, Recording
from inferwatt.records import TIER_RANK, Device, EnergyPart, Reading, Request, RequestEnergy, Rule, Step, Tier
from inferwatt.units import joules, named_joules


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay settled: each request's energy in the order of settling, and each device's accounts."""

    requests: tuple[tuple[Request, RequestEnergy], ...]
    devices: tuple[tuple[Device, DeviceTotals], ...]
    rejected: tuple[str, ...]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Return the rows of `inferwatt replay --json`: one a request, then one a device (docs/recordings.md)."""
        for record, energy in self.requests:
            yield request_row(record, energy)
        for device, totals in self.devices:
            yield {
                "device": device.device,
                **named_joules(totals.accounts()),
                "provenance": device.provenance.value,
                "systematic_ratio": device.systematic_ratio,
            }

    def json_lines(self) -> Iterator[str]:
        """Return the rows as JSON lines."""
        for row in self.rows():
            yield msgspec.json.encode(row).decode()


def request_row(record: Request, energy: RequestEnergy) -> dict[str, Any]:
    """Return one request's line; its figures are absent where no device was read while it ran."""
    row: dict[str, Any] = {"request": record.request}
    if energy.parts:
        row |= _figures(energy)
    row |= {"tier": energy.tier.value, "model": record.model, "tenant": record.tenant}
    if energy.provenance is not None:
        row["provenance"] = energy.provenance.value
    if energy.is_unsure:
        row["unsure"] = True
    if len(energy.parts) > 1:
        row["parts"] = [_part(part) for part in energy.parts]
    return row


def _figures(figure: RequestEnergy | EnergyPart) -> dict[str, float]:
    return {
        "energy_joules": joules(figure.energy_uj),
        "prefill_joules": joules(figure.prefill_uj),
        "decode_joules": joules(figure.decode_uj),
        "low_joules": joules(figure.low_uj),
        "high_joules": joules(figure.high_uj),
        "systematic_ratio": figure.systematic_ratio,
        **(named_joules(figure.details_uj) if isinstance(figure, RequestEnergy) else {}),
    }


def _part(part: EnergyPart) -> dict[str, Any]:
    return {"component": part.component.value, "provenance": part.provenance.value, **_figures(part)}


def replay(folder: Path, *, tier: Tier | None = None, rule: Rule = Rule.SHAPLEY) -> ReplayResult:
    """Replay the recording in `folder`.

    Args:
        folder: the recording.
        tier: use only what this tier may know; None is all that the recording has.
        rule: how ticks are split; the simple rules divide the energy of all work over the whole recording.

    Raises:
        Unavailable: there is no recording, or it cannot be read.
    """
    return replay_recording(recording.read(folder), tier=tier, rule=rule)


def replay_recording(source: Recording, *, tier: Tier | None = None, rule: Rule = Rule.SHAPLEY) -> ReplayResult:
    """Replay a recording that is in memory (see `replay`)."""
    best = tier or Tier.STEP_EXACT
    attributor = Attributor(
        hold_ns=source.meta.hold_ns if source.live else 0,
        best_tier=best,
        rule=rule,
        fits=source.meta.fits if tier is None else (),
    )
    for device in source.meta.devices:
        attributor.add_device(device)
    for model in source.meta.models:
        attributor.add_model(model)
    for engine in source.meta.engines:
        attributor.add_engine(engine, loaded=not source.live)
    rejected = list(source.rejected)
    settled: list[tuple[Request, RequestEnergy]] = []
    only = source.meta.engines[0].engine if len(source.meta.engines) == 1 else ""
    for record in _as_known(source.records, best, only):
        try:
            attributor.feed(record)
        except RecordRejected as exc:
            rejected.append(exc.what)
            continue
        now_ns = moved_to(record)
        if now_ns is not None:
            _keep(attributor.advance(now_ns), settled)
    _keep(attributor.advance(_last_ns(source.records), last=True), settled)
    devices = {device.device: device for device in source.meta.devices}
    totals = attributor.devices
    return ReplayResult(tuple(settled), tuple((devices[name], totals[name]) for name in totals), tuple(rejected))


def _keep(closed: Closed, settled: list[tuple[Request, RequestEnergy]]) -> None:
    settled.extend(closed.requests)
    if closed.corrected:
        newest = {record.request: number for number, (record, _) in enumerate(settled)}
        for record, energy in closed.corrected:
            settled[newest[record.request]] = record, energy


def _last_ns(records: list[Record]) -> int:
    return max((r.t_ns for r in records if isinstance(r, Reading)), default=0)


def _as_known(records: list[Record], best: Tier, only_engine: str) -> Iterator[Record]:
    """Return the records with only what the tier may know of them; where one engine is all, it need not be named."""
    rank = TIER_RANK[best]
    ends = [r.end_ns for r in records if isinstance(r, Request) and r.end_ns is not None]
    arrivals = [r.arrival_ns for r in records if isinstance(r, Request)]
    for record in records:
        if isinstance(record, Step) and rank > 0:
            continue
        if isinstance(record, Step | Request) and not record.engine:
            record = replace(record, engine=only_engine)
        if isinstance(record, Request) and rank > 1:
            record = replace(record, first_token_ns=None, chunk_ns=())
        if isinstance(record, Request) and best is Tier.TOKEN_SHARE and record.end_ns is not None:
            record = replace(record, arrival_ns=min(arrivals), end_ns=max(ends))
        yield record
