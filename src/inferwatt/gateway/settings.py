"""The section `[gateway]`: where it listens, what it stands before, whose calls they are, what it lets through."""

import re

import msgspec

_URL = re.compile(r"https?://[^/?#@\s]+(/[^?#\s]*)?")


class UpstreamConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[[gateway.upstream]]`: one server, or a managed API, and which models it is asked for.

    `server` is its name in the agent's configuration; `provider` says that it is a managed API, whose joules are
    estimated.
    """

    name: str
    url: str
    models: tuple[str, ...] = ("*",)
    provider: str = ""
    server: str = ""
    key_file: str = ""
    ask_usage: bool = True

    def __post_init__(self) -> None:
        if not _URL.fullmatch(self.url):
            raise ValueError("url is not http://HOST:PORT or https://HOST")


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[gateway.limits]`: what one call may take."""

    body_bytes: int = 32 << 20
    header_bytes: int = 64 << 10
    connections: int = 10_000
    body_seconds: float = 60.0
    connect_seconds: float = 5.0
    silent_seconds: float = 600.0
    call_seconds: float = 3600.0
    retries: int = 1
    retry_after_seconds: float = 2.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) >= (name != "retries" and 1e-3):
                raise ValueError(f"{name} must be above 0")


class GatewayTenants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[gateway.tenants]`: whose calls they are."""

    keys_file: str = ""
    secret_file: str = ""
    keys_only: bool = True
    header: str = "x-inferwatt-tenant"
    peers: tuple[str, ...] = ()


class GatewayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[gateway]`."""

    listen: str = "127.0.0.1:9596"
    upstream: tuple[UpstreamConfig, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    embed: bool = True
    paths: tuple[str, ...] = ()
    agent_url: str = ""
    tls_certificate_file: str = ""
    tls_key_file: str = ""
    plaintext: bool = False
    limits: LimitsConfig = LimitsConfig()
    tenants: GatewayTenants = GatewayTenants()
