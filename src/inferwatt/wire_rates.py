"""What tokens cost lately, on the wire: from the agent to producers that answer clients.

One message, `{"t": "rates", "rates": [...]}`, replaces what it names (engine and model) in the one before. A producer
that does not know this kind ignores it. Standard library only, no thread, no clock.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import NoReturn

from inferwatt.errors import RecordRejected
from inferwatt.rates import Band, Rates
from inferwatt.records import Provenance, Tier
from inferwatt.wire import MAX_INTEGER, Message

RATES = "rates"
_BANDS = ("computed", "prompt", "output")


def rates_message(rates: Iterable[Rates]) -> Message:
    """Return a message with the rates of some models; what is not known is left out."""
    rows = [{name: value for name, value in asdict(one).items() if value is not None} for one in rates]
    return {"t": RATES, "rates": rows}


def rates_from_wire(message: Message) -> list[Rates]:
    """Return the rates that a decoded message holds.

    Raises:
        RecordRejected: it is not of that form; nothing of it is taken.
    """
    rows = message.get("rates")
    if not isinstance(rows, list):
        _reject("not a list")
    try:
        return [_rates(row) for row in rows]
    except (LookupError, TypeError, ValueError) as exc:
        _reject(type(exc).__name__, exc)


def _rates(row: Message) -> Rates:
    requests = row["requests"]
    if type(requests) is not int or not 0 < requests <= MAX_INTEGER:
        raise ValueError("requests")
    return Rates(
        str(row["engine"]),
        str(row["model"]),
        requests,
        Tier(row["tier"]),
        Provenance(row["provenance"]),
        _number(row["systematic_ratio"]),
        *(_band(row.get(name)) for name in _BANDS),
    )


def _band(value: object) -> Band | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise TypeError("band")
    band = Band(*(_number(one) for one in value))
    if not band.low <= band.mean <= band.high:
        raise ValueError("band")
    return band


def _number(value: object) -> float:
    if type(value) not in {int, float} or not (math.isfinite(value) and value >= 0):  # type: ignore[arg-type, operator]
        raise ValueError("number")
    return float(value)  # type: ignore[arg-type]


def _reject(what: str, cause: Exception | None = None) -> NoReturn:
    raise RecordRejected(f"not rates: {what}", where="rates", fix="use agent and SDK of one version") from cause
