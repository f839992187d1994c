"""What a managed API's answer is estimated to have taken: by tokens and time, as `estimated`, never as measured."""

from typing import Any

from inferwatt.answering.figures import DIGITS, head
from inferwatt.answering.usage import Used
from inferwatt.clients.estimator import estimate


def estimated(
    name: str, model: str, provider: str, used: Used, seconds: float, first_seconds: float | None
) -> dict[str, Any]:
    """Return the object of a managed API's answer; without tokens nothing is known, and nothing will be."""
    if used.prompt is None and not used.output:
        return {**head(name), "final": True, "state": "unknown"}
    told = estimate(
        model,
        provider=provider,
        prompt_tokens=used.prompt,
        cached_tokens=used.cached,
        output_tokens=used.output,
        reasoning_tokens=used.reasoning,
        seconds=seconds,
        first_token_seconds=first_seconds,
    )
    parts = {f"{part.phase.value}_joules": round(part.energy_joules, DIGITS) for part in told.parts}
    return {
        "id": name,
        "energy_joules": round(told.energy_joules, DIGITS),
        "low_joules": round(told.low_joules, DIGITS),
        "high_joules": round(told.high_joules, DIGITS),
        **parts,
        "method": told.method,
        "provenance": told.provenance.value,
        "final": True,
        "state": "final",
    }
