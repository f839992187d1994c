"""Where a Redfish service says what a server draws: the resources of DMTF's DSP0268, read without trusting them. Pure.

From best to worst; each is a power at one moment:

- ``EnvironmentMetrics.PowerWatts`` of the chassis (since release 2020.4): an excerpt of a sensor, of which only the
  address may be there.
- ``Power.PowerControl[0].PowerConsumedWatts`` (deprecated by 2020.4, and still the only one on many machines). The
  first entry is the whole; further ones are parts of it on some (Lenovo: CPU, memory), so they are never added.
- ``PowerSubsystem``: the input power of each supply, added up.

What is not used: ``PowerMetrics.AverageConsumedWatts``, a mean over ``IntervalInMin`` minutes, often twenty;
``EnergykWh``, whose step the schema does not say (three decimals are 3600 J, none are 3.6 MJ); any ``Oem`` block.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from inferwatt.sources.server import NoFigure, power_mw

ROOT = "/redfish/v1/"
Document = Mapping[str, Any]

_ABSENT = frozenset({"Absent", "Disabled", "UnavailableOffline"})
_WHOLE_SERVER = frozenset({"RackMount", "StandAlone", "Blade", "Sled"})
"""Chassis types of one server: what such a chassis contains is part of it (Chassis schema, ChassisType)."""
_LONGEST_PATH = 512
_PATH = re.compile(r"/redfish/[!-~]*")


class NoDocument(ValueError):
    """What was sent is no JSON object."""


class Kind(Enum):
    """How a power is read from a resource."""

    ENVIRONMENT = "EnvironmentMetrics.PowerWatts"
    SENSOR = "Sensor.Reading"
    CONTROL = "PowerControl[0].PowerConsumedWatts"
    SUPPLIES = "PowerSupplyMetrics.InputPowerWatts"


@dataclass(frozen=True, slots=True)
class Meter:
    """What is read at each poll: resources of one kind, whose figures are added up."""

    kind: Kind
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chassis:
    """One chassis: its id, what it is, which other contains it, and its meter, or why it has none.

    Addresses are without a slash at the end, which services set as they please.
    """

    name: str
    path: str
    form: str
    inside: str
    meter: Meter | None
    why_not: str = ""


def document(body: bytes) -> Document:
    """Return a JSON object.

    Raises:
        NoDocument: it is none, or nested without end.
    """
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise NoDocument("is no JSON") from exc
    if not isinstance(found, dict):
        raise NoDocument("is no JSON object")
    return found


def inner(found: object, *keys: str) -> object:
    """Return what is at `keys`, None where something else is in the way."""
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def link(found: object, *keys: str) -> str:
    """Return the address of another resource, empty where there is none or it leads away from this service."""
    return checked(inner(found, *keys, "@odata.id"))


def checked(path: object) -> str:
    """Return `path` where it is one of a Redfish service, else nothing: no host, no blank, no control character."""
    is_path = isinstance(path, str) and len(path) <= _LONGEST_PATH and _PATH.fullmatch(path)
    return str(path).partition("#")[0] if is_path else ""


def members(collection: Document) -> Iterator[str]:
    """Yield the addresses of a collection's members."""
    listed = collection.get("Members")
    for member in listed if isinstance(listed, list) else ():
        if path := link(member):
            yield path


def name_of(path: str, found: Document) -> str:
    """Return what a chassis is called: its ``Id``, else the end of its address; printable and short."""
    name = found.get("Id")
    text = name if isinstance(name, str) and name else path.rstrip("/").rpartition("/")[2]
    return "".join(mark for mark in text if mark.isprintable())[:64]


def figure_mw(kind: Kind, found: Document) -> int:
    """Return the power that a resource says, milliwatts.

    Raises:
        NoFigure: it says none.
    """
    if kind is Kind.CONTROL:
        controls = found.get("PowerControl")
        first = controls[0] if isinstance(controls, list) and controls else None
        return _enabled_mw(first, "PowerConsumedWatts")
    if kind is Kind.SENSOR:
        if found.get("ReadingUnits", "W") != "W":
            raise NoFigure("is not in watts")
        return _enabled_mw(found, "Reading")
    if kind is Kind.SUPPLIES:
        return power_mw(inner(found, "InputPowerWatts", "Reading"), least_watts=0.0)
    return power_mw(inner(found, "PowerWatts", "Reading"))


def sensor_of(environment: Document) -> str:
    """Return the address of the sensor behind an excerpt that has no reading of its own."""
    excerpt = environment.get("PowerWatts")
    if not isinstance(excerpt, Mapping) or "Reading" in excerpt:
        return ""
    return checked(excerpt.get("DataSourceUri"))


def is_absent(found: object) -> bool:
    """Tell whether a resource says of itself that it is not there or off. No ``Status`` at all says nothing."""
    state = inner(found, "Status", "State")
    return isinstance(state, str) and state in _ABSENT


def choose(chassis: Sequence[Chassis]) -> list[Chassis]:
    """Return the chassis whose power may be the whole server's: not those that a metered server contains."""
    by_path = {each.path: each for each in chassis}
    metered = [each for each in chassis if each.meter is not None]
    tops = [each for each in metered if not any(_is_server(above) for above in _above(each, by_path))]
    return tops or metered


def _is_server(chassis: Chassis) -> bool:
    return chassis.meter is not None and chassis.form in _WHOLE_SERVER


def _above(chassis: Chassis, by_path: Mapping[str, Chassis]) -> Iterator[Chassis]:
    """Yield what contains a chassis, from the inside out; links in a circle end."""
    seen = {chassis.path}
    while chassis.inside not in seen and chassis.inside in by_path:
        seen.add(chassis.inside)
        chassis = by_path[chassis.inside]
        yield chassis


def _enabled_mw(found: object, key: str) -> int:
    if is_absent(found):
        raise NoFigure("is of something that is off")
    return power_mw(inner(found, key))
