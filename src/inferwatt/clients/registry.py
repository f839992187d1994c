"""The registry of models: registry.toml, the user's own rows over it, and which row a name means."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from inferwatt.clients.estimates import Figure, Shape, between
from inferwatt.clients.ours import Coefficients, Fit
from inferwatt.errors import ConfigError

LEAST_SERVED_BITS = 8.0
"""A provider may serve weights in fewer bits than their maker publishes; below 8 it would be another model."""
UNKNOWN_BITS = (8.0, 16.0)
KEYS = frozenset({"maker", "active", "total", "bits", "source", "assumed", "aliases", "retired"})

_PATH = re.compile(r"^.*/")
_FINE_TUNED = re.compile(r"^ft:([^:]+):.*$")
_BEDROCK = re.compile(
    r"^(?:[a-z-]+\.)?(?:anthropic|meta|mistral|cohere|amazon|deepseek|openai|qwen|google|ai21)\.(?=\S)"
)
_ENDS = re.compile(
    r"(?::\d+k?|-v\d+:\d+|-v\d+|@[\w.-]+|-latest|:latest|-\d{4}-\d{2}-\d{2}|-20\d{6}|-\d{4}|-00\d"
    r"|-preview(?:-\d\d-\d\d(?:-\d{4})?)?|-exp(?:-\d{4})?|:free|-\d\d-20\d\d)$"
)
"""What providers put behind a model's name: versions, dates, channels."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Rows by name and alias, all in lower case, and the row of a model that is in none."""

    shapes: Mapping[str, Shape]
    aliases: Mapping[str, str]
    unknown: Shape

    def find(self, model: str) -> Shape:
        """Return the row of a model by any of its names; the unknown row, under the name asked for, where none fits."""
        for name in spellings(model):
            found = self.shapes.get(self.aliases.get(name, name))
            if found is not None:
                return found
        row = self.unknown
        return Shape(
            model, row.active_billions, row.total_billions, row.weight_bits, row.source, assumed=True, known=False
        )


def spellings(model: str) -> Iterator[str]:
    """Yield a model's name as it is, then without what providers put before and behind it, one piece after another."""
    name = model.strip().lower()
    yield name
    tuned = _FINE_TUNED.match(name)
    name = tuned.group(1) if tuned else name
    name = _BEDROCK.sub("", _PATH.sub("", name))
    while name:
        yield name
        shorter = _ENDS.sub("", name)
        if shorter == name:
            return
        name = shorter


@cache
def load(own: Path | None = None) -> Registry:
    """Return our registry with the rows of the user's file over it.

    Raises:
        ConfigError: the user's file cannot be read, or a row in it is wrong.
    """
    tables = _parse((files("inferwatt.clients") / "registry.toml").read_text("utf-8"), "registry.toml")
    if own is not None:
        try:
            text = own.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"cannot read the registry: {exc}", where=own, fix="name a TOML file") from None
        theirs = _parse(text, own.name)
        tables = {
            "unknown": theirs.get("unknown", tables["unknown"]),
            "model": {**tables["model"], **theirs.get("model", {})},
        }
    return _registry(tables, "registry.toml" if own is None else own.name)


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"is not TOML: {exc}", where=name, fix="write it like registry.toml") from None


def _registry(tables: Mapping[str, Any], where: str) -> Registry:
    shapes = {name.lower(): _shape(name, row, f"{where} [model.{name}]") for name, row in tables["model"].items()}
    aliases = {alias.lower(): name.lower() for name, row in tables["model"].items() for alias in row.get("aliases", ())}
    return Registry(shapes, aliases, _shape("", tables["unknown"], f"{where} [unknown]"))


def _shape(name: str, row: Mapping[str, Any], where: str) -> Shape:
    strange = sorted(set(row) - KEYS)
    if strange:
        raise ConfigError(f"{strange[0]} is not a key", where=where, fix=f"one of {', '.join(sorted(KEYS))}")
    if not row.get("source"):
        raise ConfigError(
            "source is missing: a figure needs to say where it is from", where=where, fix='source = "..."'
        )
    total = _ends(row, "total", where)
    active = _ends(row, "active", where) if "active" in row else total
    bits = row.get("bits", UNKNOWN_BITS)
    low, high = (min(LEAST_SERVED_BITS, bits), bits) if isinstance(bits, int | float) else bits
    return Shape(
        model=name,
        active_billions=active,
        total_billions=total,
        weight_bits=between(float(low), float(high)),
        source=str(row["source"]),
        assumed=bool(row.get("assumed", False)),
        retired=bool(row.get("retired", False)),
    )


def _ends(row: Mapping[str, Any], key: str, where: str) -> Figure:
    given = row.get(key)
    ends: list[Any] = given if isinstance(given, list) else [given, given]
    if len(ends) != 2 or not _are_positive(ends) or ends[0] > ends[1]:
        raise ConfigError(f"{key} is {given}", where=where, fix=f"{key} = 70.0, or {key} = [low, high]")
    return between(float(ends[0]), float(ends[1]))


def _are_positive(values: Iterable[object]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < 1e6 for v in values)


@cache
def coefficients() -> Coefficients:
    """Return the coefficients that the package ships."""
    read = tomllib.loads((files("inferwatt.clients") / "coefficients.toml").read_text("utf-8"))
    return Coefficients(
        publication=read["data"]["publication"],
        fitted=read["data"]["fitted"],
        fits={name: Fit(name, **values) for name, values in read["fit"].items()},
        ranges={name: (low, high) for name, (low, high) in read["ranges"].items()},
        watts=read["visible"]["watts"],
        visible_low_log=read["visible"]["low_log"],
        visible_high_log=read["visible"]["high_log"],
    )
