"""What `inferwatt sources` prints: which meters there are, how sure they are, and what would make them better."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from textwrap import wrap
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inferwatt.listing import PIPED_COLUMNS, UNKNOWN, print_lines
from inferwatt.records import Component, Provenance
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, PassedOver, Source
from inferwatt.sources.advice import Advice, advise, uncovered
from inferwatt.sources.choice import provenance_rank
from inferwatt.survey import Seen
from inferwatt.units import NS_PER_SECOND

_COMPONENTS = tuple(Component)
_STYLES = {
    Provenance.MEASURED: "green",
    Provenance.SAMPLED: "green",
    Provenance.REPORTED: "cyan",
}
_COMPUTED = "yellow"
_NOTHING = ("nothing was found that tells of it", "")
_BARE = {
    "overhead": (
        "no BMC is named that could tell what the whole server draws",
        "in the configuration: [[sources.redfish]] with its url, or sources.ipmi.enabled = true",
    ),
}
"""What is said of a part of the server of which nothing was found and nothing is lacking, and the remedy."""
_INDENT = 4
_LEAST_COLUMNS = 20

Row = Mapping[str, Any]


def print_sources(found: Found, seen: Mapping[str, Seen], *, as_json: bool, console: Console | None = None) -> None:
    """Print the devices, what would make them better, what no device covers, and what was found and is left out."""
    in_order = sorted(found.sources, key=lambda source: _COMPONENTS.index(source.device.component))
    found = replace(found, sources=tuple(in_order))
    if as_json:
        print_lines(rows(found, seen))
        return
    console = console or _console()
    advice = advise([source.device for source in found.sources], found.lacks)
    notes = _Notes(found, advice)
    if found.sources:
        console.print(_table(found.sources, notes))
    else:
        console.print("no device can be read")
    if seen:
        names = (source.device.device for source in found.sources)
        _print_seen({name: seen[name] for name in names if name in seen}, console)
    notes.print(console)
    _print_missing(found, advice, console)
    _print_passed_over(found.passed_over, console)


def rows(found: Found, seen: Mapping[str, Seen]) -> Iterator[Row]:
    """Yield all that is known, as JSON lines: each says in `record` what it is."""
    advice = advise([source.device for source in found.sources], found.lacks)
    for source in found.sources:
        better = [msgspec.to_builtins(lack) for lack in advice.better.get(source.device.device, ())]
        yield {"record": "device", **_device(source), **_seen(seen.get(source.device.device)), "better": better}
    for over in found.passed_over:
        device = {key: value for key, value in msgspec.to_builtins(over.device).items() if value not in (None, "")}
        told = {"source": over.source, "instead": over.instead, "why": over.why, "fix": over.fix}
        yield {"record": "passed_over", **device, **told}
    for lack in found.lacks:
        would_bring = "nothing" if lack in advice.moot else "a device" if lack in advice.missing else "a better figure"
        yield {"record": "lack", **msgspec.to_builtins(lack), "would_bring": would_bring}
    yield {"record": "asked", "sources": list(found.asked)}


def _device(source: Source) -> Row:
    known = {key: value for key, value in msgspec.to_builtins(source.device).items() if value not in (None, "")}
    period_ns = update_period_ns(source)
    known |= {"source": source.name, "read_by": source.device.source or source.name}
    known |= {"update_period_seconds": period_ns / NS_PER_SECOND} if period_ns else {}
    return known


def _seen(seen: Seen | None) -> Row:
    if seen is None:
        return {}
    row = {
        "seen_power_watts": seen.watts,
        "seen_update_period_seconds": seen.period_seconds,
        "seen_is_faster": seen.is_faster,
        "seen_readings": seen.readings,
        "seen_failures": seen.failures,
        "seen_trouble": seen.trouble or None,
    }
    return {key: value for key, value in row.items() if value is not None}


def update_period_ns(source: Source) -> int:
    """Return how often there can be another figure, nanoseconds; 0 where the source does not know."""
    poll_ns: int = getattr(source, "poll_ns", source.period_ns)  # a slow source hands over more often than it polls
    return poll_ns


class _Notes:
    """Why a device has no better figure, each reason once: a number in the table, the words and the remedy below."""

    def __init__(self, found: Found, advice: Advice) -> None:
        self._texts: list[tuple[str, str]] = []
        self._numbers: dict[str, list[int]] = {}
        for source in found.sources:
            device = source.device.device
            for lack in advice.better.get(device, ()):
                self._note(device, f"{lack.source or 'another source'}: {lack.what} ({lack.where})", lack.fix)
            for over in found.passed_over:
                if over.instead == device and _is_better(over, source):
                    self._note(device, _passed_over(over), over.fix)

    def _note(self, device: str, text: str, fix: str) -> None:
        if (text, fix) not in self._texts:
            self._texts.append((text, fix))
        self._numbers.setdefault(device, []).append(self._texts.index((text, fix)) + 1)

    def __bool__(self) -> bool:
        return bool(self._texts)

    def of(self, device: str) -> str:
        """Return the numbers of a device's notes."""
        return " ".join(map(str, self._numbers.get(device, ())))

    def print(self, console: Console) -> None:
        """Print each note with its remedy."""
        if self:
            _print_heading("what would be better, and how", console)
        for number, (text, fix) in enumerate(self._texts, 1):
            _print_item(f"{number:>2}", text, fix, console)


def _is_better(over: PassedOver, source: Source) -> bool:
    return provenance_rank(over.device.provenance) < provenance_rank(source.device.provenance)


def _table(sources: Iterable[Source], notes: _Notes) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("device", no_wrap=True)
    table.add_column("kind", overflow="fold")
    table.add_column("covers", no_wrap=True)
    table.add_column("read by", overflow="fold", min_width=len("read by"))
    table.add_column("provenance", no_wrap=True)
    for column in ("every", "±"):
        table.add_column(column, no_wrap=True, justify="right")
    if notes:
        table.add_column("note", no_wrap=True)
    for source in sources:
        device = source.device
        table.add_row(
            device.device,
            device.kind or device.model or UNKNOWN,
            device.domain,
            device.source or source.name,
            Text(device.provenance.value, style=_STYLES.get(device.provenance, _COMPUTED)),
            _duration(update_period_ns(source) / NS_PER_SECOND or None),
            f"{device.systematic_ratio:.0%}",
            *([notes.of(device.device)] if notes else []),
        )
    return table


def _print_seen(seen: Mapping[str, Seen], console: Console) -> None:
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("device", no_wrap=True)
    for column in ("watts", "moved every", "readings", "failures"):
        table.add_column(column, no_wrap=True, justify="right")
    for device, what in seen.items():
        watts = UNKNOWN if what.watts is None else f"{what.watts:.1f}"
        limit = "≤ " if what.is_faster and what.period_seconds else ""
        table.add_row(device, watts, limit + _duration(what.period_seconds), str(what.readings), str(what.failures))
    console.print(table)
    for device, what in seen.items():
        if what.trouble:
            _print_item(device, what.trouble, "", console)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _print_missing(found: Found, advice: Advice, console: Console) -> None:
    """Print the parts of the server that no device covers, each by its name; then what is lacking besides."""
    bare = uncovered(source.device for source in found.sources)
    if bare:
        _print_heading("not measured here", console)
    width = max(map(len, bare), default=0)
    for component in bare:
        lacks = [(component, lack) for lack in advice.missing if lack.component == component]
        if not lacks:
            _print_item(component.ljust(width), *_BARE.get(component, _NOTHING), console)
        _print_lacks(lacks, width, console)
    others = [(lack.component or lack.source, lack) for lack in advice.missing if lack.component not in bare]
    if others:
        _print_heading("lacking besides", console)
    _print_lacks(others, max((len(name) for name, _ in others), default=0), console)


def _print_lacks(lacks: Sequence[tuple[str, Lack]], width: int, console: Console) -> None:
    for name, lack in lacks:
        by = f"{lack.source}: " if lack.source and lack.source != name else ""
        _print_item(name.ljust(width), f"{by}{lack.what} ({lack.where})", lack.fix, console)


def _print_passed_over(passed_over: Sequence[PassedOver], console: Console) -> None:
    if passed_over:
        _print_heading("found, and left out: each joule is counted once", console)
    width = max((len(over.device.device) for over in passed_over), default=0)
    for over in passed_over:
        _print_item(over.device.device.ljust(width), _passed_over(over), "", console)


def _passed_over(over: PassedOver) -> str:
    return f"{over.device.source or over.source} ({over.device.provenance.value}): {over.why}"


def _print_heading(text: str, console: Console) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _print_item(name: str, text: str, fix: str, console: Console) -> None:
    """Print a name with its text beside it, then the remedy on a line that is never broken: it can be copied whole."""
    indent = len(name) + _INDENT
    lines = wrap(text, max(console.width - indent, _LEAST_COLUMNS), break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(lines):
        before = f"  {name}  " if number == 0 else " " * indent
        console.print(Text(before + line), soft_wrap=True)
    if fix:
        console.print(Text(" " * indent).append("fix: ", style="bold").append(fix), soft_wrap=True)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_COLUMNS
    return console


def say_wait(seconds: float) -> None:
    """Say on standard error that it takes a moment, so that nobody thinks it hangs."""
    click.echo(f"reading every source for {seconds:g} s", err=True)
