"""Write a snapshot as a Prometheus page: text 0.0.4, or OpenMetrics 1.0 with exemplars. Pure.

Written by hand because it runs beside a sampler that must not wait for it: what does not change between two
scrapes (names, labels, bounds) is kept as strings, so that a scrape only formats numbers. Energies are printed
from whole microjoules, to the last one, however large they have grown.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from inferwatt.export.catalog import CATALOG, Kind, Metric
from inferwatt.export.places import placed, places_of
from inferwatt.snapshot import Exemplar, HistogramValue, Labels, Snapshot

TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
EXEMPLAR_CHARACTERS: Final = 128
"""OpenMetrics 1.0: names and values of an exemplar's labels together; a scrape with more of them is refused."""
CACHED_SERIES: Final = 50_000
"""Label strings kept, about 200 bytes each; beyond it all are made anew."""

_NOT_FINITE: Final = frozenset({"nan", "inf", "-inf"})
_LABEL_ESCAPES: Final = dict.fromkeys([*range(32), 127, *range(0xD800, 0xE000)], "\N{REPLACEMENT CHARACTER}") | {
    ord("\n"): r"\n",
    ord("\\"): r"\\",
    ord('"'): r"\"",
}
"""Names come from servers and users: control characters and lone surrogates could end a line or the encoding."""
_EXEMPLAR_ESCAPES: Final = dict.fromkeys([*range(32), 127, *map(ord, '\\"{}#'), *range(0xD800, 0xE000)], "_")
"""Ids come from clients, and the parsers differ in what they take inside an exemplar's quotes."""
_PLAIN_ID: Final = re.compile(r"[\w.:/-]*", re.ASCII)
_VERSIONS: Final = frozenset({"", "1.0.0", "0.0.1"})


class _Series(NamedTuple):
    """What stays of a histogram: the beginnings of its lines, each bucket's exemplar, and the ends that these make."""

    prefixes: tuple[str, ...]
    exemplars: list[Exemplar | None]
    ends: list[str]


class _Prefixes:
    """The part of each line that stays from scrape to scrape, for each family and its labels."""

    def __init__(self) -> None:
        self._plain: dict[str, dict[Labels, str]] = {}
        self._buckets: dict[str, dict[Labels, _Series]] = {}
        self._left = CACHED_SERIES

    def plain(self, metric: Metric) -> dict[Labels, str]:
        return self._plain.setdefault(metric.name, {})

    def buckets(self, metric: Metric) -> dict[Labels, _Series]:
        return self._buckets.setdefault(metric.name, {})

    def spend(self, strings: int) -> None:
        """Count `strings` new ones; forget all when there are too many (pages in progress keep their own)."""
        self._left -= strings
        if self._left < 0:
            self._plain, self._buckets, self._left = {}, {}, CACHED_SERIES


_PREFIXES: Final = _Prefixes()


def render(
    snapshot: Snapshot,
    *,
    openmetrics: bool,
    details: bool = True,
    process: Mapping[str, float] | None = None,
) -> bytes:
    """Return the page of `snapshot`: a family without series is absent, a number that is not finite too.

    Args:
        snapshot: what to show; its families are looked up in the catalogue.
        openmetrics: OpenMetrics 1.0 with units and exemplars; else text 0.0.4.
        details: False leaves out what names a person or a request: families by tenant, and exemplars.
        process: the `process_*` families of this process (export/process.py), none where they are not known.
    """
    lines: list[str] = []
    places = places_of(snapshot)
    for metric in CATALOG.values():
        if not details and "tenant" in metric.labels:
            continue
        if metric.kind is Kind.HISTOGRAM:
            histograms = placed(metric, snapshot.histograms.get(metric.name, {}), places)
            samples = _histogram(*histograms, exemplars=openmetrics and details)
        else:
            samples = _plain(*placed(metric, _series(metric, snapshot, process or {}), places))
        if samples:
            lines += _head(metric, openmetrics=openmetrics)
            lines += samples
    lines.append("# EOF\n" if openmetrics else "")
    return "\n".join(lines).encode("utf-8", "replace")


def _series(metric: Metric, snapshot: Snapshot, process: Mapping[str, float]) -> Mapping[Labels, float]:
    if metric.name in process:
        return {(): process[metric.name]}
    return snapshot.values.get(metric.name, {})


def _head(metric: Metric, *, openmetrics: bool) -> list[str]:
    text = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    if not openmetrics:
        kind = Kind.GAUGE if metric.kind is Kind.INFO else metric.kind
        return [f"# HELP {metric.name} {text}", f"# TYPE {metric.name} {kind}"]
    text = text.replace('"', r"\"")
    unit = [f"# UNIT {metric.family} {metric.unit}"] if metric.unit else []
    return [f"# TYPE {metric.family} {metric.kind}", *unit, f"# HELP {metric.family} {text}"]


def _plain(metric: Metric, series: Mapping[Labels, float]) -> list[str]:
    prefixes = _PREFIXES.plain(metric)
    number = _decimal(metric.decimals) if metric.decimals else _number
    lines = []
    for labels, value in series.items():
        text = number(value)
        if text in _NOT_FINITE:
            continue
        prefix = prefixes.get(labels)
        if prefix is None:
            prefix = prefixes[labels] = f"{metric.name}{_braces(metric.labels, labels)} "
            _PREFIXES.spend(1)
        lines.append(prefix + text)
    return lines


def _histogram(metric: Metric, series: Mapping[Labels, HistogramValue], *, exemplars: bool) -> list[str]:
    cache = _PREFIXES.buckets(metric)
    lines: list[str] = []
    for labels, histogram in series.items():
        kept = cache.get(labels)
        if kept is None:
            prefixes = _bucket_prefixes(metric, labels)
            places = len(prefixes) - 2
            kept = cache[labels] = _Series(prefixes, [None] * places, [""] * places)
            _PREFIXES.spend(2 * len(kept.prefixes))
        cumulative = list(accumulate(histogram.counts))
        heads = kept.prefixes[:-2]
        if exemplars:
            _renew(kept, histogram.exemplars)
            ends = kept.ends
            lines += [f"{head}{count}{end}" for head, count, end in zip(heads, cumulative, ends, strict=True)]
        else:
            lines += [f"{head}{count}" for head, count in zip(heads, cumulative, strict=True)]
        lines.append(kept.prefixes[-2] + _number(histogram.sum))
        lines.append(f"{kept.prefixes[-1]}{cumulative[-1]}")
    return lines


def _renew(kept: _Series, exemplars: Mapping[int, Exemplar]) -> None:
    """Bring the ends of the lines up to date; few exemplars are new since the scrape before."""
    known = kept.exemplars
    for bucket, exemplar in exemplars.items():
        if known[bucket] is not exemplar:
            known[bucket] = exemplar
            kept.ends[bucket] = _exemplar(exemplar)
    if len(exemplars) < len(known):
        for bucket, old in enumerate(known):
            if old is not None and bucket not in exemplars:
                known[bucket], kept.ends[bucket] = None, ""


def _bucket_prefixes(metric: Metric, labels: Labels) -> tuple[str, ...]:
    """Return the beginnings of the buckets' lines, then of the sum's and of the count's."""
    braces = _braces(metric.labels, labels)
    head = f"{metric.name}_bucket{braces[:-1]}," if labels else f"{metric.name}_bucket{{"
    bounds = (*(repr(float(bound)) for bound in metric.buckets), "+Inf")
    return (
        *(f'{head}le="{bound}"}} ' for bound in bounds),
        f"{metric.name}_sum{braces} ",
        f"{metric.name}_count{braces} ",
    )


def _braces(names: Sequence[str], values: Iterable[str]) -> str:
    pairs = ",".join(f'{name}="{escape(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def escape(value: str) -> str:
    """Return `value` as it may stand between the quotes of a label."""
    return value.translate(_LABEL_ESCAPES)


def _exemplar(exemplar: Exemplar) -> str:
    """Return the exemplar with both ids: the trace is kept whole, a long request id is cut; nothing without an id."""
    left = EXEMPLAR_CHARACTERS
    pairs: list[str] = []
    for name, value in (("trace_id", exemplar.trace_id), ("request_id", exemplar.request_id)):
        kept = value[: max(left - len(name), 0)]
        if kept:
            pairs.insert(0, f'{name}="{_id(kept)}"')
            left -= len(name) + len(kept)
    if not pairs:
        return ""
    return f" # {{{','.join(pairs)}}} {_number(exemplar.value)} {exemplar.unix_seconds:.3f}"


def _id(value: str) -> str:
    return value if _PLAIN_ID.fullmatch(value) else value.translate(_EXEMPLAR_ESCAPES)


def _number(value: float) -> str:
    return float.__repr__(value) if isinstance(value, float) else str(int(value))


def _decimal(decimals: int) -> Callable[[float], str]:
    """Return what prints whole numbers with the point moved left by `decimals`, exactly."""
    divisor = 10.0**decimals

    def text(value: float) -> str:
        if isinstance(value, float):
            return float.__repr__(value / divisor)
        digits = str(value)
        if len(digits) <= decimals or value < 0:
            digits = f"{value:0{decimals + 1 + (value < 0)}d}"
        return f"{digits[:-decimals]}.{digits[-decimals:]}"

    return text


def negotiate(accept: str) -> tuple[bool, str]:
    """Return (OpenMetrics?, content type) for an `Accept` header: OpenMetrics only where it is asked for by name."""
    openmetrics_q, openmetrics_type, text_q = 0.0, OPENMETRICS_TYPE, 0.0
    for media, parameters in _ranges(accept):
        quality = _quality(parameters.get("q", "1"))
        if media == "application/openmetrics-text" and parameters.get("version", "") in _VERSIONS:
            if quality > openmetrics_q:
                version = parameters.get("version") or "1.0.0"
                openmetrics_q, openmetrics_type = quality, OPENMETRICS_TYPE.replace("1.0.0", version)
        elif media == "text/plain":
            text_q = max(text_q, quality)
    if openmetrics_q > 0 and openmetrics_q >= text_q:
        return True, openmetrics_type
    return False, TEXT_TYPE


def _ranges(accept: str) -> Iterable[tuple[str, dict[str, str]]]:
    for part in accept.split(","):
        media, *parameters = part.split(";")
        pairs = (parameter.partition("=")[::2] for parameter in parameters)
        yield media.strip().lower(), {name.strip().lower(): value.strip().strip('"') for name, value in pairs}


def _quality(text: str) -> float:
    """Return a q-value from 0 to 1; what is not one counts as 0, so that garbage never chooses a format."""
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
