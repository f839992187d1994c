"""Whose a call is: by its API key, and from trusted peers by a header or the path `/t/TENANT/v1/...`. Pure.

A key is never kept: it becomes its configured name, or a digest under a local secret. Names that begin with `__` are
ours (`__unknown__`, `__other__`), and nobody may call himself so.
"""

import hashlib
import hmac
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

HEADER = "x-inferwatt-tenant"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,63}")
_PATH = re.compile(r"/t/([^/]*)(/.*)", re.DOTALL)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_name(text: str) -> bool:
    """Whether a tenant may be called so: 1 to 64 of letters, digits and `._@:-`, a letter or digit first."""
    return _NAME.fullmatch(text) is not None


def split_path(path: str) -> tuple[str | None, str]:
    """Return the tenant of `/t/TENANT/v1/...` and the path without it; None and the path where it names none."""
    found = _PATH.fullmatch(path)
    return (found[1], found[2]) if found else (None, path)


def key_of(headers: Mapping[str, str]) -> str:
    """Return the API key of a call, by OpenAI's, Anthropic's or Azure's header (names in lower case)."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    bearer = key.strip() if scheme.lower() == "bearer" else ""
    return bearer or headers.get("x-api-key", "").strip() or headers.get("api-key", "").strip()


def digest(key: str) -> bytes:
    """Return by what a configured key is found, so that no comparison of keys takes a time that tells of them."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True, slots=True)
class Tenants:
    """How tenants are told.

    Args:
        names: tenants by the digest of their API key.
        secret: by which other keys become digests; empty: they are nobody's.
        peers: whose header and path are believed.
        header: the header that names a tenant, in lower case.
    """

    names: Mapping[bytes, str] = field(default_factory=dict)
    secret: bytes = b""
    peers: tuple[Network, ...] = ()
    header: str = HEADER

    def of(self, headers: Mapping[str, str], peer: str, named: str | None = None) -> str:
        """Return the tenant of a call, empty where nobody who is believed says it.

        Args:
            headers: those of the call, names in lower case.
            peer: the address of the other end of the connection.
            named: the tenant that its path names.
        """
        if (named is not None or self.header in headers) and self.trusts(peer):
            for said in (named or "", headers.get(self.header, "")):
                if is_name(said):
                    return said
        return self.by_key(key_of(headers))

    def by_key(self, key: str) -> str:
        """Return whose a key is: the configured name, else a digest under the secret, else nobody's."""
        name = self.known(key)
        if not key or name or not self.secret:
            return name
        return "key-" + hmac.new(self.secret, key.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:16]

    def known(self, key: str) -> str:
        """Return the tenant of a configured key; empty for any other."""
        return self.names.get(digest(key), "") if key else ""

    def trusts(self, peer: str) -> bool:
        """Whether the other end may say whose a call is."""
        if not self.peers:
            return False
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self.peers)


def keys_of(text: str) -> dict[str, str]:
    """Return tenants by key, of the text of a TOML file with lines `tenant = "key"`.

    Raises:
        ValueError: it is not such a text; a key is never shown.
    """
    named = tomllib.loads(text)
    if not all(isinstance(key, str) and key for key in named.values()):
        raise ValueError('a line is not tenant = "key"')
    return {key: name for name, key in named.items()}


def tenants(
    keys: Mapping[str, str], *, secret: bytes = b"", peers: Iterable[str] = (), header: str = HEADER
) -> Tenants:
    """Return how tenants are told; `keys` are tenants by key.

    Raises:
        ValueError: a tenant's name or a network is none; a key is never shown.
    """
    for name in keys.values():
        if not is_name(name):
            raise ValueError(f"{name!r} is no tenant: 1 to 64 letters, digits and ._@:-, a letter or digit first")
    networks = tuple(ipaddress.ip_network(one) for one in peers)
    return Tenants({digest(key): name for key, name in keys.items()}, secret, networks, header.lower())
