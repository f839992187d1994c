"""inferwatt: the energy meter of AI inference.

`import inferwatt` is standard library only and loads nothing until a name is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inferwatt.sdk import RequestHandle, meter, request

__version__ = "0.1.0"
__all__ = ["RequestHandle", "__version__", "meter", "request"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute can be anything
    if name in {"RequestHandle", "meter", "request"}:
        from inferwatt import sdk

        return getattr(sdk, name)
    raise AttributeError(f"module 'inferwatt' has no attribute {name!r}")
