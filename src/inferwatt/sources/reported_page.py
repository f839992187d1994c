"""From the page of another exporter to what each device used, in whole microjoules or milliwatts. Pure.

An exporter prints doubles, and a double's shortest text is what it printed: that text is taken as a decimal number and
scaled exactly, so that no joule is made of rounding. What is not a finite number, is negative, is more than a device
can be, or is a value by which this exporter means "not read", is unknown: a row with a reason, never a zero.

Where one device has several rows of a figure (the instances of a MIG GPU repeat those of the whole GPU, read at
slightly different moments), it is counted once, by the largest: a counter's newest, and no 0 of what has no sensor.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from inferwatt.engines.pages import MALFORMED, NOT_FINITE, Labels, Page, Sample, read_page, spellings
from inferwatt.errors import RecordRejected
from inferwatt.sources.reported_table import DeviceRows, Exporter, Figure, Info, Unit, matches, recognised, word

MOST_UJ = 2**63 - 1
MOST_MW = 100_000_000
"""100 kW: no device that we know draws more."""
NOTHING_SAID = "says nothing of it"
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_WORD_CHARACTERS = 128
_JSON_LEVELS = 8

Series = tuple[str, Mapping[str, str], float]
"""A metric, its labels and its value."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where on a page a device's figure is: the table of its sort, the figure in it, and what tells it from others."""

    sort: int
    figure: int
    identity: str


@dataclass(frozen=True, slots=True)
class Row:
    """What a page says at one place: `amount` in µJ or mW, None where it is unknown for the reason `why`."""

    amount: int | None
    why: str
    number: str
    uuid: str
    model: str


@dataclass(frozen=True, slots=True)
class Heard:
    """The rows of one page by their places, and how many of its lines were left out, by reason."""

    rows: Mapping[Place, Row]
    left_out: Mapping[str, int]


def heard(body: bytes, exporter: Exporter, *, whole: bool = True) -> Heard:
    """Return what a page says of each device.

    Raises:
        RecordRejected: the page is none, is of several machines, or has nothing of what is wanted.
    """
    page = _json_page(body, exporter) if exporter.json else _text_page(body, exporter, whole)
    wanted = _explained(page.samples, exporter)
    if not wanted:
        raise _rejected("the page has no joules and no watts", exporter.nothing)
    _refuse_several_machines(wanted, exporter)
    rows: dict[Place, Row] = {}
    for sort, devices in enumerate(exporter.device):
        for index, figure in enumerate(devices.figures):
            rows |= {Place(sort, index, identity): row for identity, row in _rows(wanted, devices, figure)}
    if not rows:
        raise _rejected("the page has joules or watts, but of no device that is known", exporter.nothing)
    return Heard(rows, page.bad_lines)


def metric_names(body: bytes, *, json: bool = False) -> tuple[str, ...]:
    """Return the metrics of a page of either form, in their order, with those of no interest to us."""
    if json:
        return tuple(dict.fromkeys(name for name, _, _ in _leaves(_decoded(body))))
    heads = (line.partition(b"{")[0].split(None, 1)[:1] for line in body.split(b"\n") if not line.startswith(b"#"))
    return tuple(dict.fromkeys(head[0].decode(errors="replace") for head in heads if head))


def looks_like_json(body: bytes) -> bool:
    """Tell a JSON object from a page of metrics."""
    return body[:64].lstrip().startswith(b"{") and body[-64:].rstrip().endswith(b"}")


def whole_units(value: float, unit: Unit) -> int:
    """Return a figure in µJ or mW: exactly what its shortest decimal text says, halves to even."""
    scaled = Decimal(repr(value)).scaleb(unit.exponent, _EXACT)
    return int(scaled.to_integral_value(ROUND_HALF_EVEN, _EXACT))


def _amount(value: float, figure: Figure) -> tuple[int | None, str]:
    """Return a figure in whole units, or None and why it is unknown."""
    if value < 0:
        return None, "says a negative number"
    if value in figure.unknown:
        return None, f"says {value:g}, by which it means that it could not read it"
    amount = whole_units(value, figure.unit)
    if amount == 0 and 0 in figure.unknown:
        return None, f"says {value:g}, which is nothing"
    if amount > (MOST_UJ if figure.unit.is_energy else MOST_MW):
        return None, "says more than can be"
    return amount, ""


def _rows(samples: Iterable[Series], devices: DeviceRows, figure: Figure) -> Iterator[tuple[str, Row]]:
    """Yield the row of each device of one figure, by what tells it from others."""
    names = frozenset(spelling for name in figure.metrics for spelling in spellings(name))
    parts: dict[str, dict[str, Row]] = {}
    for name, labels, value in samples:
        if name not in names or not matches(devices.where, labels):
            continue
        row = _row(labels, value, devices, figure)
        part = labels.get(figure.summed.label, "") if figure.summed else ""
        kept = parts.setdefault(row.uuid.casefold() or row.number or _all_words(labels), {})
        kept[part] = _larger(kept[part], row) if part in kept else row
    for identity, kept in parts.items():
        yield identity, _sum(kept, figure) if figure.summed else kept[""]


def _row(labels: Mapping[str, str], value: float, devices: DeviceRows, figure: Figure) -> Row:
    amount, why = _amount(value, figure)
    words = (word(place, labels)[:_WORD_CHARACTERS] for place in (devices.number, devices.uuid, devices.model))
    return Row(amount, why, *words)


def _all_words(labels: Mapping[str, str]) -> str:
    """Return what tells apart devices that have neither a UUID nor a number."""
    return " ".join(f"{label}={value}" for label, value in sorted(labels.items()))


def _larger(one: Row, other: Row) -> Row:
    if other.amount is None or (one.amount is not None and one.amount >= other.amount):
        return one
    return other


def _sum(parts: Mapping[str, Row], figure: Figure) -> Row:
    """Add up the parts of one figure; without all of them the whole is unknown."""
    first = next(iter(parts.values()))
    wanted = figure.summed.values if figure.summed else ()
    amounts = [parts[value].amount for value in wanted if value in parts]
    known = [amount for amount in amounts if amount is not None]
    if len(known) < len(wanted) or len(parts) > len(wanted):
        return Row(None, f"does not say all of {', '.join(wanted)}", first.number, first.uuid, first.model)
    return Row(sum(known), "", first.number, first.uuid, first.model)


def _explained(samples: Iterable[Sample], exporter: Exporter) -> list[Series]:
    """Return the figures with the labels that the exporter gives them in series of their own."""
    said: dict[Info, dict[Labels, Mapping[str, str]]] = {info: {} for info in exporter.infos}
    figures: list[tuple[str, dict[str, str], float]] = []
    for sample in samples:
        labels = dict(sample.labels)
        info = next((info for info in exporter.infos if sample.name in spellings(info.metric)), None)
        if info is None:
            figures.append((sample.name, labels, sample.value))
        else:
            said[info][_key(info, labels)] = labels
    for _, labels, _ in figures:
        for info, series in said.items():
            for label, text in series.get(_key(info, labels), {}).items():
                labels.setdefault(label, text)
    return [*figures]


def _key(info: Info, labels: Mapping[str, str]) -> Labels:
    return tuple((label, labels.get(label, "")) for label in info.on)


def _refuse_several_machines(samples: Iterable[Series], exporter: Exporter) -> None:
    for label in exporter.hosts:
        machines = {labels[label] for _, labels, _ in samples if labels.get(label)}
        if len(machines) > 1:
            raise _rejected(
                f"the page is of {len(machines)} machines ({label})", "give the address of this machine's own exporter"
            )


def _text_page(body: bytes, exporter: Exporter, whole: bool) -> Page:
    """Read the metrics that are wanted; the page of this exporter that has none of them is told what it lacks."""
    try:
        return read_page(body, exporter.names, whole=whole)
    except RecordRejected as exc:
        seen = frozenset(metric_names(body))
        if recognised(seen) is None or any(
            spelling in seen for name in exporter.figures for spelling in spellings(name)
        ):
            raise
        raise _rejected("the page has no joules and no watts", exporter.nothing) from exc


def _json_page(body: bytes, exporter: Exporter) -> Page:
    """Read a JSON answer as if it were a page of metrics: null is no sample."""
    names, left_out = frozenset(exporter.names), {MALFORMED: 0, NOT_FINITE: 0}
    samples: dict[tuple[str, Labels], Sample] = {}
    for name, labels, value in _leaves(_decoded(body)):
        if name not in names or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            left_out[MALFORMED] += 1
        else:
            samples.setdefault((name, labels), Sample(name, labels, value))
    return Page(
        tuple(samples.values()), partial=False, bad_lines={why: count for why, count in left_out.items() if count}
    )


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise _rejected(f"the answer is not JSON: {exc}", "check the address") from exc


def _leaves(value: object, name: str = "", number: str = "", level: int = 0) -> Iterator[tuple[str, Labels, object]]:
    """Yield what a JSON object says: the last name above it, the number above it as the label `id`, and the value."""
    if not isinstance(value, dict):
        if name:
            yield name, (("id", number),) if number else (), value
        return
    for key, inner in value.items() if level < _JSON_LEVELS else ():
        is_number = key.isascii() and key.isdecimal()
        yield from _leaves(inner, name if is_number else key, key if is_number else number, level + 1)


def _rejected(what: str, fix: str) -> RecordRejected:
    return RecordRejected(what, where="metrics page", fix=fix)
