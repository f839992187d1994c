"""Who may see what: the section `[web]`, tokens, host names, and which peers may see tenants and requests.

Sums are open on loopback. Tenants and requests are given to who holds the token, or connects from this machine as
the agent's own user or root. Beyond loopback everything needs the token.
"""

import hmac
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Final

import msgspec

from inferwatt.errors import ConfigError
from inferwatt.loopback import is_loopback

COOKIE: Final = "inferwatt"
SHORTEST_TOKEN: Final = 16
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers of a reverse proxy: then the peer is the proxy, and its user says nothing of who asks."""


class WebConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[web]`: `listen` is host:port, `token_file` holds the token that opens everything.

    `allowed_hosts` are the names by which browsers and scrapers may call this agent besides localhost.
    """

    listen: str = "127.0.0.1:9595"
    token_file: str = ""
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """The rules in force. `token` is empty where none is set; `uids` are the users who may see everything."""

    token: str = ""
    allowed_hosts: frozenset[str] = LOOPBACK_NAMES
    uids: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"Access(token={'***' if self.token else ''}, allowed_hosts={sorted(self.allowed_hosts)})"

    @property
    def cookie(self) -> str:
        """What a browser keeps: proves that it had the token, without being it (cookies go to every port)."""
        return hmac.new(self.token.encode(), b"inferwatt cookie", "sha256").hexdigest()

    def holds_token(self, headers: Mapping[str, str]) -> bool:
        """Say whether the request carries the token, as a bearer or by its cookie."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        try:
            kept = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return bool(self.token) and kept is not None and _same(kept.value, self.cookie)

    def is_token(self, given: str) -> bool:
        """Say whether `given` is the token, in time that tells nothing about it."""
        return bool(self.token) and _same(given, self.token)

    def is_host(self, header: str, own_address: str) -> bool:
        """Say whether a `Host` header names this agent.

        `own_address` is where the connection arrived: a web page can rebind a name to it, never an address.
        """
        host = _host(header)
        return host != "" and (host in self.allowed_hosts or host == own_address.removeprefix("::ffff:"))


def open_access(config: WebConfig) -> Access:
    """Return the rules that `config` asks for.

    Raises:
        ConfigError: `listen` is no address, the token cannot be read, is short or is open to others, or the agent
            would listen beyond this machine without one.
    """
    host, _ = split_listen(config.listen)
    token = _read_token(Path(config.token_file)) if config.token_file else ""
    if not token and not is_loopback(host):
        what = f"web.listen is {config.listen}, which others can reach, and web.token_file names no token"
        fix = "listen on 127.0.0.1:9595, or: (umask 077; openssl rand -hex 32 > token) and set web.token_file"
        raise ConfigError(what, where="web.listen", fix=fix)
    own = {os.getuid(), 0} if hasattr(os, "getuid") else set()
    names = {_host(name) or name for name in config.allowed_hosts}
    return Access(token, LOOPBACK_NAMES | names, frozenset(own))


def split_listen(listen: str) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:9595`, `[::1]:9595` or `localhost:0`.

    Raises:
        ConfigError: it is not of that form.
    """
    host, _, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not bracketed) or not port.isascii() or not port.isdigit() or int(port) > 65535:
        what = f"web.listen is {listen!r}, must be host:port"
        raise ConfigError(what, where="web.listen", fix='listen = "127.0.0.1:9595"')
    return host.strip("[]"), int(port)


def _read_token(file: Path) -> str:
    fix = f"(umask 077; openssl rand -hex 32 > {file})"
    try:
        with file.open(encoding="ascii") as stream:
            token = stream.read(4096).strip()
            mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII text"
        raise ConfigError(f"cannot read the token: {reason}", where=f"web.token_file {file}", fix=fix) from None
    if len(token) < SHORTEST_TOKEN or len(token.split()) != 1:
        what = f"the token must be one word of at least {SHORTEST_TOKEN} characters"
        raise ConfigError(what, where=f"web.token_file {file}", fix=fix)
    if os.name == "posix" and mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ConfigError("every user can read the token", where=f"web.token_file {file}", fix=f"chmod 600 {file}")
    return token


def _host(header: str) -> str:
    """Return the host of a `Host` header without port, in lower case; empty where it is malformed."""
    text = header.strip().lower()
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed:
            return ""
    else:
        host, colon, port = text.partition(":")
        rest = colon + port
    sound = rest == "" or (rest[0] == ":" and rest[1:].isdigit())
    return host.removesuffix(".") if sound else ""


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
