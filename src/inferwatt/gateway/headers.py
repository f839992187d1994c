"""Which headers go on: none of the hop's, none that is ours, and of several names one meaning. Pure."""

import re
from collections.abc import Iterable, Mapping

Raw = tuple[bytes, bytes]

_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "content-length", "host", "expect",
    }
)  # fmt: skip
_KEYS = frozenset({"authorization", "x-api-key", "api-key"})
_OURS = "x-inferwatt-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MOST_TAGS = 32


def read(raw: Iterable[Raw]) -> dict[str, str]:
    """Return headers by name; of one that stands twice the first."""
    found: dict[str, str] = {}
    for name, value in raw:
        found.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return found


def asking(raw: Iterable[Raw], key: str, name: str, hides_key: bool, tenant_header: str) -> list[tuple[str, str]]:
    """Return the headers of a call as they go to its server.

    Args:
        raw: as they came.
        key: the server's key, empty where it has none of its own.
        name: the call's id, sent as X-Request-Id.
        hides_key: whether the client's key is ours, and nobody else's business.
        tenant_header: which names a tenant.
    """
    pairs = [(left.decode("latin-1").lower(), right.decode("latin-1")) for left, right in raw]
    dropped = _HOP | _named_by_connection(pairs) | {"x-request-id", "accept-encoding", tenant_header}
    dropped |= _KEYS if hides_key or key else frozenset()
    kept = [pair for pair in pairs if pair[0] not in dropped and not pair[0].startswith(_OURS)]
    sent = {given for given, _ in pairs}
    kept += [("accept-encoding", "identity"), ("x-request-id", name)]
    return kept + (_key_as(sent, key) if key else [])


def _key_as(sent: set[str], key: str) -> list[tuple[str, str]]:
    """Return the server's key in the header that the client's protocol uses."""
    for header in ("x-api-key", "api-key"):
        if header in sent:
            return [(header, key)]
    return [("authorization", f"Bearer {key}")]


def answering(raw: Iterable[Raw], more: Iterable[tuple[str, str]], length: int | None) -> list[Raw]:
    """Return the headers of an answer as they go to the client, `more` over those of the same names.

    `length` is that of a body that is known.
    """
    ours: list[Raw] = [(name.encode(), value.encode("latin-1", "replace")) for name, value in more]
    pairs = [(name.lower(), value) for name, value in raw]
    dropped = {
        one.encode()
        for one in _HOP | _named_by_connection([(a.decode("latin-1"), b.decode("latin-1")) for a, b in pairs])
    }
    dropped |= {name for name, _ in ours}
    kept = [(name, value) for name, value in pairs if name not in dropped] + ours
    return kept if length is None else [*kept, (b"content-length", str(length).encode())]


def _named_by_connection(pairs: Iterable[tuple[str, str]]) -> frozenset[str]:
    return frozenset(
        one.strip().lower() for name, value in pairs if name == "connection" for one in value.split(",") if one.strip()
    )


def request_id(headers: Mapping[str, str]) -> str:
    """Return the id that a client gave its call; empty where it gave none that can be one."""
    given = headers.get("x-request-id", "")
    return given if _NAME.fullmatch(given) else ""


def tags(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that a client gave: `x-inferwatt-tags: team=a,project=b`."""
    pairs = [one.partition("=") for one in headers.get("x-inferwatt-tags", "").split(",")[:MOST_TAGS]]
    found = {left.strip(): right.strip() for left, equal, right in pairs if equal and left.strip()}
    traceparent = headers.get("traceparent", "").split("-")
    if len(traceparent) >= 4 and len(traceparent[1]) == 32:
        found["trace_id"] = traceparent[1]
    return found
