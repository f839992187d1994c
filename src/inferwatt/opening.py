"""What an agent opens at its start: the ledger, the view of who uses the CPU, the web server, the exporters."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from inferwatt import __version__
from inferwatt.answers import Answers
from inferwatt.clock import Clock
from inferwatt.engines.session import Incoming
from inferwatt.errors import ConfigError, LedgerRetry, Unavailable
from inferwatt.export.exporter import About, of_kubernetes
from inferwatt.export.exporters import open_all
from inferwatt.export.outlet import Outlets
from inferwatt.export.process import read_process
from inferwatt.export.switches import Switches
from inferwatt.ledger.sqlite import Ledger
from inferwatt.loopback import is_loopback
from inferwatt.placement import HOST_COMPONENTS
from inferwatt.records import HOST
from inferwatt.settings import AgentConfig, state_folder
from inferwatt.snapshot import Lack, Snapshot
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.usage import CpuUsage
from inferwatt.spans.decoding import protobuf
from inferwatt.spans.genai import PRODUCER
from inferwatt.spans.receiver import Receiver
from inferwatt.web.access import open_access, split_listen
from inferwatt.web.guard import sees_details
from inferwatt.web.live import make_app
from inferwatt.web.server import Serving, serve
from inferwatt.web.stream import Seats


def ledger_path(settings: AgentConfig) -> Path:
    """Return where the ledger is."""
    return Path(settings.ledger.path or state_folder(settings.agent) / "ledger.sqlite")


def open_ledger(settings: AgentConfig, boot_id: str, clock: Clock) -> tuple[Ledger | None, tuple[Lack, ...]]:
    """Open the ledger; without one the meter runs all the same, and the lack says why.

    Raises:
        Unavailable: another agent has it open.
    """
    if not settings.ledger.enabled:
        return None, ()
    path = ledger_path(settings)
    config_hash = hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()[:16]
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        ledger = Ledger.open(
            path,
            agent_version=__version__,
            config_hash=config_hash,
            boot_id=boot_id,
            clock=clock,
            config=settings.ledger,
        )
    except LedgerRetry as exc:
        return None, (Lack(exc.what, exc.where, exc.fix),)
    except OSError as exc:
        return None, (Lack(f"no ledger: {exc.strerror}", str(path), "--state-dir FOLDER"),)
    return ledger, ()


def open_usage(found: Found, settings: SourcesConfig) -> tuple[CpuUsage | None, tuple[Lack, ...]]:
    """Open the view of who uses the CPU, for the devices of the host that were found."""
    if not any(source.device.component in HOST_COMPONENTS for source in found.sources):
        return None, ()
    try:
        return CpuUsage((HOST,), os.cpu_count() or 1, proc_root=settings.proc_root), ()
    except OSError as exc:
        what = f"the use of the CPU by processes cannot be read: {exc.strerror}"
        return None, (Lack(what, settings.proc_root, "mount /proc"),)


def open_web(
    settings: AgentConfig,
    ledger: Ledger | None,
    snapshot: Callable[[], Snapshot],
    health: Callable[[], Mapping[str, object]],
    seats: Seats,
) -> Serving:
    """Serve the page, the metrics and the API from a thread of their own.

    Raises:
        InferwattError: the port is taken, or who may see what is not configured well.
    """
    app = make_app(
        snapshot,
        find_requests=Answers(ledger, snapshot),
        health=health,
        static_dir=Path(__file__).parent / "web" / "static",
        access=open_access(settings.web),
        process=read_process,
        seats=seats,
    )
    return serve(app, settings.web.listen)


def open_spans(
    settings: AgentConfig, take: Callable[[Incoming], None], clock: Clock, undo: list[Callable[[], object]]
) -> Counter[str]:
    """Take spans of calls to managed APIs, where that is configured; return what became of them, which goes on.

    Raises:
        InferwattError: the port is taken, others could reach it without a token, or the extra is not installed.
    """
    listen = settings.spans.listen
    if not listen:
        return Counter()
    access = open_access(settings.web)
    if not access.token and not is_loopback(split_listen(listen)[0]):
        what = f"spans.listen is {listen}, which others can reach, and web.token_file names no token"
        raise ConfigError(what, where="spans.listen", fix='listen = "127.0.0.1:4318", or set web.token_file')
    protobuf()  # now, not with the first span
    receiver = Receiver(
        settings.spans,
        lambda request: take(Incoming(PRODUCER, 0, 0, request, clock.monotonic_ns())),
        lambda: clock.unix_ns() - clock.monotonic_ns(),
        lambda scope: sees_details(scope, access),
    )
    try:
        undo.append(serve(receiver, listen).stop)
    except Unavailable as exc:
        raise Unavailable(exc.what, where=f"spans.listen {listen}", fix="take another port: spans.listen") from exc
    return receiver.counts


def open_outlets(
    settings: AgentConfig, host: str, started_unix_ns: int, snapshot: Callable[[], Snapshot]
) -> tuple[Outlets, Callable[[], Snapshot], tuple[Lack, ...]]:
    """Open the exporters; return them, and the snapshot without what is switched off.

    Raises:
        InferwattError: one is configured wrong, or its extra is not installed.
    """
    switches = Switches(settings.export.families_off, settings.export.labels_off)
    about = About(host, __version__, started_unix_ns, of_kubernetes(os.environ))
    exporters, lacks = open_all(settings.export, about)

    def shown() -> Snapshot:
        return switches.shown(snapshot())

    folder = ledger_path(settings).parent if settings.ledger.enabled else None
    return Outlets(exporters, shown, folder), shown, lacks
