"""The lines of a recording: what a record leaves out of its line, and what no line can say. Pure."""

import dataclasses
from collections.abc import Iterable
from enum import Enum
from math import isfinite
from typing import Any

from inferwatt.records import Activity, Event, Reading, Request, Step, Sums

_TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens", "recomputed_tokens", "rejected_tokens", "wasted_tokens")
_PASSES = ("steps", "prefill_tokens", "decode_requests", "context_tokens", "passes_ns", "lost_passes")
_COUNTS = {
    Reading: ("counter_uj", "power_mw", "wraps_at_uj"),
    Request: _TOKENS,
    Sums: (*_TOKENS[:3], "running", "waiting", *_PASSES),
}


def impossible(record: Reading | Step | Request | Activity | Event | Sums) -> str:
    """Return what cannot be about a record, empty where nothing is wrong: a share or a count below zero."""
    amounts: Iterable[float | None]
    match record:
        case Activity():
            amounts = (*record.shares.values(), record.other_ratio, record.unknown_ratio)
        case Step():
            amounts = (tokens for _, new, context, _ in record.members for tokens in (new, context))
        case Event():
            amounts = ()
        case Sums():
            observed = [amount for seen in record.latencies.values() for amount in (*seen.counts, seen.seconds)]
            amounts = (*(getattr(record, name) for name in _COUNTS[Sums]), *record.units.values(), *observed)
        case _:
            amounts = (getattr(record, name) for name in _COUNTS[type(record)])
    wrong = [amount for amount in amounts if amount is not None and not (amount >= 0 and isfinite(amount))]
    return f"{wrong[0]} is below zero or not finite" if wrong else ""


def known_fields(record: object) -> dict[str, Any]:
    """Return a record's fields without those that are not known or stand at their default."""
    defaults = _defaults(type(record))
    row: dict[str, Any] = {}
    for name, default in defaults.items():
        value = getattr(record, name)
        if value is None or value == default:
            continue
        row[name] = value.value if isinstance(value, Enum) else value
    return row


_DEFAULTS: dict[type, dict[str, object]] = {}
_REQUIRED = object()


def _defaults(kind: type) -> dict[str, object]:
    known = _DEFAULTS.get(kind)
    if known is None:
        known = _DEFAULTS[kind] = {
            spec.name: spec.default
            if spec.default is not dataclasses.MISSING
            else (spec.default_factory() if spec.default_factory is not dataclasses.MISSING else _REQUIRED)
            for spec in dataclasses.fields(kind)
        }
    return known
