"""A configuration as TOML with a comment beside each value: what is in force, or what could be."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec.inspect as types

from inferwatt.config_schema import Sequence, choices, keys, show, spell
from inferwatt.config_text import Path

Comment = Callable[[Path, types.Type], str]
LONGEST_VALUE = 10_000


def render(values: Mapping[str, Any], root: types.Type, comment: Comment) -> str:
    """Return `values` (builtins, complete) section by section, with `comment(path, type)` beside each."""
    return "\n".join(_section(values, root, (), "", comment)).lstrip("\n") + "\n"


def _section(values: Mapping[str, Any], kind: types.Type, path: Path, header: str, comment: Comment) -> Iterator[str]:
    plain: list[tuple[str, str]] = []
    later: list[Iterator[str]] = []
    for key, inside in _members(values, kind):
        below = (*path, key)
        value = values[key]
        table = _table_type(inside)
        entry = _entry_type(inside)
        if table is not None and isinstance(value, dict):
            later.append(_section(value, table, below, f"[{spell(below)}]", comment))
        elif entry is not None and value:
            later += [
                _section(item, entry, (*below, place), f"[[{spell(below)}]]", comment)
                for place, item in enumerate(value)
            ]
        elif entry is not None:
            later.append(_example(entry, below, comment))
        else:
            line = f"# {key} =" if value is None else f"{key} = {show(value, below, LONGEST_VALUE)}"
            plain.append((line, comment(below, inside)))
    if header:
        yield from ("", header)
    yield from _aligned(plain)
    for section in later:
        yield from section


def _members(values: Mapping[str, Any], kind: types.Type) -> Iterator[tuple[str, types.Type]]:
    if isinstance(kind, types.DictType):
        yield from ((key, kind.value_type) for key in values)
    yield from keys(kind).items()


def _table_type(kind: types.Type) -> types.Type | None:
    """Return the type of a value that is shown as a section of its own."""
    for choice in choices(kind):
        if isinstance(choice, types.StructType):
            return choice
        if isinstance(choice, types.DictType) and isinstance(choice.value_type, types.StructType):
            return choice
    return None


def _entry_type(kind: types.Type) -> types.Type | None:
    """Return the type of the items of a list of tables."""
    items = [choice.item_type for choice in choices(kind) if isinstance(choice, Sequence)]
    return next((item for item in items if isinstance(item, types.StructType)), None)


def _example(entry: types.Type, path: Path, comment: Comment) -> Iterator[str]:
    """Show how a first item would look; as a comment, for it is not there."""
    yield from ("", f"# [[{spell(path)}]]")
    lines = [(f"# {key} =", comment((*path, 0, key), kind)) for key, kind in keys(entry).items()]
    yield from _aligned(lines)


def _aligned(lines: list[tuple[str, str]]) -> list[str]:
    width = max((len(line) for line, _ in lines), default=0)
    return [f"{line:<{min(width, 48)}}  # {words}" for line, words in lines]
