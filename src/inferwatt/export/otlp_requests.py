"""What the span of an ended request says, and where it belongs. Pure.

Its names are those that `inferwatt.instrument()` gives the span around a call (docs/instrument.md); for tokens those of
the conventions for generative AI, 1.41.0. Ids are made of the request's own: a span that is sent again is the same one.
"""

import re
from hashlib import sha256
from typing import Final, NamedTuple

from inferwatt.ledger.rows import RequestRow
from inferwatt.records import UNKNOWN_TENANT, Request, RequestEnergy
from inferwatt.snapshot import EXEMPLAR_ID_CHARACTERS
from inferwatt.units import named_joules, seconds

_TRACE: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_ABOVE: Final = re.compile(r"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
"""W3C Trace Context, level 1; what a later version has more is left out."""
Value = str | int | float


class Context(NamedTuple):
    """The ids of a span; `parent_id` is 0 where nobody is known above it. What is not sampled is told to nobody."""

    trace_id: int
    span_id: int
    parent_id: int
    is_sampled: bool


def name_of(request: Request) -> str:
    """Return what an exemplar calls a request."""
    return (request.response_id or request.request)[:EXEMPLAR_ID_CHARACTERS]


def key_of(row: RequestRow) -> tuple[str, str, int | None]:
    """Return what tells a row from all others: a request's own has no `corrects`."""
    return row.request.producer, row.request.request, row.corrects


def context_of_row(row: RequestRow) -> Context:
    """Return where the span of a row belongs; a correction's is below its request's."""
    context = context_of(row.request)
    if row.corrects is None:
        return context
    own = sha256(f"{context.span_id}\0{row.corrects}".encode()).hexdigest()
    return context._replace(span_id=int(own[:16], 16), parent_id=context.span_id)


def context_of(request: Request) -> Context:
    """Return where a request's span belongs: below its caller's, which also says whether the trace is kept.

    Without a caller's span a name that the call was given and that could be a trace's is its trace.
    """
    own = sha256(f"{request.producer}\0{request.request}".encode()).hexdigest()
    span_id = int(own[32:48], 16)
    if (above := _ABOVE.fullmatch(request.traceparent)) is not None:
        return Context(int(above[1], 16), span_id, int(above[2], 16), bool(int(above[3], 16) & 1))
    trace = request.trace_id if _TRACE.fullmatch(request.trace_id) else own[:32]
    return Context(int(trace, 16), span_id, 0, True)


def attributes_of(row: RequestRow, provider: str) -> dict[str, Value]:
    """Return what is known of a request; what is not is left out. `provider` is what its own server is.

    A correction has neither tokens nor joules under their names: sums over spans count each of them once.
    """
    if row.corrects is not None:
        return _correction(row)
    request = row.request
    found: dict[str, Value | None] = {
        "gen_ai.request.model": request.model,
        "gen_ai.provider.name": request.provider or provider,
        "gen_ai.response.id": request.response_id,
        "gen_ai.usage.input_tokens": request.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": request.cached_tokens,
        "gen_ai.usage.output_tokens": request.output_tokens,
        "inferwatt.request_id": request.request,
        "inferwatt.server": row.server,
        "inferwatt.tenant": "" if request.tenant == UNKNOWN_TENANT else request.tenant,
        "inferwatt.outcome": request.outcome and request.outcome.value,
        "k8s.namespace.name": request.namespace,
        "k8s.pod.name": request.pod,
        "k8s.container.name": request.container,
        **{f"inferwatt.units.{name}": count for name, count in request.units.items()},
        **{f"inferwatt.tags.{name}": value for name, value in request.tags.items()},
    }
    if request.first_token_ns is not None:
        found["inferwatt.time_to_first_token_seconds"] = seconds(request.first_token_ns - request.arrival_ns)
    known = {name: value for name, value in found.items() if value not in {None, ""}}
    return {**known, **({} if row.energy is None else _energy(row.energy))}


def _correction(row: RequestRow) -> dict[str, Value]:
    request = row.request
    named = {
        "gen_ai.request.model": request.model,
        "gen_ai.response.id": request.response_id,
        "inferwatt.request_id": request.request,
        "inferwatt.server": row.server,
        "inferwatt.tenant": "" if request.tenant == UNKNOWN_TENANT else request.tenant,
    }
    energy = {} if row.energy is None else _energy(row.energy, ".corrected")
    return {**{name: value for name, value in named.items() if value}, **energy, "inferwatt.state": "corrected"}


def _energy(energy: RequestEnergy, which: str = "") -> dict[str, Value]:
    if energy.provenance is None:
        return {}
    parts_uj: dict[str, float] = {
        "energy": energy.energy_uj,
        "low": energy.low_uj,
        "high": energy.high_uj,
        "prefill": energy.prefill_uj,
        "decode": energy.decode_uj,
        **energy.details_uj,
    }
    for part in energy.parts:
        parts_uj[part.component.value] = parts_uj.get(part.component.value, 0) + part.energy_uj
    return {
        **{f"inferwatt{which}.{name}": value for name, value in named_joules(parts_uj).items()},
        "inferwatt.systematic_ratio": energy.systematic_ratio,
        "inferwatt.provenance": energy.provenance.value,
        "inferwatt.tier": energy.tier.value,
        "inferwatt.state": "final" if energy.final else "provisional",
    }
