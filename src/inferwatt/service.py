"""All rooms of the agent together: built, started, watched over, and ended within two seconds.

Threads, all daemons, so that a driver that hangs never holds up the exit: the sampler reads devices, the inbox takes
records, the scraper and the search look at servers, the web server answers, and the desk (keeper.py) does the work.
The thread that calls `wait` watches over them.
"""

import logging
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from inferwatt import __version__, vitals
from inferwatt.books import Books, BooksConfig
from inferwatt.chores import Chores
from inferwatt.clock import Clock, SystemClock, boot_id
from inferwatt.endpoint import socket_path
from inferwatt.engines.discover import discover_all as discover_engines
from inferwatt.engines.inbox import Inbox
from inferwatt.engines.intake import InboxHealth
from inferwatt.engines.peers import talks_to
from inferwatt.engines.scrape import Scraper, ScraperHealth
from inferwatt.engines.vllm_server import server_of
from inferwatt.keeper import Keeper
from inferwatt.metering import Metering
from inferwatt.opening import ledger_path, open_ledger, open_outlets, open_spans, open_usage, open_web
from inferwatt.ports import ProducerGone
from inferwatt.recording import Meta, RecordingWriter
from inferwatt.settings import AgentConfig
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources import discover_all as discover_sources
from inferwatt.sources.advice import worth_telling
from inferwatt.sources.again import searching_again
from inferwatt.sources.families import Families
from inferwatt.sources.health import SamplerHealth
from inferwatt.sources.sampler import Sampler
from inferwatt.web.stream import Seats

log = logging.getLogger("inferwatt")

_BUSY_SECONDS = 0.1
_IDLE_SECONDS = 0.25
_WATCH_SECONDS = 0.25
_SEARCH_SECONDS = 5.0
_SEARCH_AGAIN_SECONDS = 15.0
_STOP_SECONDS = 2.0
_FLUSH_SECONDS = 5.0


class Agent:
    """All rooms together. `start` builds and starts them, `stop` ends them within two seconds.

    Args:
        settings: the configuration.
        record: also write a recording into this folder.
        clock: where the time comes from.
        find_sources: what devices there are; tests hand in their own.
        serve_http: whether the page and `/metrics` are served.
    """

    def __init__(
        self,
        settings: AgentConfig,
        *,
        record: Path | None = None,
        clock: Clock | None = None,
        find_sources: Callable[[SourcesConfig], Found] = discover_sources,
        serve_http: bool = True,
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._find_sources = find_sources
        self._serve_http = serve_http
        self._boot_id = boot_id()
        self._seats = Seats()
        self._host = os.environ.get("INFERWATT_NODE_NAME") or socket.gethostname()
        self._families = Families(settings.sources.proc_root)
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._undo: list[Callable[[], object]] = []
        self._threads: list[threading.Thread] = []
        self._search_lacks: tuple[Lack, ...] = ()
        self.keeper: Keeper
        self.url = ""
        self._spans = Counter[str]()
        self._recorder = RecordingWriter(record) if record is not None else None

    def start(self) -> None:
        """Build every room and start its thread.

        Raises:
            InferwattError: another agent runs, the port is taken, or the configuration cannot be used.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        settings = self._settings
        ledger, lacks = open_ledger(settings, self._boot_id, self._clock)
        if ledger is not None:
            self._undo.append(ledger.close)
        books = Books(BooksConfig(settings.tenants.max_tenants, settings.tenants.enabled, settings.agent.max_models))
        if ledger is not None:
            books.restore(ledger.counters(), ledger.histograms())
        books.gauge("inferwatt_build_info", (__version__, sys.version.split()[0]), 1)
        found = self._found = self._find_sources(settings.sources)
        self._chores = Chores(ledger, ledger_path(settings).parent, lambda: self._metering.fits())
        metering = Metering(
            books,
            recorder=self._recorder,
            meta=Meta(
                host=self._host, boot_id=self._boot_id, agent="inferwatt", version=__version__, fits=self._chores.fits()
            ),
            on_engine=self._watch_processes,
        )
        self._metering = metering
        self._undo.append(self._chores.end)
        self._usage, more_lacks = open_usage(found, settings.sources)
        if self._usage is not None:
            self._undo.append(self._usage.close)
        self._outlets, self._shown, export_lacks = open_outlets(
            settings, self._host, self._clock.unix_ns(), lambda: self.keeper.snapshot
        )
        self._source_lacks = (*lacks, *worth_telling(found), *more_lacks, *export_lacks)
        for source in found.sources:
            metering.add_device(source.device)
        metering.own_process(os.getpid())
        self._inbox = Inbox(
            settings.agent.socket or socket_path(listen=True),
            lambda incoming: self.keeper.put(incoming),
            clock=self._clock,
            boot_id=self._boot_id,
            gone=lambda producer: self.keeper.put(ProducerGone(producer)),
        )
        self.keeper = Keeper(
            clock=self._clock,
            metering=metering,
            outbox=self._inbox,
            store=ledger,
            boot_id=self._boot_id,
            version=__version__,
            host=self._host,
            tag_keys=frozenset(settings.agent.tag_keys),
            talks_to=talks_to,
            server_of=lambda pid, port: server_of(pid, port, self._scraper.health().targets),
            health=self._bring_in,
            resolutions=lambda: vitals.resolutions(self.scraper_health()),
            device_states={state.device: state for state in ledger.device_states()} if ledger else {},
            on_kept=self._outlets.offer,
            carbon=settings.estimates.carbon,
        )
        self._ledger = ledger
        self._watch_processes()
        self._sampler = Sampler(
            found.sources,
            self._usage,
            self._clock,
            self._families.before(self.keeper.put),
            config=settings.sampling,
            rediscover=searching_again(self._find_sources, settings.sources, found.asked, self.sampler_health),
        )
        self._scraper = Scraper((), self._clock, self.keeper.put, settings.engines)
        self._start_threads()

    def _start_threads(self) -> None:
        self._inbox.start()
        self._undo.append(self._inbox.close)
        if self._serve_http:
            self._start_web()
        self._sampler.start()
        self._undo.append(self._sampler.stop)
        self._scraper.start()
        self._undo.append(self._scraper.stop)
        self._outlets.start()
        self._search()
        for name, work in (("search", self._search_loop), ("desk", self._desk_loop)):
            thread = threading.Thread(target=work, name=f"inferwatt-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _start_web(self) -> None:
        self._spans = open_spans(self._settings, self.keeper.put, self._clock, self._undo)
        served = open_web(self._settings, self._ledger, self._shown, self._healthz, self._seats)
        self._undo.append(served.stop)
        self.url = served.url

    def _watch_processes(self) -> None:
        self._families.watch(self._metering.pids)
        if self._usage is not None:
            self._usage.watch(self._metering.pids)

    # Running.

    def _desk_loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self.keeper.set_lacks((*self._source_lacks, *self._search_lacks))
                self.keeper.step()
                busy = self.keeper.is_busy
                sampling = self._settings.sampling
                self._sampler.set_rate(sampling.active_hz if busy else sampling.idle_hz)
                if self._recorder is not None:
                    self._recorder.flush()
                self._chores.do()
            except Exception:
                log.exception("the desk failed at something; it goes on")
                busy = False
            self._stopping.wait(_BUSY_SECONDS if busy else _IDLE_SECONDS)

    def _search_loop(self) -> None:
        while not self._stopping.wait(_SEARCH_AGAIN_SECONDS if self._scraper.health().targets else _SEARCH_SECONDS):
            try:
                self._search()
            except Exception:
                log.exception("the search for servers failed; it is tried again")

    def _search(self) -> None:
        found = discover_engines(self._settings.engines)
        for target in found.engines:
            self._scraper.add(target)
        self._search_lacks = (*found.lacks, *vitals.server_lacks(self.scraper_health(), self._settings.engines.server))

    def wait(self, seconds: float | None = None) -> None:
        """Watch over the threads until `stop` is asked for, or for `seconds`."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self._stopping.is_set() and (until is None or time.monotonic() < until):
            self._woken.wait(_WATCH_SECONDS)
            if self._woken.is_set():
                return
            self._sampler.check(self._clock.monotonic_ns())

    def wake(self) -> None:
        """End `wait`; safe in a signal handler."""
        self._woken.set()

    def stop(self) -> None:
        """End every room: the sampler first, then what it brought is settled and committed, then the rest."""
        self._stopping.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.1))
        desk_is_free = not any(t.is_alive() and t.name == "inferwatt-desk" for t in self._threads)
        undo, self._undo = self._undo, []
        if self._threads and desk_is_free:
            self._sampler.stop()
            self._scraper.stop()
            try:
                self.keeper.finish()
            except Exception:
                log.exception("the last figures could not be settled")
            self._outlets.stop(_FLUSH_SECONDS)
        for end in reversed(undo):
            try:
                end()
            except Exception:
                log.exception("a room did not end well")
        if self._recorder is not None:
            self._recorder.close()

    # Telling.

    def sampler_health(self) -> SamplerHealth:
        """Return how sampling goes."""
        return self._sampler.health()

    def inbox_health(self) -> InboxHealth:
        """Return what the inbox took in and turned away."""
        return self._inbox.health()

    def scraper_health(self) -> ScraperHealth:
        """Return how each server is."""
        return self._scraper.health()

    def _bring_in(self, books: Books) -> frozenset[str]:
        vitals.bring_in_own(self._ledger, self._outlets.health(), self._seats, books)
        vitals.bring_in_spans(self._spans, books)
        return vitals.bring_in(self, books, self._found.asked)

    def _healthz(self) -> dict[str, object]:
        return vitals.healthz(self, self._trouble(), has_failed=self._has_failed())

    def _trouble(self) -> list[str]:
        trouble = vitals.desk_trouble(self.keeper.ledger_error, self.keeper.silent_ns)
        return [*trouble, "a thread has ended"] if self._has_failed() else trouble

    def _has_failed(self) -> bool:
        return any(not thread.is_alive() for thread in self._threads)

    def opening_lines(self) -> list[str]:
        """Return what was found and what is lacking, in at most ten lines."""
        return vitals.opening_lines(self, self._found, (*self._source_lacks, *self._search_lacks), self._host, self.url)
