"""What other exporters publish: joules and watts of a page, for machines where we may not touch the driver.

`exporters.toml` has what each exporter calls them. A page is asked for by a thread of its own (slow.py), once for all
its devices, and its figures have the time between question and answer: when the exporter itself read the hardware is
not on the page, and many read it only every few seconds (``period_seconds``). Provenance is ``reported``, whatever is
behind. A counter is passed on as it stands; that it wraps, was reset or stands still is for the timeline to judge.

What is not on the page, or not a figure, is a failed read of that device, and never a zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from inferwatt.errors import InferwattError, RecordRejected, SourceRetry
from inferwatt.records import Component
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, Source, SourcesConfig
from inferwatt.sources.client import Answer
from inferwatt.sources.reported_ask import Machine, Pages
from inferwatt.sources.reported_devices import Named, Names, named
from inferwatt.sources.reported_page import NOTHING_SAID, Heard, Place, Row, heard, looks_like_json, metric_names
from inferwatt.sources.reported_table import Exporter, exporters, recognised
from inferwatt.sources.settings import ReportedConfig
from inferwatt.sources.slow import Sample, SlowDevice, SlowPoller
from inferwatt.units import nanoseconds

NAME = "reported"
_MOST_NAMED = 5
_NAME_CHARACTERS = 60


class Page:
    """The page of one exporter: its devices, and what is read of each."""

    def __init__(self, pages: Pages, look: "_Look", devices: tuple[Named, ...], machine: Machine) -> None:
        self._pages = pages
        self._exporter = look.exporter
        self._devices = devices
        self._wraps_at_uj = {
            each.device.device: machine.wraps_at_uj(each.device.uuid) for each in devices if each.wraps
        }
        self._best: dict[str, Place] = {}
        for each in devices:
            self._sample(each, look.said, 0)

    def poll(self) -> Mapping[str, Sample | InferwattError]:
        """Ask for the page, and return what it says of each device, by its name.

        Raises:
            SourceRetry: there is no page, or none that says anything.
        """
        answer = self._pages.ask()
        try:
            said = heard(answer.body, self._exporter)
        except RecordRejected as exc:
            raise SourceRetry(exc.what, where=self._pages.where, fix=exc.fix) from exc
        return {each.device.device: self._sample(each, said, answer.t_ns) for each in self._devices}

    def _sample(self, each: Named, said: Heard, t_ns: int) -> Sample | SourceRetry:
        """Return the figure of one device: the best that was ever known, so that joules never fall back to watts."""
        name = each.device.device
        known = [place for place in each.places if _amount(said.rows, place) is not None]
        best = min([*known, *([self._best[name]] if name in self._best else [])], default=None)
        amount = None if best is None else _amount(said.rows, best)
        if best is None or amount is None:
            return self._unknown(each, said)
        self._best[name] = best
        if self._exporter.device[best.sort].figures[best.figure].unit.is_energy:
            return Sample(counter_uj=amount, wraps_at_uj=self._wraps_at_uj.get(name), t_ns=t_ns)
        return Sample(power_mw=amount, t_ns=t_ns)

    def _unknown(self, each: Named, said: Heard) -> SourceRetry:
        why = next((said.rows[place].why for place in each.places if place in said.rows), "") or NOTHING_SAID
        also = ", ".join(f"{count} {reason}" for reason, count in sorted(said.left_out.items()))
        return SourceRetry(
            f"{each.device.device}: {self._exporter.title} {why}" + (f" (lines left out: {also})" if also else ""),
            where=self._pages.where,
            fix="none needed if it passes; else look at the exporter's log",
        )


@dataclass(frozen=True, slots=True)
class _Look:
    """A first look at a page: which exporter it is of, and what it says."""

    exporter: Exporter
    said: Heard


def discover(settings: SourcesConfig) -> Found:
    """Return the devices of each page in the configuration; a page that cannot be read is a lack."""
    sources: list[Source] = []
    lacks: list[Lack] = []
    for config in settings.reported:
        try:
            found = _opened(config, settings)
        except SourceRetry as exc:
            lacks.append(Lack(exc.what, exc.where, exc.fix, source=NAME))
        else:
            sources += found.sources
            lacks += found.lacks
    return Found(tuple(sources), tuple(lacks))


def _opened(config: ReportedConfig, settings: SourcesConfig) -> Found:
    pages = Pages(config)
    try:
        look = _look(config, pages.ask(), pages.where)
    finally:
        pages.close()  # the thread of the poller opens a connection of its own
    machine = Machine(settings, is_here=pages.is_here)
    names = named(look.said.rows, look.exporter, machine.cpu())
    page = Page(pages, look, names.devices, machine)
    poller = SlowPoller(NAME, page.poll, nanoseconds(config.poll_seconds), finish=pages.close)
    devices = tuple(SlowDevice(poller, each.device) for each in names.devices)
    return Found(devices, tuple(_lacks(look, names, pages.where)))


def _look(config: ReportedConfig, answer: Answer, where: str) -> _Look:
    """Return whose page it is and what it says.

    Raises:
        SourceRetry: it is nobody's that we know, or says nothing that we can use.
    """
    kinds = exporters()
    if config.kind and config.kind not in kinds:
        fix = f"one of {', '.join(kinds)}; or leave it empty, and it is found from the page"
        raise SourceRetry(f"{config.kind!r} is no kind of exporter", where="sources.reported.kind", fix=fix)
    try:
        names = metric_names(answer.body, json=looks_like_json(answer.body))
        kind = config.kind or recognised(names)
        if kind is None:
            raise _stranger(answer.body, names, where)
        return _Look(kinds[kind], heard(answer.body, kinds[kind]))
    except RecordRejected as exc:
        raise SourceRetry(exc.what, where=where, fix=exc.fix) from exc


def _stranger(body: bytes, names: tuple[str, ...], where: str) -> SourceRetry:
    if not names or body.lstrip().startswith(b"<"):
        what = "the answer is HTML, not a metrics page" if names else "the page is empty"
        return SourceRetry(what, where=where, fix="correct url: most exporters have /metrics")
    shown = ", ".join(name[:_NAME_CHARACTERS] for name in names[:_MOST_NAMED] if name.isprintable())
    what = f"this is the page of no exporter that we know: {len(names)} metrics, {shown or 'none with a name'}"
    return SourceRetry(what, where=where, fix=f"correct url: we know {', '.join(exporters())}")


def _lacks(look: _Look, names: Names, where: str) -> list[Lack]:
    """Return what is left out of a page, and where watts are read for want of joules."""
    title = look.exporter.title
    lacks = [Lack(f"{title}: {what}, are not read", where, "none", source=NAME) for what in names.left_out]
    by_watts = [each for each in names.devices if _has_watts_only(each, look)]
    for component in Component:
        devices = [each.device.device for each in by_watts if each.device.component is component]
        if devices:
            every = f", new every {look.exporter.period_seconds:g} s" if look.exporter.period_seconds else ""
            what = f"{title} says watts only of {', '.join(devices)}{every}: what was used between them is not known"
            lacks.append(Lack(what, where, look.exporter.better, source=title, component=component.value))
    return lacks


def _has_watts_only(each: Named, look: _Look) -> bool:
    figures = look.exporter.device[each.places[0].sort].figures
    known = [figures[place.figure] for place in each.places if _amount(look.said.rows, place) is not None]
    return bool(known) and figures[0].unit.is_energy and not any(figure.unit.is_energy for figure in known)


def _amount(rows: Mapping[Place, Row], place: Place) -> int | None:
    row = rows.get(place)
    return row.amount if row is not None else None
