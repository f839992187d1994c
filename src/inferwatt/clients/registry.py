"""The registry of models: registry.toml, the user's own rows over it, and which row a name means."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from inferwatt.clients.estimates import Figure, Shape, between
from inferwatt.clients.ours import Coefficients, Fit
from inferwatt.errors import ConfigError

LEAST_SERVED_BITS = 8.0
"""A provider may serve weights in fewer bits than their maker publishes; below 8 it would be another model."""
UNKNOWN_BITS = [8.0, 16.0]
KEYS = frozenset({"active", "total", "bits", "source", "assumed", "aliases", "retired", "maker"})

_PATH = re.compile(r"^.*/")
_FINE_TUNED = re.compile(r"^ft:([^:]+):.*$")
_BEFORE = re.compile(
    r"^(?:(?:global|apac|[a-z]{2}(?:-gov)?)\.)?"
    r"(?:anthropic|meta|mistral|cohere|amazon|deepseek|openai|qwen|google|ai21|minimax|moonshot|zai)\.(?=[a-z])"
    r"|^(?:meta|zai)-(?=[a-z])"
)
"""What Bedrock puts before a model's name (region and maker), and what others do (meta-llama-3, zai-glm-5)."""
_BEHIND = re.compile(
    r"(?::\d+k?|:free|:latest|-v\d+(?::\d+)?|@[\w.-]+"
    r"|-latest|-preview(?:-\d\d-\d\d(?:-\d{4})?)?|-exp(?:-\d\d-\d\d)?|-chat"
    r"|-\d{4}-\d{2}-\d{2}|-20\d{6}|-\d\d-20\d\d|-\d{4}|-00\d"
    r"|-instruct|-thinking|-it|-hf|-fp8|-bf16|-maas)$"
)
"""What is put behind it: versions, channels, dates, and how it was tuned or packed."""
_PUNCTUATION = re.compile(r"[^a-z0-9]|(?<=\d)p(?=\d)")


@dataclass(frozen=True, slots=True)
class Registry:
    """Rows by name and alias, in `plain` spelling, and the row of a model that is in none."""

    shapes: Mapping[str, Shape]
    unknown: Shape

    def find(self, model: str) -> Shape:
        """Return the row of a model by any of its names; the unknown row, under the name asked for, where none fits."""
        for name in spellings(model):
            found = self.shapes.get(plain(name))
            if found is not None:
                return found
        return replace(self.unknown, model=model)

    def key(self, model: str) -> str:
        """Return what all names of one model have in common: its row, else the name without dates and punctuation."""
        found = self.find(model)
        return found.model if found.known else plain(tuple(spellings(model))[-1])


def plain(name: str) -> str:
    """Return a name without punctuation: 3.5, 3-5, 3p5 and 35 are one spelling."""
    return _PUNCTUATION.sub("", name.lower())


def spellings(model: str) -> Iterator[str]:
    """Yield a model's name as it is, then without what is put before and behind it, one piece after another."""
    name = model.strip().lower()
    yield name
    tuned = _FINE_TUNED.match(name)
    name = _BEFORE.sub("", _PATH.sub("", tuned.group(1) if tuned else name))
    while name:
        yield name
        shorter = _BEHIND.sub("", name)
        if shorter == name:
            return
        name = shorter


@cache
def load(own: Path | None = None) -> Registry:
    """Return our registry with the rows of the user's file over it.

    Raises:
        ConfigError: the user's file cannot be read, or a row in it is wrong.
    """
    shipped = _parse((files("inferwatt.clients") / "registry.toml").read_text("utf-8"), "registry.toml")
    shapes, unknown = _shapes(shipped, "registry.toml"), shipped["unknown"]
    if own is not None:
        try:
            text = own.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"cannot read the registry: {exc}", where=own, fix="name a TOML file") from None
        theirs = _parse(text, own.name)
        shapes |= _shapes(theirs, own.name)
        unknown = theirs.get("unknown", unknown)
    return Registry(shapes, replace(_shape("", unknown, "[unknown]"), assumed=True, known=False))


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"is not TOML: {exc}", where=name, fix="write it like registry.toml") from None


def _shapes(tables: Mapping[str, Any], where: str) -> dict[str, Shape]:
    strange = sorted(set(tables) - {"from", "unknown"})
    if strange:
        raise ConfigError(f"{strange[0]} is not a table", where=where, fix="[[from]] with source and [from.models]")
    shapes: dict[str, Shape] = {}
    for group in tables.get("from", ()):
        shared = {key: value for key, value in group.items() if key != "models"}
        for name, row in group.get("models", {}).items():
            shape = _shape(name, {**shared, **row}, f"{where}, {name}")
            for spelled in (name, *row.get("aliases", ())):
                if plain(spelled) in shapes:
                    raise ConfigError(f"{spelled} is there twice", where=where, fix="leave one of the two out")
                shapes[plain(spelled)] = shape
    return shapes


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
    if active.low > total.low or active.high > total.high:
        raise ConfigError("active is more than total", where=where, fix="leave active out where all are active")
    return Shape(
        model=name,
        active_billions=active,
        total_billions=total,
        weight_bits=_bits(row, where),
        source=str(row["source"]),
        assumed=bool(row.get("assumed", False)),
        retired=bool(row.get("retired", False)),
    )


def _bits(row: Mapping[str, Any], where: str) -> Figure:
    """Return the bits that a weight may be served in: as published or fewer, below 8 only where that is published."""
    published = _ends({"bits": UNKNOWN_BITS, **row}, "bits", where)
    return between(min(LEAST_SERVED_BITS, published.low), published.high)


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
