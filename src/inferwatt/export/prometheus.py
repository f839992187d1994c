"""Write a snapshot as a Prometheus page: text 0.0.4, or OpenMetrics 1.0 with exemplars. Pure.

Written by hand because it runs beside a sampler that must not wait for it: what does not change between two
scrapes (names, labels, bounds) is kept as strings, so that a scrape only formats numbers. Each piece is encoded as soon
as it is written: the next one then finds the same warm memory, which saves a third of a large page's time. Energies
are printed from whole microjoules, to the last one, however large they have grown.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

    heads: tuple[str, ...]
    sum_head: str
    count_head: str
    exemplars: list[Exemplar | None]
    ends: list[str]


class _Heads(dict[Labels, str]):
    """The beginnings of a family's lines, by labels; each is made when it is first asked for."""

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric
        self._last: tuple[list[Labels], list[str]] = [], []

    def of(self, series: Iterable[Labels]) -> list[str]:
        """Return them in the order of `series`, which is that of the scrape before unless some are new or gone."""
        order = list(series)
        known, heads = self._last  # one object: another thread may be making a page too
        if order != known:
            heads = [self[labels] for labels in order]
            self._last = order, heads
        return heads

    def __missing__(self, labels: Labels) -> str:
        _PREFIXES.spend(1)
        head = self[labels] = f"{self._metric.name}{_braces(self._metric.labels, labels)} "
        return head


class _Prefixes:
    """The part of each line that stays from scrape to scrape, for each family and its labels."""

    def __init__(self) -> None:
        self._plain: dict[tuple[str, int], _Heads] = {}
        self._buckets: dict[str, dict[Labels, _Series]] = {}
        self._left = CACHED_SERIES

    def plain(self, metric: Metric) -> _Heads:
        """A family has more labels where servers run in containers."""
        key = metric.name, len(metric.labels)
        heads = self._plain.get(key)
        if heads is None:
            heads = self._plain[key] = _Heads(metric)
        return heads

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
    pieces: list[bytes] = []
    places = places_of(snapshot)
    for metric in CATALOG.values():
        if not details and "tenant" in metric.labels:
            continue
        if metric.kind is Kind.HISTOGRAM:
            histograms = placed(metric, snapshot.histograms.get(metric.name, {}), places)
            samples = list(_histogram(*histograms, exemplars=openmetrics and details))
        else:
            samples = _plain(*placed(metric, _series(metric, snapshot, process or {}), places))
        if samples:
            pieces.append(_encoded(_head(metric, openmetrics=openmetrics)))
            pieces += samples
    pieces.append(b"# EOF\n" if openmetrics else b"")
    return b"\n".join(pieces)


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


def _encoded(lines: Iterable[str]) -> bytes:
    return "\n".join(lines).encode("utf-8", "replace")


def _plain(metric: Metric, series: Mapping[Labels, float]) -> list[bytes]:
    heads, decimals = _PREFIXES.plain(metric).of(series), metric.decimals
    lines = [
        f"{head}{digits[:-decimals]}.{digits[-decimals:]}"
        if (digits := str(value)).isdigit() and len(digits) > decimals > 0
        else _line(head, value, decimals)
        for head, value in zip(heads, series.values(), strict=True)
    ]
    finite = lines if all(lines) else list(filter(None, lines))
    return [_encoded(finite)] if finite else []


def _line(head: str, value: float, decimals: int) -> str:
    """Return a line of any number, the point moved left by `decimals`; nothing where it is not finite."""
    text = _decimal(value, decimals) if decimals else _number(value)
    return "" if text in _NOT_FINITE else head + text


def _histogram(metric: Metric, series: Mapping[Labels, HistogramValue], *, exemplars: bool) -> Iterator[bytes]:
    cache = _PREFIXES.buckets(metric)
    for labels, histogram in series.items():
        kept = cache.get(labels)
        if kept is None:
            kept = cache[labels] = _new_series(metric, labels)
        cumulative = list(accumulate(histogram.counts))
        if exemplars:
            _renew(kept, histogram.exemplars)
            lines = [f"{head}{count}{end}" for head, count, end in zip(kept.heads, cumulative, kept.ends, strict=True)]
        else:
            lines = [f"{head}{count}" for head, count in zip(kept.heads, cumulative, strict=True)]
        lines.append(kept.sum_head + _number(histogram.sum))
        lines.append(f"{kept.count_head}{cumulative[-1]}")
        yield _encoded(lines)


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


def _new_series(metric: Metric, labels: Labels) -> _Series:
    braces = _braces(metric.labels, labels)
    head = f"{metric.name}_bucket{braces[:-1]}," if labels else f"{metric.name}_bucket{{"
    heads = tuple(f'{head}le="{bound}"}} ' for bound in (*(repr(float(bound)) for bound in metric.buckets), "+Inf"))
    _PREFIXES.spend(2 * len(heads) + 2)
    nothing: list[Exemplar | None] = [None] * len(heads)
    return _Series(heads, f"{metric.name}_sum{braces} ", f"{metric.name}_count{braces} ", nothing, [""] * len(heads))


def _braces(names: Sequence[str], values: Iterable[str]) -> str:
    pairs = ",".join(f'{name}="{escape(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def escape(value: str) -> str:
    """Return `value` as it may stand between the quotes of a label."""
    return value.translate(_LABEL_ESCAPES)


def _exemplar(exemplar: Exemplar) -> str:
    """Return the exemplar with both ids: the trace is kept whole, a long request id is cut; nothing without an id."""
    trace = exemplar.trace_id[: EXEMPLAR_CHARACTERS - len("trace_id")]
    left = EXEMPLAR_CHARACTERS - len("request_id") - (len("trace_id") + len(trace) if trace else 0)
    request = exemplar.request_id[: max(left, 0)]
    if not trace and not request:
        return ""
    labels = f'request_id="{_id(request)}"' if request else ""
    if trace:
        labels += f'{"," if request else ""}trace_id="{_id(trace)}"'
    return f" # {{{labels}}} {_number(exemplar.value)} {exemplar.unix_seconds:.3f}"


def _id(value: str) -> str:
    return value if _PLAIN_ID.fullmatch(value) else value.translate(_EXEMPLAR_ESCAPES)


def _number(value: float) -> str:
    return float.__repr__(value) if isinstance(value, float) else str(int(value))


def _decimal(value: float, decimals: int) -> str:
    if isinstance(value, float):
        return float.__repr__(value / 10.0**decimals)
    digits = f"{value:0{decimals + 1 + (value < 0)}d}"
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


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
