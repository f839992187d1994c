"""Which paths are calls of a model, and by which protocol; all others are closed. Pure.

The path is compared as it was sent: what is escaped, doubled or dotted is another path, and closed.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Protocol(StrEnum):
    """How a call and its answer are written."""

    OPENAI = "openai"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    ANTHROPIC = "anthropic"
    TGI = "tgi"
    OLLAMA = "ollama"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a model; `streams` where the path alone says that the answer is a stream."""

    protocol: Protocol
    model: str = ""
    streams: bool = False


_CALLS = {
    "/v1/chat/completions": Call(Protocol.OPENAI),
    "/v1/completions": Call(Protocol.OPENAI),
    "/v1/responses": Call(Protocol.RESPONSES),
    "/v1/embeddings": Call(Protocol.EMBEDDINGS),
    "/v1/messages": Call(Protocol.ANTHROPIC),
    "/generate": Call(Protocol.TGI),
    "/generate_stream": Call(Protocol.TGI, streams=True),
    "/api/chat": Call(Protocol.OLLAMA),
    "/api/generate": Call(Protocol.OLLAMA),
    "/api/embed": Call(Protocol.OLLAMA),
}
_AZURE = re.compile(r"/openai/deployments/([A-Za-z0-9._-]{1,128})/(chat/completions|completions|embeddings)")
MODELS = re.compile(r"/v1/models(/[A-Za-z0-9._:/-]{1,256})?")
RECORDS = re.compile(r"/v1/requests/([A-Za-z0-9._~-]{1,128})")
HEALTH = frozenset({"/health", "/healthz"})


def call_of(path: str, allowed: frozenset[str] = frozenset()) -> Call | None:
    """Return the call that a path is; None where it is none, and is not allowed by the configuration."""
    call = _CALLS.get(path)
    if call is None and (azure := _AZURE.fullmatch(path)):
        call = Call(Protocol.EMBEDDINGS if azure[2] == "embeddings" else Protocol.OPENAI, azure[1])
    if call is None and path in allowed:
        call = Call(Protocol.OTHER)
    return call
