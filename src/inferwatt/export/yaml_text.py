"""Plain data as YAML that people can read: what is pasted into Prometheus, Kubernetes and Grafana. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

Data = Mapping[str, "Data"] | Sequence["Data"] | str | float | bool | None
"""What is written; an `int` is a `float` here, as everywhere in Python's types."""

_BARE: Final = re.compile(r"([A-Za-z_/$][\w/.$-]*( [\w/.$-]+)*|\d+[smhdw])\Z", re.ASCII)
"""What cannot be read as anything but a text; anything else is quoted as JSON does, which YAML reads too."""
_WORDS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_WIDEST: Final = 110


def yaml_text(data: Data, *comments: str) -> str:
    """Return `data` as a YAML document, `comments` above it."""
    head = "".join(f"# {line}\n" if line else "#\n" for line in comments)
    return head + "\n".join(_lines(data, "")) + "\n"


def _lines(data: Data, indent: str) -> Iterator[str]:
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from _entry(f"{indent}{_scalar(key)}:", value, indent + "  ")
    elif isinstance(data, Sequence) and data and not isinstance(data, str):
        for item in data:
            yield from _item(item, indent)
    else:
        yield indent + _empty(data)


def _entry(head: str, value: Data, indent: str) -> Iterator[str]:
    if _is_scalar(value):
        yield from _text(head, value, indent)
    elif not value:
        yield f"{head} {_empty(value)}"
    else:
        yield head
        yield from _lines(value, indent)


def _text(head: str, value: Data, indent: str) -> Iterator[str]:
    """Write a long text, or one of several lines, as a block."""
    if isinstance(value, str) and _is_block(value):
        yield f"{head} |-"
        yield from (indent + line if line else "" for line in value.split("\n"))
    else:
        yield f"{head} {_scalar(value)}"


def _is_block(value: str) -> bool:
    is_hard_to_read = len(value) > _WIDEST or "\n" in value or '"' in value
    return is_hard_to_read and value.strip() == value and value.replace("\n", "").isprintable()


def _item(item: Data, indent: str) -> Iterator[str]:
    if _is_scalar(item) or not item:
        yield from _entry(f"{indent}-", item, indent + "  ")
        return
    first, *rest = _lines(item, indent + "  ")
    yield f"{indent}- {first.removeprefix(indent + '  ')}"
    yield from rest


def _empty(data: Data) -> str:
    """Return a value of one word: a scalar, or what holds nothing."""
    if _is_scalar(data):
        return _scalar(data)
    return "{}" if isinstance(data, Mapping) else "[]"


def _is_scalar(data: Data) -> bool:
    return data is None or isinstance(data, str | int | float)


def _scalar(data: object) -> str:
    if isinstance(data, str) and _BARE.match(data) and data.lower() not in _WORDS:
        return data
    return "".join(
        letter if letter.isprintable() else _escaped(ord(letter)) for letter in json.dumps(data, ensure_ascii=False)
    )


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
