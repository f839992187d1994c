"""What every request passes first: method, host, origin, token; and the headers that every answer carries."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inferwatt.loopback import is_loopback
from inferwatt.web.access import COOKIE, FORWARDED, Access

PEER: Final = "inferwatt.peer"
"""Where the server leaves what it knows of the connection (server.py)."""

CONTENT_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS: Final = [
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Peer(Protocol):
    """What the server knows of one connection."""

    @property
    def uid(self) -> int | None:
        """Return the user at the other end, None where that is not known."""
        ...

    def abort(self) -> None:
        """Drop the connection at once."""
        ...


class Refusal(Response):
    """An answer that says what is wrong and what to do, as JSON."""

    def __init__(self, status: int, what: str, fix: str, headers: dict[str, str] | None = None) -> None:
        body = msgspec.json.encode({"error": {"what": what, "fix": fix}})
        super().__init__(body, status, headers, "application/json")


@dataclass(frozen=True, slots=True)
class Guard:
    """The outermost part of the application."""

    app: ASGIApp
    access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, redirect or pass on."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served here")
        headers = Headers(scope=scope)
        answer = next((found for check in _CHECKS if (found := check(scope, headers, self.access))), None)
        await (answer or self.app)(scope, receive, _with_headers(send))


def sees_details(scope: Scope, access: Access) -> bool:
    """Say whether tenants and requests may be shown to who asks."""
    headers = Headers(scope=scope)
    if access.holds_token(headers):
        return True
    peer = cast(Peer | None, scope.get(PEER))
    if peer is None or not _from_here(scope) or any(name in headers for name in FORWARDED):
        return False
    return peer.uid in access.uids


def _from_here(scope: Scope) -> bool:
    return is_loopback((scope.get("client") or ("",))[0])


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *SECURITY_HEADERS]}
        await send(message)

    return sending


def _method(scope: Scope, _headers: Headers, _access: Access) -> Response | None:
    if scope["method"] in {"GET", "HEAD"}:
        return None
    return Refusal(
        405, f"{scope['method']} is not served", "GET or HEAD: this agent only shows", {"allow": "GET, HEAD"}
    )


def _host(scope: Scope, headers: Headers, access: Access) -> Response | None:
    own_address = (scope.get("server") or ("",))[0]
    hosts = headers.getlist("host")
    if len(hosts) == 1 and access.is_host(hosts[0], own_address):
        return None
    return Refusal(421, "this agent does not go by that host name", "call it localhost, or add to web.allowed_hosts")


def _origin(_scope: Scope, headers: Headers, _access: Access) -> Response | None:
    """Refuse what other web pages load; a link on one may be followed."""
    site = headers.get("sec-fetch-site", "none")
    if site in {"none", "same-origin"} or headers.get("sec-fetch-mode") == "navigate":
        return None
    return Refusal(403, "another web page asked for this", "open it by its own address")


def _token(scope: Scope, headers: Headers, access: Access) -> Response | None:
    """Turn `?token=` into a cookie and lead to the same address without it, so that it is in no history."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    given = [value for key, value in query if key == "token"]
    if not given:
        return None
    if not access.is_token(given[0]):
        return Refusal(403, "this is not the token", "see web.token_file")
    rest = urlencode([pair for pair in query if pair[0] != "token"])
    # one slash: //host would lead to another one
    path = "/" + quote(scope["path"].lstrip("/\\"))
    answer = RedirectResponse(f"{path}?{rest}" if rest else path, 303, {"cache-control": "no-store"})
    answer.set_cookie(COOKIE, access.cookie, httponly=True, samesite="strict", path="/")
    return answer


def _beyond(scope: Scope, headers: Headers, access: Access) -> Response | None:
    if _from_here(scope) or scope["path"] == "/healthz" or access.holds_token(headers):
        return None
    fix = "Authorization: Bearer TOKEN, or open /?token=TOKEN once in a browser"
    return Refusal(401, "this needs the token", fix, {"www-authenticate": "Bearer"})


_CHECKS: Final[tuple[Callable[[Scope, Headers, Access], Response | None], ...]] = (
    _method,
    _host,
    _origin,
    _token,
    _beyond,
)
