"""What a managed API's answer is estimated to have taken: by tokens and time, as `estimated`, never as measured."""

from typing import TYPE_CHECKING, Any

from inferwatt.answering.figures import head
from inferwatt.answering.usage import Used
from inferwatt.clients.estimator import estimate

if TYPE_CHECKING:
    from inferwatt.clients.carbon import Intensity


def estimated(
    name: str,
    provider: str,
    model: str,
    used: Used,
    seconds: float,
    first_seconds: float | None,
    carbon: "Intensity | None",
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
    emitted = carbon.of(told.energy_joules, told.low_joules, told.high_joules) if carbon is not None else {}
    parts = {f"{part.phase.value}_joules": _short(part.energy_joules) for part in told.parts}
    return {
        "id": name,
        "energy_joules": _short(told.energy_joules),
        "low_joules": _short(told.low_joules),
        "high_joules": _short(told.high_joules),
        **parts,
        **{name: _short(said) if isinstance(said, float) else said for name, said in emitted.items()},
        "method": told.method,
        "provenance": told.provenance.value,
        "final": True,
        "state": "final",
    }


def _short(figure: float) -> float:
    """Return a figure to six digits that say something: an estimate is never rounded to 0."""
    return float(f"{figure:.6g}")
