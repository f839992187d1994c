"""The `inferwatt` object put into an answer: bytes before the last brace; nothing is written anew. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

from inferwatt.answering.events import data_of

KEY = "inferwatt"
HEADER_PREFIX = "x-inferwatt-"
_PRESENT = re.compile(rb'"inferwatt"\s*:')
"""Inside a string its quotes would be escaped: this is a member, if perhaps of something within."""
_LAST_DATA = re.compile(rb"(?:\A|[\r\n])data:[^\r\n]*\}(?=[ \t]*(?:[\r\n]+|\Z))")
_OBJECT = re.compile(rb"\A\s*\{")


def into_body(body: bytes, figure: Mapping[str, Any]) -> bytes:
    """Return a JSON object with one member more, all else as it was; what is no object, or has it already, as it is."""
    end = len(body.rstrip(b" \t\r\n")) - 1
    if end < 1 or body[end : end + 1] != b"}" or not _OBJECT.match(body) or _has_it(body):
        return body
    return _before(body, end, figure)


def into_event(event: bytes, figure: Mapping[str, Any]) -> bytes:
    """Return one event with the member in the JSON object that is its data; what holds none as it is."""
    ends = [found.end() - 1 for found in _LAST_DATA.finditer(event)]
    if not ends or _has_it(data_of(event) or b""):
        return event
    return _before(event, ends[-1], figure)


def _has_it(data: bytes) -> bool:
    if not _PRESENT.search(data):
        return False
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return True
    return not isinstance(told, dict) or KEY in told


def own(data: bytes) -> Mapping[str, Any] | None:
    """Return the object that a server has put into its answer itself; None where there is none."""
    if not _PRESENT.search(data):
        return None
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return None
    found = told.get(KEY) if isinstance(told, dict) else None
    return found if isinstance(found, dict) else None


def _before(data: bytes, end: int, figure: Mapping[str, Any]) -> bytes:
    comma = b"" if data[:end].rstrip().endswith(b"{") else b","
    return data[:end] + comma + member(figure) + data[end:]


def member(figure: Mapping[str, Any]) -> bytes:
    """Return the object as a member, ASCII only: in a stream no byte of it can be taken for the end of a line."""
    return json.dumps({KEY: figure}, separators=(",", ":"), ensure_ascii=True, allow_nan=False)[1:-1].encode()


def headers_of(figure: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the figure as headers: `x-inferwatt-request-id`, `x-inferwatt-energy-joules`, ..."""
    return [
        (HEADER_PREFIX + _NAMES.get(key, key.replace("_", "-")), _header_text(value))
        for key, value in figure.items()
        if isinstance(value, str | int | float)
    ]


_NAMES = {"id": "request-id"}


def _header_text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if text.isascii() and text.isprintable() else "".join(one for one in text if " " <= one <= "~")
