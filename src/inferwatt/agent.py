"""The composition root: builds the rooms, owns clock, threads and shutdown. Nobody imports it but the command line.

Threads, all daemons, so that a driver that hangs never holds up the exit: the sampler reads devices, the inbox takes
records, the scraper and the search look at servers, the web server answers, and the desk (keeper.py) does the work.
The main thread watches over them and waits for a signal.
"""

import hashlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from inferwatt import __version__
from inferwatt.books import Books, BooksConfig
from inferwatt.clock import Clock, SystemClock, boot_id
from inferwatt.config import Loaded, load
from inferwatt.endpoint import socket_path
from inferwatt.engines.discover import discover_all as discover_engines
from inferwatt.engines.inbox import Inbox
from inferwatt.engines.peers import is_connected
from inferwatt.engines.scrape import Scraper
from inferwatt.engines.servers import EnginesConfig
from inferwatt.errors import InferwattError, LedgerRetry
from inferwatt.export.catalog import CATALOG
from inferwatt.export.process import read_process
from inferwatt.keeper import Keeper, ProducerGone
from inferwatt.ledger.sqlite import Ledger, LedgerConfig
from inferwatt.metering import HOST_COMPONENTS, Metering
from inferwatt.recording import Meta, RecordingWriter
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources import discover_all as discover_sources
from inferwatt.sources.sampler import Sampler, SamplingConfig
from inferwatt.sources.usage import CpuUsage
from inferwatt.views import request_view
from inferwatt.web.access import Access
from inferwatt.web.live import WebConfig, make_app, serve

log = logging.getLogger("inferwatt")

_BUSY_SECONDS = 0.1
_IDLE_SECONDS = 0.25
_WATCH_SECONDS = 0.25
_SEARCH_SECONDS = 5.0
_SEARCH_AGAIN_SECONDS = 30.0
_STOP_SECONDS = 2.0
_PRUNE_SECONDS = 3600.0
_MOST_LACKS_TOLD = 5


class AgentSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[agent]`: where its state and its socket are, and which tags of requests are kept."""

    state_dir: str = ""
    socket: str = ""
    tag_keys: tuple[str, ...] = ("team", "project", "environment", "task")


class TenantsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[tenants]`: whether energy is counted by tenant, and how many are named before they are folded."""

    enabled: bool = True
    max_tenants: int = 1000


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration: one section a room."""

    agent: AgentSection = AgentSection()
    sources: SourcesConfig = SourcesConfig()
    sampling: SamplingConfig = SamplingConfig()
    engines: EnginesConfig = EnginesConfig()
    tenants: TenantsSection = TenantsSection()
    ledger: LedgerConfig = LedgerConfig()
    web: WebConfig = WebConfig()


def state_folder(section: AgentSection) -> Path:
    """Return where the agent keeps its state: as configured, else by the XDG rules, else /var/lib for a service."""
    if section.state_dir:
        return Path(section.state_dir)
    if os.environ.get("STATE_DIRECTORY"):  # systemd's StateDirectory=
        return Path(os.environ["STATE_DIRECTORY"].split(":")[0])
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "inferwatt"


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
        self._host = socket.gethostname()
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._undo: list[Callable[[], object]] = []
        self._threads: list[threading.Thread] = []
        self._search_lacks: tuple[Lack, ...] = ()
        self._source_lacks: tuple[Lack, ...] = ()
        self.keeper: Keeper
        self.url = ""
        self._recorder = RecordingWriter(record) if record is not None else None

    # Building.

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
        ledger = self._open_ledger()
        books = Books(BooksConfig(settings.tenants.max_tenants, settings.tenants.enabled))
        if ledger is not None:
            books.restore(ledger.counters(), ledger.histograms())
        books.gauge("inferwatt_build_info", (__version__, sys.version.split()[0]), 1)
        found = self._find_sources(settings.sources)
        self._source_lacks = found.lacks
        self._sources = found.sources
        metering = Metering(
            books,
            recorder=self._recorder,
            meta=Meta(host=self._host, boot_id=self._boot_id, agent="inferwatt", version=__version__),
            on_engine=self._watch_processes,
        )
        self._metering = metering
        self._usage = self._make_usage(found)
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
            talks_to=_talks_to,
            health=self._describe_health,
            resolutions=self._resolutions,
            device_states={state.device: state for state in ledger.device_states()} if ledger else {},
        )
        self._ledger = ledger
        self._watch_processes()
        self._sampler = Sampler(
            found.sources,
            self._usage,
            self._clock,
            self.keeper.put,
            config=settings.sampling,
            rediscover=lambda: self._find_sources(settings.sources).sources,
        )
        self._scraper = Scraper((), self._clock, self.keeper.put, settings.engines)
        self._start_threads()

    def _open_ledger(self) -> Ledger | None:
        settings = self._settings.ledger
        if not settings.enabled:
            return None
        folder = state_folder(self._settings.agent)
        path = Path(settings.path) if settings.path else folder / "ledger.sqlite"
        config_hash = hashlib.sha256(msgspec.json.encode(self._settings, order="sorted")).hexdigest()[:16]
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            ledger = Ledger.open(
                path,
                agent_version=__version__,
                config_hash=config_hash,
                boot_id=self._boot_id,
                clock=self._clock,
                config=settings,
            )
        except (LedgerRetry, OSError) as exc:
            what = exc.what if isinstance(exc, InferwattError) else f"no ledger: {exc.strerror}"
            self._source_lacks = (*self._source_lacks, Lack(what, str(path), "--state-dir FOLDER"))
            return None
        self._undo.append(ledger.close)
        return ledger

    def _make_usage(self, found: Found) -> CpuUsage | None:
        devices = [s.device.device for s in found.sources if s.device.component in HOST_COMPONENTS]
        if not devices:
            return None
        try:
            usage = CpuUsage(devices, os.cpu_count() or 1, proc_root=self._settings.sources.proc_root)
        except OSError as exc:
            lack = Lack(
                f"the use of the CPU by processes cannot be read: {exc.strerror}",
                self._settings.sources.proc_root,
                "mount /proc",
            )
            self._source_lacks = (*self._source_lacks, lack)
            return None
        self._undo.append(usage.close)
        return usage

    def _start_threads(self) -> None:
        self._inbox.start()
        self._undo.append(self._inbox.close)
        if self._serve_http:
            self._start_web()
        self._sampler.start()
        self._undo.append(self._sampler.stop)
        self._scraper.start()
        self._undo.append(self._scraper.stop)
        self._search()
        for name, work in (("search", self._search_loop), ("desk", self._desk_loop)):
            thread = threading.Thread(target=work, name=f"inferwatt-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _start_web(self) -> None:
        web = self._settings.web
        access = Access.of(web)
        app = make_app(
            lambda: self.keeper.snapshot,
            find_requests=self._find_requests,
            health=self._health,
            access=access,
        )
        served = serve(app, web.listen)
        self._undo.append(served.stop)
        self.url = served.url

    def _watch_processes(self) -> None:
        if self._usage is not None:
            self._usage.watch(self._metering.pids)

    # Running.

    def _desk_loop(self) -> None:
        pruned = time.monotonic()
        while not self._stopping.is_set():
            try:
                self.keeper.lacks = (*self._source_lacks, *self._search_lacks)
                self.keeper.step()
                busy = self.keeper.is_busy
                sampling = self._settings.sampling
                self._sampler.set_rate(sampling.active_hz if busy else sampling.idle_hz)
                if self._recorder is not None:
                    self._recorder.flush()
                if self._ledger is not None and time.monotonic() - pruned > _PRUNE_SECONDS:
                    pruned = time.monotonic()
                    self._ledger.prune()
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
        self._search_lacks = found.lacks

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
        for end in reversed(undo):
            try:
                end()
            except Exception:
                log.exception("a room did not end well")
        if self._recorder is not None:
            self._recorder.close()

    # Telling.

    def _describe_health(self, books: Books) -> frozenset[str]:
        """Bring the rooms' own counts into the books; return the devices that are stale."""
        sampler = self._sampler.health()
        up: dict[str, bool] = {}
        for source in sampler.sources:
            if source.source != "usage":
                up[source.source] = up.get(source.source, True) and source.up
            books.count_to("inferwatt_samples_total", (source.device,), source.samples)
            books.count_to("inferwatt_samples_lost_total", (source.device,), source.lost)
        if not any(source.source == "rapl" for source in sampler.sources):
            up["rapl"] = False
        for name, is_up in up.items():
            books.gauge("inferwatt_source_up", (name,), int(is_up))
        inbox = self._inbox.health()
        for reason, count in {**inbox.rejected, **inbox.refused}.items():
            books.count_to("inferwatt_records_dropped_total", (f"inbox_{reason}",), count)
        for target in self._scraper.health().targets:
            books.count_to("inferwatt_scrapes_total", (target.name,), target.pages + target.failures)
            books.count_to("inferwatt_scrape_failures_total", (target.name, "page"), target.failures)
        if self._ledger is not None:
            books.count_to("inferwatt_ledger_set_aside_total", (), self._ledger.set_aside)
        for name, value in read_process().items():
            if name in CATALOG:
                books.gauge(name, (), value)
        return frozenset(source.device for source in sampler.sources if source.stale)

    def _resolutions(self) -> Mapping[str, int]:
        return {target.name: target.resolution_tokens for target in self._scraper.health().targets}

    def _health(self) -> dict[str, Any]:
        """Return what `/healthz` says; only from memory, so that it answers while a device hangs."""
        sampler = self._sampler.health()
        bad = [s.device for s in sampler.sources if s.stale or (s.samples and not s.up)]
        trouble = [*(f"device {name} does not answer" for name in bad)]
        if self.keeper.ledger_error:
            trouble.append("the ledger cannot be written")
        if any(not thread.is_alive() for thread in self._threads):
            trouble.append("a thread has ended")
        return {
            "status": "degraded" if trouble else "ok",
            "trouble": trouble,
            "version": __version__,
            "devices": [asdict(source) for source in sampler.sources],
            "servers": [{"name": t.name, "url": t.url, "state": t.state} for t in self._scraper.health().targets],
        }

    def _find_requests(self, **query: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - the web room's query, as it is
        """Return ended requests from the ledger, newest first, as the API shows them."""
        if self._ledger is None:
            return [msgspec.to_builtins(view) for view in self.keeper.snapshot.live.requests[: query.get("limit", 20)]]
        name = query.pop("request_id", None)
        rows = self._ledger.find(name) if name else self._ledger.requests(**query)
        return [
            msgspec.to_builtins(request_view(row.request, row.energy, row.server, row.end_unix_ns / 1e9))
            for row in rows
        ]

    def describe(self) -> list[str]:
        """Return what was found and what is lacking, in at most ten lines."""
        lines = [f"inferwatt {__version__} on {self._host}" + (f": {self.url}/" if self.url else "")]
        devices = [
            f"{s.device.device} ({s.device.provenance.value} ±{s.device.systematic_ratio:.0%}, {s.name})"
            for s in self._sources
        ]
        lines.append("devices: " + (", ".join(devices) or "none"))
        servers = [f"{t.name} at {t.url}" for t in self._scraper.health().targets]
        lines.append("servers: " + (", ".join(servers) or "none yet; looking every few seconds"))
        lacks = (*self._source_lacks, *self._search_lacks)
        lines += [f"lacks: {lack.what} -> {lack.fix}" for lack in lacks[:_MOST_LACKS_TOLD]]
        if len(lacks) > _MOST_LACKS_TOLD:
            lines.append(f"and {len(lacks) - _MOST_LACKS_TOLD} more on the page")
        return lines


def _talks_to(pid: int, url: str) -> bool:
    port = url.rpartition(":")[2].strip("/")
    return port.isdigit() and is_connected(pid, int(port))


def configuration(config: Path | None, flags: Mapping[str, object] | None = None) -> Loaded[AgentConfig]:
    """Return the configuration in force.

    Raises:
        ConfigError: the file, the environment or a flag is wrong.
    """
    names = {"agent.socket": "--socket", "agent.state_dir": "--state-dir", "web.listen": "--listen"}
    return load(AgentConfig, file=config, environ=os.environ, flags=flags, flag_names=names)


def main(
    *,
    config: Path | None = None,
    listen: str | None = None,
    record: Path | None = None,
    state_dir: Path | None = None,
    socket: Path | None = None,
) -> int:
    """Run the agent until SIGINT or SIGTERM; return the exit status.

    Raises:
        InferwattError: it cannot start.
    """
    flags = {
        "web.listen": listen,
        "agent.state_dir": None if state_dir is None else str(state_dir),
        "agent.socket": None if socket is None else str(socket),
    }
    return _run(Agent(configuration(config, flags).value, record=record), None)


def record(folder: Path, *, duration_seconds: float | None = None, config: Path | None = None) -> int:
    """Record live sources into `folder` until SIGINT, SIGTERM or the end of the duration; return the exit status.

    Raises:
        InferwattError: it cannot start.
    """
    settings = msgspec.structs.replace(configuration(config).value, ledger=LedgerConfig(enabled=False))
    return _run(Agent(settings, record=folder, serve_http=False), duration_seconds)


def _run(agent: Agent, duration_seconds: float | None) -> int:
    _log_to_stderr()
    before = {number: signal.signal(number, lambda *_: agent.wake()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        agent.start()
        _tell(agent.describe())
        agent.wait(duration_seconds)
    finally:
        agent.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        log.info("%s", line)


def _log_to_stderr() -> None:
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
