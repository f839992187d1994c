"""What an ended call took, and who is told: its caller, the span around it, the agent. Nobody is waited for."""

import os
import time
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from inferwatt import traceparent
from inferwatt.clients.calls import EMISSIONS, PENDING, UNKNOWN, CallEnergy
from inferwatt.clients.estimator import estimate
from inferwatt.clients.hosts import is_own, provider_of
from inferwatt.records import Outcome, Provenance
from inferwatt.units import seconds

if TYPE_CHECKING:
    from inferwatt.clients.carbon import Intensity
    from inferwatt.clients.life import Call

LOOK_SECONDS = 10.0
"""How long an answer to whether an agent is there holds."""

SPAN = {
    "inferwatt.energy_joules": "energy_joules",
    "inferwatt.low_joules": "low_joules",
    "inferwatt.high_joules": "high_joules",
    "inferwatt.provenance": "provenance",
    "inferwatt.state": "state",
    "inferwatt.method": "method",
    "inferwatt.request_id": "request",
    **{f"inferwatt.{name}": name for name in (*EMISSIONS, "emissions_source")},
}
"""Attributes of the span around a call, beside gen_ai's own; what is not known is left out."""

managed: set[str] = set()
"""Hosts of one's own that pass calls on to a managed API."""

carbon: list["Intensity"] = []
"""What managed APIs' electricity emits, as the host says it; nothing where it does not."""


class Agent:
    """Whether an agent is there, looked at now and then."""

    def __init__(self) -> None:
        self._until = 0.0
        self._is_there = False

    def is_there(self) -> bool:
        """Say whether its socket is there."""
        now = time.monotonic()
        if now >= self._until:
            self._until = now + LOOK_SECONDS
            self._is_there = os.path.exists(import_module("inferwatt.endpoint").socket_path())
        return self._is_there


agent = Agent()


def what_it_took(call: "Call", outcome: Outcome, now_ns: int) -> CallEnergy:
    """Return what a call took: its server's figure, else an estimate."""
    used, asked = call.used, call.asked
    counted = call.pieces if outcome is not Outcome.FINISHED or used.output is None else 0
    output = max(used.output or 0, counted) or used.output
    told: dict[str, Any] = {
        "library": asked.library,
        "provider": _provider(asked.host, asked.provider),
        "model": used.model or asked.model,
        "outcome": outcome,
        "prompt_tokens": used.prompt,
        "cached_tokens": used.cached,
        "output_tokens": output,
        "reasoning_tokens": used.reasoning,
        "output_counted": output != used.output,
        "seconds": seconds(now_ns - call.started_ns),
        "first_token_seconds": None if call.first_ns is None else seconds(call.first_ns - call.started_ns),
        "response_id": used.response_id,
    }
    said = _said(call.figure) if call.figure is not None else _estimated(told)
    return CallEnergy(**{**told, **said})


def _provider(host: str, usual: str) -> str:
    """Return which managed API serves a call; empty for a server of one's own, whose own meter counts it."""
    if host in managed:
        return usual or host
    return "" if is_own(host) else provider_of(host, usual)


def _said(figure: Mapping[str, Any]) -> dict[str, Any]:
    """Return a server's own figure, as far as it is one."""
    said: dict[str, Any] = {"request": figure["id"], "link": _text(figure.get("link"))}
    energy, low, high = (_number(figure.get(name)) for name in ("energy_joules", "low_joules", "high_joules"))
    provenance = figure.get("provenance")
    if energy is None or low is None or provenance not in set(Provenance):
        return {**said, "state": _text(figure.get("state")) or PENDING}
    ratio = _number(figure.get("systematic_ratio")) or 0.0  # its interval is the split's alone
    return {
        **said,
        "energy_joules": energy,
        "low_joules": low * max(1 - ratio, 0.0),
        "high_joules": None if high is None else high * (1 + ratio),  # None: only a part is settled
        "provenance": Provenance(provenance),
        "state": _text(figure.get("state")),
        "method": _text(figure.get("method") or figure.get("tier")),
        **{name: _number(figure.get(name)) for name in EMISSIONS},
        "emissions_source": _text(figure.get("emissions_source")),
    }


def _estimated(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimate, as far as the answer's tokens allow one.

    Of a model that is in no registry only a managed API's can be estimated: what others serve may be of any size.
    """
    if told["prompt_tokens"] is None and not told["output_tokens"]:
        return {"state": UNKNOWN}
    names = ("prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "seconds", "first_token_seconds")
    made = estimate(told["model"], provider=told["provider"], **{name: told[name] for name in names})
    if not (told["provider"] or made.known_model):
        return {"state": UNKNOWN, "basis": f"{told['model']} is in no registry, and no managed API serves it"}
    emitted = carbon[0].of(made.energy_joules, made.low_joules, made.high_joules) if carbon and told["provider"] else {}
    return {
        **emitted,
        "energy_joules": made.energy_joules,
        "low_joules": made.low_joules,
        "high_joules": made.high_joules,
        "provenance": made.provenance,
        "state": "final",
        "method": made.method,
        "basis": made.basis,
    }


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < float("inf") else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# The span around a call.


def current_span() -> Any:  # noqa: ANN401 - OpenTelemetry's, where the host has loaded it
    """Return the span that is recorded now; None without one."""
    span = traceparent.current_span()
    return span if span is not None and span.is_recording() else None


def tell_span(span: Any, took: CallEnergy) -> None:  # noqa: ANN401
    """Put what a call took onto its span, if that is still recorded."""
    if span is None or not span.is_recording():
        return
    for name, key in SPAN.items():
        value = getattr(took, key)
        if value not in (None, ""):
            span.set_attribute(name, value if isinstance(value, float) else str(value))


# The agent.


def tell_agent(call: "Call", took: CallEnergy, now_ns: int) -> None:
    """Hand a managed API's call to the SDK's thread; the agent estimates it by the same method, and keeps it.

    A figure of a server's own was counted where it was made.
    """
    if call.figure is not None or not took.provider or not agent.is_there():
        return
    block = call.blocks[-1] if call.blocks else None
    handle = import_module("inferwatt.sdk").request(
        model=took.model,
        provider=took.provider,
        tenant=block.tenant if block else "",
        tags=block.tags if block else None,
        request_id=took.response_id,
    )
    handle.trace_id, handle.traceparent = _trace_id(call.span), traceparent.traceparent_of(call.span)
    handle.usage(prompt=took.prompt_tokens, cached=took.cached_tokens, output=took.output_tokens)
    handle.finished(call.started_ns, call.first_ns, now_ns, took.outcome)


def _trace_id(span: Any) -> str:  # noqa: ANN401
    return f"{span.get_span_context().trace_id:032x}" if span is not None else ""
