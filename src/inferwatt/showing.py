"""The snapshot that is published after each commit: the books, the gauges, and the live view. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from inferwatt.books import Books
from inferwatt.conditions import courses
from inferwatt.metering import Metering
from inferwatt.snapshot import EngineView, Lack, LiveView, Snapshot
from inferwatt.units import NS_PER_SECOND
from inferwatt.views import Views


@dataclass(slots=True)
class Showing:
    """Makes snapshots.

    `health` brings the rooms' own counts into the books and names the devices that are stale; `resolutions` gives
    the step in which each server's token counters move.
    """

    metering: Metering
    views: Views
    started_unix_ns: int
    version: str
    host: str
    health: Callable[[Books], frozenset[str]]
    resolutions: Callable[[], Mapping[str, int]]
    lacks: tuple[Lack, ...] = ()
    engines: tuple[EngineView, ...] = ()
    ledger_error: str = ""
    _stale: frozenset[str] = field(default_factory=frozenset)

    def describe(self, now_ns: int) -> None:
        """Set the gauges and the figures of the last window; before a commit, so that it keeps them too."""
        books = self.metering.books
        self.views.mark(now_ns)
        open_by_engine: dict[str, int] = {}
        for request in self.metering.open_requests():
            open_by_engine[request.engine] = open_by_engine.get(request.engine, 0) + 1
        courses(books, self.metering.timelines())
        books.open_requests(open_by_engine)
        books.reconcile(now_ns, self.resolutions())
        self._stale = self.health(books)

    def snapshot(self, unix_ns: int) -> Snapshot:
        """Return what stands now."""
        books = self.metering.books
        live = self.views.live(
            unix_seconds=unix_ns / NS_PER_SECOND,
            started_unix_seconds=self.started_unix_ns / NS_PER_SECOND,
            version=self.version,
            host=self.host,
            stale=self._stale,
        )
        books.forget("inferwatt_device_power_watts")
        for view in live.devices:
            if view.power_watts is not None:
                labels = (view.device, view.domain, view.provenance)
                books.gauge("inferwatt_device_power_watts", labels, view.power_watts)
        return Snapshot(
            values={name: dict(series) for name, series in books.values.items()},
            histograms={name: dict(series) for name, series in books.histograms.items()},
            live=self._with_lacks(live),
        )

    def _with_lacks(self, live: LiveView) -> LiveView:
        lacks = self.lacks
        if self.ledger_error:
            what, _, rest = self.ledger_error.partition("\n")
            lacks = (*lacks, Lack(what, "the ledger", rest.rpartition("fix:")[2].strip() or "free disk space"))
        if self.metering.recorder_error:
            what = f"the recording ended: {self.metering.recorder_error}"
            lacks = (*lacks, Lack(what, "--record", "free disk space"))
        return replace(live, lacks=lacks, engines=self.engines)
