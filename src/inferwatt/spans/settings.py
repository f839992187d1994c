"""The section `[spans]`: whether traces are taken, where, and what is read of them."""

import re

import msgspec

_LISTEN = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}")


class SpansConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[spans]`: `listen` is host:port, empty takes none (4318 is what OpenTelemetry's exporters ask for).

    `managed` are hosts of your own that pass calls on to a managed API; `tenant_attribute` is whose a call is, on the
    span or on its resource.
    """

    listen: str = ""
    managed: tuple[str, ...] = ()
    tenant_attribute: str = "inferwatt.tenant"
    body_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if self.listen and not _LISTEN.fullmatch(self.listen):
            raise ValueError("listen is not host:port")
        if not 0 < self.body_bytes <= 1 << 30:
            raise ValueError("body_bytes must be 1 to 1073741824")
