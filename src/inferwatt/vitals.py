"""How the agent itself is: its rooms' own counts for the books, what `/healthz` says, and the lines at its start."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from inferwatt import __version__
from inferwatt.books import Books
from inferwatt.engines.intake import InboxHealth
from inferwatt.engines.scrape import ScraperHealth
from inferwatt.engines.servers import ServerConfig
from inferwatt.engines.watch import DOWN, NO_METRICS, REPLICAS, SILENT, UNREADABLE
from inferwatt.export import estimated
from inferwatt.export.exporter import OutletHealth
from inferwatt.ledger.sqlite import Ledger
from inferwatt.snapshot import Lack
from inferwatt.sources import Found
from inferwatt.sources.health import SamplerHealth
from inferwatt.sources.sampler import USAGE
from inferwatt.units import NS_PER_SECOND
from inferwatt.web.stream import Seats

MOST_LACKS_TOLD = 5
STALLED_NS = 10 * NS_PER_SECOND
"""How long nothing may be committed before that is said."""

_NONE_YET = {"overflow": 0, "refused": 0}
"""Why an exporter drops things; shown from its start on."""


class Rooms(Protocol):
    """The rooms whose health is looked at."""

    def sampler_health(self) -> SamplerHealth:
        """Return how sampling goes."""
        ...

    def inbox_health(self) -> InboxHealth:
        """Return what the inbox took in and turned away."""
        ...

    def scraper_health(self) -> ScraperHealth:
        """Return how each server is."""
        ...


def bring_in(rooms: Rooms, books: Books, asked: Iterable[str]) -> frozenset[str]:
    """Bring the rooms' own counts into the books; return the devices that are stale.

    A source that was `asked` and has no device that delivers has no series but `inferwatt_source_up` 0; one that was
    not asked has none at all.
    """
    sampler = rooms.sampler_health()
    up = dict.fromkeys(asked, False)
    for source in sampler.sources:
        if source.source != USAGE:
            up[source.source] = up.get(source.source, False) or source.up
            books.count_to("inferwatt_samples_total", (source.device,), source.samples)
            books.count_to("inferwatt_samples_lost_total", (source.device,), source.lost)
    for name, is_up in up.items():
        books.gauge("inferwatt_source_up", (name,), int(is_up))
    inbox = rooms.inbox_health()
    for reason, count in {**inbox.rejected, **inbox.refused}.items():
        books.count_to("inferwatt_records_dropped_total", (f"inbox_{reason}",), count)
    for target in rooms.scraper_health().targets:
        books.count_to("inferwatt_scrapes_total", (target.name,), target.pages + target.failures)
        books.count_to("inferwatt_scrape_failures_total", (target.name, "page"), target.failures)
    return frozenset(source.device for source in sampler.sources if source.stale)


def bring_in_own(ledger: Ledger | None, outlets: Iterable[OutletHealth], seats: Seats, books: Books) -> None:
    """Bring in how the agent's own ways out are: the ledger, the exporters, the live stream."""
    if ledger is not None:
        bring_in_ledger(ledger, books)
    bring_in_exports(outlets, books)
    books.gauge("inferwatt_live_readers", (), sum(seats.taken.values()))
    books.count_to("inferwatt_live_readers_dropped_total", (), seats.dropped)


def bring_in_ledger(ledger: Ledger, books: Books) -> None:
    """Bring the ledger's size on disk, and its files that were set aside, into the books."""
    books.count_to("inferwatt_ledger_set_aside_total", (), ledger.set_aside)
    books.gauge("inferwatt_ledger_size_bytes", (), ledger.size_bytes())


def bring_in_exports(outlets: Iterable[OutletHealth], books: Books) -> None:
    """Bring into the books how each exporter goes."""
    for outlet in outlets:
        books.count_to("inferwatt_exports_total", (outlet.name,), outlet.exports)
        for reason, count in outlet.failures.items():
            books.count_to("inferwatt_export_failures_total", (outlet.name, reason), count)
        for reason, count in {**_NONE_YET, **outlet.dropped}.items():
            books.count_to("inferwatt_export_dropped_total", (outlet.name, reason), count)
        books.gauge("inferwatt_export_queued_requests", (outlet.name,), outlet.queued)
        if outlet.last_success_unix_seconds is not None:
            when = outlet.last_success_unix_seconds
            books.gauge("inferwatt_export_last_success_timestamp_seconds", (outlet.name,), when)


def bring_in_spans(counts: Mapping[str, int], books: Books) -> None:
    """Bring into the books what became of the spans that were received."""
    for result, count in tuple(counts.items()):
        books.count_to(estimated.SPANS, (result,), count)


def desk_trouble(ledger_error: str, silent_ns: int) -> list[str]:
    """Return what is wrong with the desk or its disk."""
    trouble = ["the ledger cannot be written"] if ledger_error else []
    if silent_ns > STALLED_NS:
        trouble.append(f"nothing was settled for {silent_ns // NS_PER_SECOND} s: the disk, or the desk, stands still")
    return trouble


def healthz(rooms: Rooms, trouble: Sequence[str], *, has_failed: bool = False) -> dict[str, Any]:
    """Return what `/healthz` says; only from memory, so that it answers while a device hangs."""
    sampler = rooms.sampler_health()
    silent = [s.device for s in sampler.sources if s.stale or (s.samples and not s.up)]
    found = [*(f"device {name} does not answer" for name in silent), *trouble]
    return {
        "status": "failed" if has_failed else "degraded" if found else "ok",
        "trouble": found,
        "version": __version__,
        "devices": [asdict(source) for source in sampler.sources],
        "servers": [{"name": t.name, "url": t.url, "state": t.state} for t in rooms.scraper_health().targets],
    }


def opening_lines(rooms: Rooms, found: Found, lacks: Sequence[Lack], host: str, url: str) -> list[str]:
    """Return what was found and what is lacking, in at most ten lines."""
    lines = [f"inferwatt {__version__} on {host}" + (f": {url}" if url else "")]
    lines.append("devices: " + (", ".join(_devices(found)) or "none"))
    servers = [f"{t.name} at {t.url}" for t in rooms.scraper_health().targets]
    lines.append("servers: " + (", ".join(servers) or "none yet; looking every few seconds"))
    lines += [f"lacks: {lack.what} -> {lack.fix}" for lack in lacks[:MOST_LACKS_TOLD]]
    if len(lacks) > MOST_LACKS_TOLD:
        lines.append(f"and {len(lacks) - MOST_LACKS_TOLD} more on the page")
    return lines


def _devices(found: Found) -> Iterator[str]:
    """Yield the devices with what is known of them, those together that are known alike: a rack has eight GPUs."""
    alike: dict[str, list[str]] = {}
    for source in found.sources:
        device = source.device
        known = f"{device.provenance.value} ±{device.systematic_ratio:.0%}, {source.name}"
        alike.setdefault(known, []).append(device.device)
    for known, names in alike.items():
        yield f"{' '.join(names)} ({known})"


def server_lacks(health: ScraperHealth, configured: Iterable[ServerConfig] = ()) -> tuple[Lack, ...]:
    """Return why servers are not read; one that has ended is no lack, unless it is configured.

    Args:
        health: how each server is.
        configured: those that are configured.
    """
    names = {server.name for server in configured}
    told = {NO_METRICS, REPLICAS, SILENT, UNREADABLE}
    return tuple(
        t.last_error
        for t in health.targets
        if t.last_error is not None and (t.state in told or (t.state == DOWN and t.name in names))
    )


def resolutions(health: ScraperHealth) -> Mapping[str, int]:
    """Return the step in which each server's token counters move."""
    return {target.name: target.resolution_tokens for target in health.targets}
