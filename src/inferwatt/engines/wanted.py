"""Which series of a page are meant: a metric's name, and the values that a label of it must or must not have. Pure.

    sglang:num_running_reqs{priority=,tp_rank=0}

A server that has no such label means all of its series: labels come and go with versions, and a name that stands
without them has always stood for the whole.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from inferwatt.engines.pages import Page, Sample, spellings

_SPELLED = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^{}]*)\})?")
_LABEL = re.compile(r"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(!?=)\s*\"?([^\",]*)\"?\s*")
HISTOGRAM_PARTS = ("_bucket", "_sum")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A metric's name, and for each label (its name, whether it must equal, the value)."""

    name: str
    labels: tuple[tuple[str, bool, str], ...] = ()

    def means(self, sample: Sample) -> bool:
        """Return whether a series of this name is meant."""
        have = dict(sample.labels) if self.labels else {}
        return all((have[label] == value) is equal for label, equal, value in self.labels if label in have)


@cache
def wanted(spelled: str) -> Wanted:
    """Read `name` or `name{label=value,other!=value}`.

    Raises:
        ValueError: it is spelled otherwise.
    """
    match = _SPELLED.fullmatch(spelled.strip())
    if match is None:
        raise ValueError(f"{spelled!r} is not a metric's name")
    labels = []
    for part in filter(str.strip, (match.group(2) or "").split(",")):
        label = _LABEL.fullmatch(part)
        if label is None:
            raise ValueError(f"{part!r} is no label=value")
        labels.append((label.group(1), label.group(2) == "=", label.group(3)))
    return Wanted(match.group(1), tuple(labels))


def names_of(candidates: Iterable[str]) -> tuple[str, ...]:
    """Return the bare names of candidates."""
    return tuple(dict.fromkeys(wanted(spelled).name for spelled in candidates))


def histogram_names(candidates: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the samples that the histograms so called consist of."""
    return tuple(name + part for name in names_of(candidates) for part in HISTOGRAM_PARTS)


def picked(page: Page, candidates: Iterable[str], suffix: str = "") -> tuple[Sample, ...]:
    """Return the series of the first candidate that the page has under any of its spellings.

    Args:
        page: the page.
        candidates: metrics as servers.toml spells them.
        suffix: the part of a histogram that is asked for.
    """
    for candidate in candidates:
        want = wanted(candidate)
        for spelling in spellings(want.name + suffix):
            found = tuple(sample for sample in page.samples if sample.name == spelling and want.means(sample))
            if found:
                return found
    return ()
