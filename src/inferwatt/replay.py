"""Replay a recording through the same attribution as the agent runs: bit-identical each time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from inferwatt import recording
from inferwatt.attribution.accounts import DeviceTotals
from inferwatt.attribution.attributor import Attributor, moved_to
from inferwatt.errors import RecordRejected
from inferwatt.recording import Meta, Record, Recording
from inferwatt.records import (
    TIER_RANK,
    Device,
    EnergyPart,
    Engine,
    Fit,
    Provenance,
    Reading,
    Request,
    RequestEnergy,
    Rule,
    Step,
    Sums,
    Tier,
)
from inferwatt.settled import Settled
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
    return replay_recording(recording.stream(folder), tier=tier, rule=rule)


def replay_recording(source: Recording, *, tier: Tier | None = None, rule: Rule = Rule.SHAPLEY) -> ReplayResult:
    """Replay a recording that is read already, or is read as it goes (see `replay`)."""
    best = tier or Tier.STEP_EXACT
    meta = source.meta if source.live else completed(source.meta, source.records)
    fits = meta.fits if tier is None else ()
    if not source.live and rule is Rule.SHAPLEY:
        fits = _attributed(source, meta, best, rule, fits)[0].fits()
    attributor, settled, rejected = _attributed(source, meta, best, rule, fits)
    devices = {device.device: device for device in meta.devices}
    accounts = tuple((devices[name], totals) for name, totals in attributor.devices.items())
    return ReplayResult(tuple(settled.final()), accounts, (*source.rejected, *rejected))


def _attributed(
    source: Recording, meta: Meta, best: Tier, rule: Rule, fits: Iterable[Fit]
) -> tuple[Attributor, Settled, list[str]]:
    """Feed a recording to an attributor that begins with these fits; return it, what it settled, what it refused."""
    attributor = Attributor(hold_ns=meta.hold_ns if source.live else 0, best_tier=best, rule=rule, fits=fits)
    for device in meta.devices:
        attributor.add_device(device)
    for model in meta.models:
        attributor.add_model(model)
    for engine in meta.engines:
        is_loaded = not source.live and engine.engine not in source.loaded_later
        attributor.add_engine(engine, loaded=is_loaded, is_told=not source.live)
    rejected: list[str] = []
    settled = Settled()
    newest_ns = 0
    for record in _as_known(source.records, meta, best):
        try:
            attributor.feed(record)
        except RecordRejected as exc:
            rejected.append(exc.what)
            continue
        now_ns = moved_to(record)
        if now_ns is not None:
            newest_ns = max(newest_ns, now_ns)
            settled.add_requests(attributor.advance(now_ns))
    settled.add_requests(attributor.advance(newest_ns, last=True))
    return attributor, settled, rejected


def completed(meta: Meta, records: Iterable[Record]) -> Meta:
    """Return what a recording says of itself with what its lines say: devices and engines that it does not list.

    An engine that names no device runs on all of them, one that names no model has the only one that there is.
    """
    if meta.devices and meta.engines and all(engine.devices and engine.model for engine in meta.engines):
        return meta
    devices, engines = {row.device: row for row in meta.devices}, {row.engine: row for row in meta.engines}
    for record in records:
        if isinstance(record, Reading) and not meta.devices:
            provenance = Provenance.SAMPLED if record.counter_uj is None else Provenance.MEASURED
            devices.setdefault(record.device, Device(record.device, provenance=provenance))
        if isinstance(record, Step | Request | Sums) and not meta.engines:
            model = record.model if isinstance(record, Request) else ""
            engines.setdefault(record.engine, Engine(record.engine, model))
    only = meta.models[0].model if len(meta.models) == 1 else ""
    placed = (
        replace(engine, devices=engine.devices or tuple(devices), model=engine.model or only)
        for engine in engines.values()
    )
    return replace(meta, devices=tuple(devices.values()), engines=tuple(placed))


def _as_known(records: Iterable[Record], meta: Meta, best: Tier) -> Iterator[Record]:
    """Return the records with only what the tier may know of them; what there is but one of need not be named."""
    rank = TIER_RANK[best]
    engine = meta.engines[0].engine if len(meta.engines) == 1 else ""
    device = meta.devices[0].device if len(meta.devices) == 1 else ""
    first_ns, last_ns = _span(records) if best is Tier.TOKEN_SHARE else (0, 0)
    for record in records:
        if isinstance(record, Step) and rank > 0:
            continue
        if isinstance(record, Step | Request | Sums) and not record.engine:
            record = replace(record, engine=engine)
        if isinstance(record, Reading) and not record.device:
            record = replace(record, device=device)
        if isinstance(record, Request) and rank > 1:
            record = replace(record, first_token_ns=None, chunk_ns=())
        if isinstance(record, Request) and best is Tier.TOKEN_SHARE and record.end_ns is not None:
            record = replace(record, arrival_ns=first_ns, end_ns=last_ns)
        yield record


def _span(records: Iterable[Record]) -> tuple[int, int]:
    """Return when the first request came, and when the last one ended."""
    requests = [record for record in records if isinstance(record, Request)]
    first_ns = min((request.arrival_ns for request in requests), default=0)
    return first_ns, max((request.end_ns for request in requests if request.end_ns is not None), default=first_ns)
