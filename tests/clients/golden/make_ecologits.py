"""Write ecologits_0.11.3.json beside this file: what the release itself computes.

It needs an environment of its own:

    python -m venv /tmp/ecologits && /tmp/ecologits/bin/pip install ecologits==0.11.3
    /tmp/ecologits/bin/python tests/clients/golden/make_ecologits.py

Every figure is its; the parameters that its registry assumes of a model stand beside it, so that the method can be
compared without its registry. Embodied impacts and water are not compared: they are not energy.
"""

import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ecologits.model_repository import models
from ecologits.tracers.utils import PROVIDER_CONFIG_MAP, llm_impacts

MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-5"),
    ("openai", "gpt-5-nano"),
    ("openai", "o4-mini"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-opus-4-6"),
    ("google_genai", "gemini-2.5-flash"),
    ("google_genai", "gemini-2.5-pro"),
    ("mistralai", "ministral-8b-2512"),
    ("mistralai", "mistral-large-2512"),
    ("cohere", "command-a-03-2025"),
)
REQUESTS = ((1, None), (250, None), (250, 2.0), (400, None), (2000, None), (2000, 0.5))
TARGET = Path(__file__).with_name("ecologits_0.11.3.json")


def ends(value: Any) -> list[float]:
    """Return a number of theirs as the ends of an interval."""
    return [float(getattr(value, "min", value)), float(getattr(value, "max", value))]


def case(provider: str, name: str, tokens: int, seconds: float | None) -> dict[str, Any]:
    """Return one request and what the release says of it."""
    model = models.find_model(provider=provider, model_name=name)
    parameters = model.architecture.parameters
    impacts = llm_impacts(provider, name, tokens, math.inf if seconds is None else seconds)
    return {
        "provider": provider,
        "model": name,
        "active_billions": ends(getattr(parameters, "active", parameters)),
        "total_billions": ends(getattr(parameters, "total", parameters)),
        "tokens_per_second": model.deployment.tps if model.deployment else None,
        "first_token_seconds": model.deployment.ttft if model.deployment else None,
        "pue": ends(PROVIDER_CONFIG_MAP[provider].datacenter_pue),
        "output_tokens": tokens,
        "seconds": seconds,
        "energy_kwh": ends(impacts.energy.value),
    }


def main() -> None:
    """Compute every request and write them."""
    cases = [case(*model, *request) for model in MODELS for request in REQUESTS]
    package = f"ecologits=={version('ecologits')}"
    head = {"package": package, "made_by": "tests/clients/golden/make_ecologits.py", "pairs": "[least, most]"}
    lines = ",\n".join(json.dumps(made) for made in cases)
    text = f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n'
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
