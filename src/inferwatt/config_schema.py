"""What a configuration may say: values checked against the types of the sections, in words for a user.

Sections are `msgspec.Struct` classes beside their room. msgspec checks types and bounds, but lets NaN pass, knows
no units and says neither key nor value; so the walk is ours, and msgspec has the last word.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from itertools import chain
from typing import Any, Final

import msgspec.inspect as types
from msgspec.json import encode

from inferwatt.config_text import Path

SECRETS: Final = ("token", "key", "password", "secret")
"""A key that is one of these words or ends with one is never shown."""
UNITS: Final = {
    "seconds": "seconds",
    "ms": "milliseconds",
    "hours": "hours",
    "days": "days",
    "hz": "times per second (Hz)",
    "watts": "watts",
    "joules": "joules",
    "grams": "grams",
    "liters": "liters",
    "bytes": "bytes",
    "mb": "megabytes",
    "tokens": "tokens",
    "rows": "rows",
    "ratio": "1 (a ratio)",
}
"""The last word of a key, and the unit that it means; none of them can be negative."""
LARGEST_INTEGER: Final = 2**63 - 1
Sequence = types.ListType | types.VarTupleType | types.SetType | types.FrozenSetType
Number = types.IntType | types.FloatType


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong: where, and what, in words that end a sentence."""

    path: Path
    what: str


def spell(path: Path) -> str:
    """Return a path as a user writes it: `engines.server[0].url`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def is_secret(path: Path) -> bool:
    """Say whether the value at `path` must not be shown."""
    name = str(next((part for part in reversed(path) if isinstance(part, str)), ""))
    return name.rpartition("_")[2] in SECRETS


def show(value: object, path: Path, longest: int = 60) -> str:
    """Return a value in TOML's form, cut to `longest` characters; a secret only as that there is one."""
    if is_secret(path):
        return '"***"' if value else '""'
    text = literal(value)
    return text if len(text) <= longest else f"{text[:longest]}…"


def literal(value: object) -> str:
    """Return a value in TOML's form; passwords inside addresses are left out."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return literal(value.value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(str(key))} = {show(item, (key,))}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    return repr(value) if isinstance(value, int | float) else str(value)


def _quoted(text: str) -> str:
    scheme, mark, rest = text.partition("://")
    user, at, host = rest.partition("@")
    if mark and at and "/" not in user:
        text = f"{scheme}://***@{host}"
    clean = text.encode("utf-8", "replace").decode()
    return encode(clean).decode().replace("\x7f", "\\u007f")


def keys(kind: types.Type) -> dict[str, types.Type]:
    """Return the keys of a section and their types; none for a plain value."""
    if isinstance(kind, types.StructType):
        return {field.encode_name: field.type for field in kind.fields}
    return {}


def choices(kind: types.Type) -> tuple[types.Type, ...]:
    """Return the types that a value may have; one, but for a union."""
    return tuple(kind.types) if isinstance(kind, types.UnionType) else (kind,)


def child(kind: types.Type, part: str | int) -> types.Type | None:
    """Return the type of one key or place within `kind`, None where there is none."""
    for choice in choices(kind):
        if isinstance(choice, types.StructType) and part in keys(choice):
            return keys(choice)[str(part)]
        if isinstance(choice, types.DictType) and isinstance(part, str):
            return choice.value_type
        if isinstance(choice, Sequence) and isinstance(part, int):
            return choice.item_type
    return None


def first_problem(value: object, kind: types.Type, path: Path = ()) -> Problem | None:
    """Return the first thing in `value` that `kind` does not allow."""
    return next(_problems(value, kind, path), None)


def _problems(value: object, kind: types.Type, path: Path) -> Iterator[Problem]:
    fitting = [choice for choice in choices(kind) if _fits(value, choice)]
    if not fitting:
        yield Problem(path, f"is {show(value, path)}, must be {allowed(kind, path)}")
        return
    choice = fitting[0]
    if isinstance(choice, Number) and isinstance(value, int | float):
        yield from _number(value, choice, path)
    elif isinstance(value, dict):
        yield from _table(value, choice, path)
    elif isinstance(value, list | tuple) and isinstance(choice, Sequence):
        yield from chain.from_iterable(
            _problems(item, choice.item_type, (*path, place)) for place, item in enumerate(value)
        )


def _fits(value: object, kind: types.Type) -> bool:
    """Say whether the value is of the kind at all; bounds and members come later."""
    if isinstance(value, bool):
        return isinstance(kind, types.BoolType | types.AnyType)
    if isinstance(kind, types.EnumType):
        return value in {member.value for member in kind.cls}
    if isinstance(kind, types.LiteralType):
        return value in kind.values
    forms: tuple[tuple[type[Any] | Any, type[Any] | Any], ...] = (
        (types.FloatType, int | float),
        (types.IntType, int),
        (types.StrType, str),
        (Sequence, list | tuple),
        (types.StructType | types.DictType, dict),
        (types.NoneType, type(None)),
        (types.AnyType, object),
    )
    return any(isinstance(kind, form) and isinstance(value, python) for form, python in forms)


def _number(value: float, kind: Number, path: Path) -> Iterator[Problem]:
    low, high = bounds(kind, path)
    too_large = isinstance(value, int) and abs(value) > LARGEST_INTEGER
    outside = not (low is None or value >= low) or not (high is None or value <= high)
    open_ends = (kind.gt is not None and value <= kind.gt) or (kind.lt is not None and value >= kind.lt)
    if too_large or outside or open_ends or not math.isfinite(value):
        yield Problem(path, f"is {show(value, path)}, must be {allowed(kind, path)}")


def bounds(kind: Number, path: Path) -> tuple[float | None, float | None]:
    """Return the least and the greatest value; a quantity with a unit is never negative, a ratio never above 1."""
    low, high = kind.ge, kind.le
    unit = _unit(path)
    if unit and low is None and kind.gt is None:
        low = 0
    if unit == "ratio" and high is None and kind.lt is None:
        high = 1
    return low, high


def _unit(path: Path) -> str:
    name = str(next((part for part in reversed(path) if isinstance(part, str)), ""))
    word = name.rpartition("_")[2]
    return word if word in UNITS else ""


def _table(value: dict[str, object], kind: types.Type, path: Path) -> Iterator[Problem]:
    for key, item in value.items():
        inside = child(kind, key)
        if inside is None:
            yield Problem((*path, key), f"is not a key. {nearest(key, keys(kind), path)}")
        else:
            yield from _problems(item, inside, (*path, key))
    if isinstance(kind, types.StructType):
        missing = [field.encode_name for field in kind.fields if field.required and field.encode_name not in value]
        yield from (Problem((*path, key), f"is missing, must be {allowed(keys(kind)[key], (key,))}") for key in missing)


def nearest(key: str, known: dict[str, types.Type], path: Path) -> str:
    """Return what the user may have meant by a key that is not there."""
    close = get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Keys of [{spell(path)}]: {', '.join(known)}" if path else f"Sections: {', '.join(known)}"


def allowed(kind: types.Type, path: Path) -> str:
    """Return in words what a value may be."""
    return " or ".join(dict.fromkeys(_allowed(choice, path) for choice in choices(kind)))


def _allowed(kind: types.Type, path: Path) -> str:
    if isinstance(kind, Number):
        return _allowed_number(kind, path)
    if isinstance(kind, types.EnumType | types.LiteralType):
        values = [member.value for member in kind.cls] if isinstance(kind, types.EnumType) else kind.values
        return f"one of {', '.join(map(literal, values))}"
    if isinstance(kind, Sequence):
        return f"a list, each item {allowed(kind.item_type, path)}"
    words: tuple[tuple[type[types.Type], str], ...] = (
        (types.BoolType, "true or false"),
        (types.StrType, "text in quotes"),
        (types.StructType, f"a table with the keys {', '.join(keys(kind))}"),
        (types.DictType, "a table"),
        (types.NoneType, "left out"),
    )
    return next((word for form, word in words if isinstance(kind, form)), "a value")


def _allowed_number(kind: Number, path: Path) -> str:
    unit = UNITS.get(_unit(path), "")
    word = "a whole number" if isinstance(kind, types.IntType) else "a number"
    low, high = bounds(kind, path)
    ends = [
        f"at least {low:g}" if low is not None else "",
        f"above {kind.gt:g}" if kind.gt is not None else "",
        f"at most {high:g}" if high is not None else "",
        f"below {kind.lt:g}" if kind.lt is not None else "",
    ]
    limits = " and ".join(end for end in ends if end)
    of = f" of {unit}" if unit and unit[0] != "1" else ""
    return f"{word}{of}{', ' if limits else ''}{limits}"
