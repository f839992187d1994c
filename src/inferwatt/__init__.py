"""inferwatt: the energy meter of AI inference.

`import inferwatt` is standard library only and loads nothing until a name is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inferwatt.clients.calls import CallEnergy, Calls, calls, energy_of
    from inferwatt.clients.instrument import instrument, uninstrument
    from inferwatt.handle import RequestHandle
    from inferwatt.records import RequestEnergy
    from inferwatt.sdk import meter, request
    from inferwatt.window import MeterEnergy

__version__ = "0.1.0"
__all__ = [
    "CallEnergy",
    "Calls",
    "MeterEnergy",
    "RequestEnergy",
    "RequestHandle",
    "__version__",
    "calls",
    "energy_of",
    "instrument",
    "meter",
    "request",
    "uninstrument",
]
_HOMES = {
    "CallEnergy": "clients.calls",
    "Calls": "clients.calls",
    "MeterEnergy": "window",
    "RequestEnergy": "records",
    "RequestHandle": "handle",
    "calls": "clients.calls",
    "energy_of": "clients.calls",
    "instrument": "clients.instrument",
    "meter": "sdk",
    "request": "sdk",
    "uninstrument": "clients.instrument",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute can be anything
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"inferwatt.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'inferwatt' has no attribute {name!r}")
