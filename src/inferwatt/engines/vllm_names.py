"""The names of one request: the engine's own, the one that the client got, and the one that the client gave. Pure.

Of `X-Request-Id: abc` vLLM makes `chatcmpl-abc` for a chat (that is the answer's id), and `cmpl-abc-0` for the first
prompt of a completion (the answer's id is `cmpl-abc`); a response `resp_1f` is `resp_1f_0` in its first turn. The
engine appends 8 hexadecimal digits to either, since a client may use one id twice (vLLM since 0.16,
v1/engine/input_processor.py). Of n > 1 answers each has a number first.
"""

import re
from typing import NamedTuple

_ENGINE = re.compile("^(?:[0-9]+_)?(.+?)(?:-[0-9a-f]{8})$")
_KIND = re.compile(
    "^(?:chatcmpl-|cmpl-|embd-|pool-|classify-|score-|rerank-|resp_|generate-tokens-|transcribe-|translate-|decision-)"
)
_NUMBERED = frozenset({"cmpl-", "embd-", "pool-", "classify-", "score-", "rerank-", "resp_"})
"""Kinds of which one call may have several prompts, or turns, each with its number at the end."""
_PLACE = re.compile("(?:-|(?<=[0-9a-f])_)[0-9]+$")


class Names(NamedTuple):
    """What a request is called: by the server's front end, in the answer, and by the client."""

    external: str
    response_id: str
    request_id: str


def names_of(internal: str, *, is_suffixed: bool = True) -> Names:
    """Return a request's other names; a name of another form stands for itself."""
    found = _ENGINE.match(internal) if is_suffixed else None
    return names_of_external(found[1] if found else internal)


def names_of_external(external: str) -> Names:
    """Return the names of a request that the front end calls `external`."""
    found = _KIND.match(external)
    kind = found[0] if found else ""
    rest = external[len(kind) :]
    if kind in _NUMBERED:
        rest = _PLACE.sub("", rest)
    return Names(external, kind + rest, rest)
