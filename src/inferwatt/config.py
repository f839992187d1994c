"""One configuration from file, environment and flags; each room owns its section, the caller composes the schema.

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        web: WebConfig = WebConfig()

    loaded = load(Settings, file=Path("inferwatt.toml"), environ=os.environ, flags={"web.listen": listen})

A flag stands over the environment (`INFERWATT_WEB__LISTEN`), that over the file, that over the section's default.
Whatever is wrong stops the start with the place, the key, the value and what it may be; secrets are never shown.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any, Generic, TypeVar

import msgspec
import msgspec.inspect as types

from inferwatt.config_schema import (
    Sequence,
    allowed,
    child,
    choices,
    first_problem,
    is_secret,
    keys,
    nearest,
    spell,
)
from inferwatt.config_show import render
from inferwatt.config_text import Path, Text, parse
from inferwatt.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)

PREFIX = "INFERWATT_"
SEPARATOR = "__"
LARGEST_FILE_BYTES = 1 << 20
ALL_KEYS = "all keys: inferwatt config --defaults"
DEFAULT = "default"

_PART = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """The configuration in force, and where each value of it came from."""

    value: T
    origins: Mapping[Path, str]

    def origin(self, path: str) -> str:
        """Say where `path` (`web.listen`) came from: `inferwatt.toml line 12`, `flag --listen`, or `default`."""
        return self.origin_of(tuple(int(place) if place else name for place, name in _PART.findall(path)))

    def origin_of(self, path: Path) -> str:
        """Say the same of a path in parts; what holds it answers for what came with it."""
        return _origin(self.origins, path)


def _origin(origins: Mapping[Path, str], path: Path) -> str:
    return next((origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in origins), DEFAULT)


def load(
    schema: type[T],
    *,
    file: File | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    flag_names: Mapping[str, str] | None = None,
) -> Loaded[T]:
    """Merge file, environment and flags into `schema`.

    Args:
        schema: the root struct; its fields are sections, everything has a default.
        file: a TOML file that must be there; None where there is none.
        environ: the environment; only `INFERWATT_SECTION__KEY` is read.
        flags: values by path (`web.listen`), as text or as they are; None is a flag that was not given.
        flag_names: what a flag is called where it is not `--` and the last part of its path.

    Raises:
        ConfigError: the file cannot be read, or anything in it, the environment or the flags is wrong.
    """
    root = types.type_info(schema)
    values, origins = _from_file(root, file) if file is not None else ({}, {})
    for name, path in _variables(root, environ or {}):
        origin = f"environment {name}"
        _put(root, values, path, (environ or {})[name], origin)
        _claim(origins, path, origin)
    for spelled, given in (flags or {}).items():
        if given is not None:
            path = tuple(spelled.split("."))
            origin = f"flag {(flag_names or {}).get(spelled) or _flag(spelled)}"
            _put(root, values, path, given, origin)
            _claim(origins, path, origin)
    return Loaded(_convert(values, schema, root, origins), origins)


def _flag(spelled: str) -> str:
    return "--" + spelled.rpartition(".")[2].replace("_", "-")


def _claim(origins: dict[Path, str], path: Path, origin: str) -> None:
    """Note that `path` and all within it now come from `origin`."""
    for inside in [known for known in origins if known[: len(path)] == path]:
        del origins[inside]
    origins[path] = origin


def _from_file(root: types.Type, file: File) -> tuple[dict[str, Any], dict[Path, str]]:
    text = parse(_read(file), file.name)
    problem = first_problem(text.values, root)
    if problem is not None:
        raise ConfigError(
            f"{spell(problem.path)} {problem.what}", where=_place(text, file.name, problem.path), fix=ALL_KEYS
        )
    return text.values, {path: f"{file.name} line {text.lines[path]}" for path in text.given}


def _read(file: File) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        fix = "name a file that can be read, or leave --config out"
        raise ConfigError(f"cannot read the configuration: {error.strerror}", where=file, fix=fix) from None
    if len(content) > LARGEST_FILE_BYTES:
        what = f"the configuration is larger than {LARGEST_FILE_BYTES} bytes"
        raise ConfigError(what, where=file, fix="name a file in TOML")
    return content


def _place(text: Text, name: str, path: Path) -> str:
    line = text.line(path)
    return name if line is None else f"{name} line {line}"


def _variables(root: types.Type, environ: Mapping[str, str]) -> list[tuple[str, Path]]:
    """Return the variables that are settings. Those without `__` are others' business (INFERWATT_SOCKET)."""
    found: list[tuple[str, Path]] = []
    for name in sorted(environ):
        path = tuple(name.removeprefix(PREFIX).lower().split(SEPARATOR))
        is_plain_key = len(path) == 1 and path[0] in keys(root) and not keys(keys(root)[path[0]])
        if name.startswith(PREFIX) and (len(path) > 1 or is_plain_key):
            found.append((name, path))
    return found


def _put(root: types.Type, values: dict[str, Any], path: Path, given: object, origin: str) -> None:
    """Check one value from outside the file and set it in `values`."""
    kind: types.Type = root
    for end, part in enumerate(path, start=1):
        inside = child(kind, part)
        if inside is None:
            hint = nearest(str(part), keys(kind), path[: end - 1])
            raise ConfigError(f"{spell(path[:end])} is not a key. {hint}", where=origin, fix=ALL_KEYS)
        kind = inside
    value = _from_text(given, kind) if isinstance(given, str) else given
    problem = first_problem(value, kind, path)
    if problem is not None:
        raise ConfigError(f"{spell(problem.path)} {problem.what}", where=origin, fix=ALL_KEYS)
    for part in path[:-1]:
        values = values.setdefault(str(part), {})
    values[str(path[-1])] = value


def _from_text(text: str, kind: types.Type) -> object:
    """Read text as the type asks; what cannot be read so stays text, and is refused with the value shown."""
    for choice in choices(kind):
        if isinstance(choice, types.StrType | types.EnumType | types.LiteralType):
            return text
        if isinstance(choice, types.NoneType) and not text:
            return None
        if isinstance(choice, Sequence) and not text.lstrip().startswith("["):
            return [_from_text(item.strip(), choice.item_type) for item in text.split(",") if item.strip()]
    return _toml_value(text)


def _toml_value(text: str) -> object:
    try:
        read = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return read["value"] if len(read) == 1 else text


def _convert(values: dict[str, Any], schema: type[T], root: types.Type, origins: Mapping[Path, str]) -> T:
    """Let msgspec and the sections' own checks have the last word.

    Raises:
        ConfigError: a section's `__post_init__` refuses its values.
    """
    try:
        return msgspec.convert(values, schema)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `$")
        path: Path = tuple(int(place) if place else name for place, name in _PART.findall(at.rstrip("`")))
        first_word = message.partition(" ")[0]
        section = _kind_at(root, path)
        if first_word in keys(section):
            path = (*path, first_word)
        what = f"{spell(path)}: {message}"
        if is_secret(path):
            what = f"{spell(path)} is not allowed, must be {allowed(_kind_at(root, path), path)}"
        raise ConfigError(what, where=_origin(origins, path), fix=ALL_KEYS) from None


def _kind_at(root: types.Type, path: Path) -> types.Type:
    kind = root
    for part in path:
        kind = child(kind, part) or types.AnyType()
    return kind


def render_effective(loaded: Loaded[Any]) -> str:
    """Return the values in force in TOML's form, each with where it came from; secrets are hidden."""
    root = types.type_info(type(loaded.value))
    return render(msgspec.to_builtins(loaded.value), root, lambda path, _kind: loaded.origin_of(path))


def render_defaults(schema: type[msgspec.Struct]) -> str:
    """Return a file with every key at its default and what it may be; loading it changes nothing."""
    return render(msgspec.to_builtins(schema()), types.type_info(schema), lambda path, kind: allowed(kind, path))
