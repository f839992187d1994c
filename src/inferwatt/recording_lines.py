"""The lines of a recording: what a record leaves out, what no line can say, what is only spelt otherwise. Pure."""

import dataclasses
from collections.abc import Iterable
from enum import Enum
from math import isfinite
from typing import Any

from inferwatt.records import Activity, Event, Outcome, Reading, Request, Step, Sums

_TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens", "recomputed_tokens", "rejected_tokens", "wasted_tokens")
_PASSES = ("steps", "prefill_tokens", "decode_requests", "context_tokens", "passes_ns", "lost_passes")
_COUNTS = {
    Reading: ("counter_uj", "power_mw", "wraps_at_uj"),
    Request: _TOKENS,
    Sums: (*_TOKENS[:3], "running", "waiting", *_PASSES),
}

_NAMES = {"request", "engine", "device", "model", "tenant", "response_id", "trace_id", "producer"}
_NEED_NOT_BE_NAMED = {"engine", "device"}


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


def mended(row: object, kind: type) -> object:
    """Return a line in the words of its record, where another writer's differ in form only.

    Null is what is not known; a name may be a number, a whole number be written as 1e9 or with a fraction; a phase is
    in any case; how a request ended, in others' words, is not known. Where there is but one engine or device, a line
    need not name it.
    """
    if not isinstance(row, dict):
        return row
    found = {name: value for name, value in row.items() if value is not None}
    for spec in dataclasses.fields(kind):
        if spec.name in found:
            found[spec.name] = _as_field(spec.name, spec.type, found[spec.name])
        elif spec.name in _NEED_NOT_BE_NAMED:
            found[spec.name] = ""
    if found.get("outcome", Outcome.FINISHED) not in set(Outcome):
        del found["outcome"]
    return found


def _as_field(name: str, kind: object, value: object) -> object:
    if isinstance(value, list):
        each = _named if kind == tuple[str, ...] else _member if name == "members" else _whole
        return [each(row) for row in value]
    if name in _NAMES:
        return _named(value)
    return _whole(value) if kind in {int, int | None} else value


def _member(member: object) -> object:
    match member:
        case [name, new, context, str(phase)]:
            return [_named(name), _whole(new), _whole(context), phase.lower()]
        case _:
            return member


def _named(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _whole(value: object) -> object:
    return round(value) if isinstance(value, float) and isfinite(value) else value


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
