"""The exporters whose joules can be read, as data: what exporters.toml says of each; that file's head explains it."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files

import msgspec

from inferwatt.engines.pages import spellings
from inferwatt.records import Component


class Unit(StrEnum):
    """What a figure counts or measures."""

    JOULE = "joule"
    MILLIJOULE = "millijoule"
    MICROJOULE = "microjoule"
    WATT = "watt"
    MILLIWATT = "milliwatt"

    @property
    def is_energy(self) -> bool:
        """Tell a counter of energy from a power."""
        return self.value.endswith("joule")

    @property
    def exponent(self) -> int:
        """Return the power of ten that makes it microjoules, or milliwatts."""
        return {"joule": 6, "millijoule": 3, "microjoule": 0, "watt": 3, "milliwatt": 0}[self.value]


class Word(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A word in the first of `labels` that is there: the group of `pattern`, written as `form`."""

    labels: tuple[str, ...]
    pattern: str = "(.+)"
    form: str = "{}"


class Sum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows that are parts of one figure: one for each of `values` of `label`."""

    label: str
    values: tuple[str, ...]


class Info(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A series whose labels say more of the others that have the same values of the labels `on`."""

    metric: str
    on: tuple[str, ...]


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way in which a page tells what a device uses."""

    metrics: tuple[str, ...]
    unit: Unit
    unknown: tuple[float, ...] = ()
    summed: Sum | None = None
    superchip: str = ""


class DeviceRows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Devices of one sort on a page: what they are, how they are told apart, and their figures, best first."""

    device: str
    component: Component
    domain: str
    figures: tuple[Figure, ...]
    systematic_ratio: float
    vendor: str = ""
    where: dict[str, str] = {}
    number: str | Word = ""
    uuid: str | Word = ""
    model: str | Word = ""
    only_one: bool = False
    rapl: bool = False
    wraps: bool = False


class Exporter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of exporters.toml."""

    title: str
    tried: str
    period_seconds: float
    nothing: str
    better: str
    device: tuple[DeviceRows, ...]
    json: bool = False
    hosts: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()
    infos: tuple[Info, ...] = ()

    @property
    def figures(self) -> tuple[str, ...]:
        """Return every metric of joules or watts."""
        return tuple(name for rows in self.device for figure in rows.figures for name in figure.metrics)

    @property
    def names(self) -> tuple[str, ...]:
        """Return every metric that is wanted from its page."""
        return (*self.figures, *(info.metric for info in self.infos))


@cache
def exporters() -> Mapping[str, Exporter]:
    """Return the exporters of exporters.toml by kind."""
    text = files("inferwatt.sources").joinpath("exporters.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Exporter])


def recognised(names: Iterable[str]) -> str | None:
    """Return the kind of exporter whose page has these metrics: by its joules or watts, else by its signs."""
    seen = frozenset(names)
    for told in ("figures", "signs"):
        for kind, exporter in exporters().items():
            if any(spelling in seen for name in getattr(exporter, told) for spelling in spellings(name)):
                return kind
    return None


def word(where: str | Word, labels: Mapping[str, str]) -> str:
    """Return the word that `where` tells of in a series' labels, empty where it is not there."""
    wanted = Word((where,)) if isinstance(where, str) else where
    text = next((labels[label] for label in wanted.labels if labels.get(label)), "")
    match = re.search(wanted.pattern, text)
    return wanted.form.format(match[1]) if match else ""


def matches(patterns: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether each label that has a pattern matches it."""
    return all(re.search(pattern, labels.get(label, "")) for label, pattern in patterns.items())
