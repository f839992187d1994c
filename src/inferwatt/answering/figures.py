"""The `inferwatt` object of an answer: its id, what is known of its joules by now, and how sure. Pure."""

import re
from typing import Any

from inferwatt.answering.provisional import Known
from inferwatt.records import EnergyPart, RequestEnergy
from inferwatt.units import joules

DIGITS = 6
_ODD = re.compile(rb"[^A-Za-z0-9._~-]")
PROVISIONAL, FINAL, PENDING = "provisional", "final", "pending"


def figure(name: str, energy: RequestEnergy | Known | None, *, url: str | None = "") -> dict[str, Any]:
    """Return the object; what is not known is left out.

    Args:
        name: by which the agent is asked for the final figure.
        energy: what the request has used as far as anybody knows; None, or without parts: nothing yet.
        url: where the agent is asked; empty: where this answer is from; None: nobody has said.
    """
    link = _link(name, url)
    if energy is None or energy.provenance is None:
        return {"id": name, "final": False, "state": PENDING, **link}
    whole: dict[str, Any] = {
        "id": name,
        "energy_joules": _joules(energy.energy_uj),
        "low_joules": _joules(energy.low_uj),
        **({} if energy.high_uj is None else {"high_joules": _joules(energy.high_uj)}),
        "prefill_joules": _joules(energy.prefill_uj),
        "decode_joules": _joules(energy.decode_uj),
        "systematic_ratio": round(energy.systematic_ratio, 4),
        "tier": energy.tier.value,
        "provenance": energy.provenance.value,
    }
    if isinstance(energy, Known):
        return {**whole, "basis": energy.basis, "final": False, "state": PROVISIONAL, **link}
    if len(energy.parts) > 1:
        whole["components"] = [_component(part) for part in energy.parts]
    return {**whole, "final": energy.final, "state": FINAL if energy.final else PROVISIONAL, **link}


def _component(part: EnergyPart) -> dict[str, Any]:
    return {
        "component": part.component.value,
        "energy_joules": _joules(part.energy_uj),
        "provenance": part.provenance.value,
    }


def head(name: str, *, url: str | None = "") -> dict[str, Any]:
    """Return what a stream's headers can carry: the id, and where its joules will be."""
    return {"id": name, **_link(name, url)}


def _link(name: str, url: str | None) -> dict[str, str]:
    return {} if url is None else {"link": f"{url}/v1/requests/{_escaped(name)}"}


def _joules(energy_uj: int) -> float:
    return round(joules(energy_uj), DIGITS)


def _escaped(name: str) -> str:
    """Return a name as a part of a path: by RFC 3986, all but the unreserved characters escaped."""
    return _ODD.sub(lambda odd: b"%%%02X" % ord(odd[0]), name.encode("utf-8", "replace")).decode("ascii")
