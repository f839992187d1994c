"""What a managed API's answer is estimated to have taken: by tokens and time, as `estimated`, never as measured."""

from typing import Any

from inferwatt.answering.figures import head
from inferwatt.answering.usage import Used
from inferwatt.clients.estimator import estimate


def estimated(
    name: str, provider: str, model: str, used: Used, seconds: float, first_seconds: float | None
) -> dict[str, Any]:
    """Return the object of a managed API's answer; without tokens nothing is known, and nothing will be."""
    if used.prompt is None and not used.output:
        return {**head(name), "final": True, "state": "unknown"}
    told = estimate(
        model or used.model,
        provider=provider,
        prompt_tokens=used.prompt,
        cached_tokens=used.cached,
        output_tokens=used.output,
        reasoning_tokens=used.reasoning,
        seconds=seconds,
        first_token_seconds=first_seconds,
    )
    parts = {f"{part.phase.value}_joules": _short(part.energy_joules) for part in told.parts}
    return {
        "id": name,
        "energy_joules": _short(told.energy_joules),
        "low_joules": _short(told.low_joules),
        "high_joules": _short(told.high_joules),
        **parts,
        "method": told.method,
        "provenance": told.provenance.value,
        "final": True,
        "state": "final",
    }


def _short(joules: float) -> float:
    """Return joules to six digits that say something: an estimate is never rounded to 0."""
    return float(f"{joules:.6g}")
