"""One run of the demo: server, agent and load as children, the table in this process, and a summary at the end.

The agent is a process of its own, so that its own energy is told apart, and it finds the server as it would find
anybody's. Ctrl-C or SIGTERM ends the load first, then waits for the last figures, then ends agent and server.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from inferwatt import endpoint, replay
from inferwatt.demo import pages, summary, table
from inferwatt.demo.load import GRACE_SECONDS
from inferwatt.demo.server import check_installed
from inferwatt.demo.tree import Child
from inferwatt.errors import Unavailable
from inferwatt.ledger.queries import LedgerReader
from inferwatt.snapshot import LiveView

_READY_SECONDS = 20.0
_TABLE_SECONDS = 0.5
_LINE_SECONDS = 5.0
_LOAD_ENDS_SECONDS = 2 * GRACE_SECONDS + 0.5
_FINAL_SECONDS = 3.0
_AGENT_ENDS_SECONDS = 5.0
_SERVER_ENDS_SECONDS = 2.0
_LEDGER_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; `duration` in seconds, None is until Ctrl-C; `rate` in requests a second."""

    duration: float | None = None
    as_json: bool = False
    port: int = 9595
    no_browser_hint: bool = False
    record: Path | None = None
    rate: float = 1.0
    seed: int = 1


def main(options: Options) -> int:
    """Run the demo and print the summary; return the exit status (1 where replay and live figures differ).

    Raises:
        Unavailable: the extra is not installed, or a child cannot be started or ended early.
    """
    check_installed()
    with endpoint.temporary_folder("inferwatt-demo-") as folder, _stop_by_signal() as stop:
        document = Session(options, Path(folder), stop).run()
    click.echo(json.dumps(document) if options.as_json else summary.as_text(document))
    return 0 if document["replay"]["matches"] else 1


@contextlib.contextmanager
def _stop_by_signal() -> Iterator[threading.Event]:
    """Yield what the first SIGINT, SIGTERM or SIGHUP sets; the second SIGINT ends all at once."""
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Session:
    """Starts the children, shows what the agent shows, and ends them in order."""

    def __init__(self, options: Options, folder: Path, stop: threading.Event) -> None:
        self._options = options
        self._folder = folder
        self._stop = stop
        self._recording = options.record or folder / "recording"
        self._state = folder / "state"
        self._socket = folder / endpoint.NAME
        self._children = contextlib.ExitStack()
        self._address = ""
        self._view: LiveView | None = None
        self._started = 0.0

    def run(self) -> summary.Document:
        """Run from the first child to the summary."""
        self._started = time.monotonic()
        with self._children:
            server, server_address = self._start_server()
            agent = self._start_agent()
            load = self._start_load(server_address)
            self._show((server, agent, load))
            duration_seconds = time.monotonic() - self._started
            clients = self._end_load(load)
            self._wait_for_final_figures()
            server_tokens = pages.server_tokens(server_address)
            lacks = pages.as_lacks(self._view)
            agent.end(_AGENT_ENDS_SECONDS)
        run = {
            "duration_seconds": duration_seconds,
            "seed": self._options.seed,
            "rate": self._options.rate,
            "lacks": lacks,
            "recording": None if self._options.record is None else str(self._options.record),
        }
        replayed = replay.replay(self._recording)
        return summary.summarise(replayed, self._settled(), server_tokens=server_tokens, clients=clients, run=run)

    def _start_server(self) -> tuple[Child, str]:
        server = self._child("server", "-m", "inferwatt.demo.server", ends_in_seconds=_SERVER_ENDS_SECONDS)
        address = str(json.loads(_first_line(server))["address"])
        pages.wait_until_ready(server, f"{address}/health", _READY_SECONDS)
        return server, address

    def _start_agent(self) -> Child:
        port = free_port(self._options.port)
        if port != self._options.port and self._options.port:
            click.echo(f"port {self._options.port} is taken: the page is on port {port}", err=True)
        self._address = f"http://127.0.0.1:{port}"
        agent = self._child(
            "agent",
            *("-m", "inferwatt", "agent", "--listen", f"127.0.0.1:{port}", "--record", str(self._recording)),
            *("--state-dir", str(self._state), "--socket", str(self._socket)),
            ends_in_seconds=_AGENT_ENDS_SECONDS,
            at_parents_death=signal.SIGTERM,
        )
        until = time.monotonic() + _READY_SECONDS
        while not pages.is_up(f"{self._address}/healthz"):  # one that is not well yet is up
            agent.check()
            if time.monotonic() > until:
                raise Unavailable("the demo's agent did not get ready", where=self._address, fix="run it again")
            self._stop.wait(0.05)
        return agent

    def _start_load(self, server_address: str) -> Child:
        rate, seed = str(self._options.rate), str(self._options.seed)
        arguments = ("--server", server_address, "--rate", rate, "--seed", seed)
        return self._child("load", "-m", "inferwatt.demo.load", *arguments, ends_in_seconds=_LOAD_ENDS_SECONDS)

    def _child(
        self, name: str, *arguments: str, ends_in_seconds: float, at_parents_death: int = signal.SIGKILL
    ) -> Child:
        settings = {key: value for key, value in os.environ.items() if not key.startswith("INFERWATT_")}
        child = Child(
            name,
            [sys.executable, *arguments],
            folder=self._folder,
            environment={**settings, "INFERWATT_SOCKET": str(self._socket)},
            at_parents_death=at_parents_death,
        )
        self._children.callback(child.end, ends_in_seconds)
        return child

    def _show(self, children: tuple[Child, ...]) -> None:
        """Show the agent's figures until the end of the duration, a signal, or the end of a child."""
        console = Console()
        if self._options.as_json:
            self._watch(children, _TABLE_SECONDS, lambda _elapsed_seconds: None)
        elif not console.is_terminal:
            if not self._options.no_browser_hint:
                click.echo(f"page: {self._address}/   {table.ending(self._options.duration)}")
            self._watch(
                children, _LINE_SECONDS, lambda elapsed: click.echo(table.line(self._view, elapsed_seconds=elapsed))
            )
        else:
            with Live(console=console, auto_refresh=False, transient=True) as live:
                self._watch(children, _TABLE_SECONDS, lambda elapsed: live.update(self._table(elapsed), refresh=True))

    def _table(self, elapsed_seconds: float) -> Any:  # noqa: ANN401 - whatever rich can print
        address = None if self._options.no_browser_hint else f"{self._address}/"
        ends = table.ending(self._options.duration)
        return table.render(self._view, elapsed_seconds=elapsed_seconds, address=address, ends=ends)

    def _watch(self, children: tuple[Child, ...], period_seconds: float, show: Any) -> None:  # noqa: ANN401
        next_at = 0.0
        while True:
            for child in children:
                child.check()
            elapsed_seconds = time.monotonic() - self._started
            duration = self._options.duration
            if duration is not None and elapsed_seconds >= duration:
                return
            if elapsed_seconds >= next_at:
                had_devices = self._has_devices()
                self._view = pages.live_view(self._address) or self._view
                if not next_at or self._has_devices():
                    show(elapsed_seconds)
                # the first figures are there within a second or two: until then look often, and say so once
                next_at = elapsed_seconds + (period_seconds if had_devices else _TABLE_SECONDS)
            if self._stop.wait(min(_TABLE_SECONDS, period_seconds, 0.2)):
                return

    def _has_devices(self) -> bool:
        return self._view is not None and bool(self._view.devices)

    def _end_load(self, load: Child) -> Mapping[str, int] | None:
        """End the load and return what its clients saw, None where it did not say."""
        load.ask_to_end()
        try:
            out, _ = load.process.communicate(timeout=_LOAD_ENDS_SECONDS)
            seen: dict[str, int] = json.loads(out)
        except Exception:  # noqa: BLE001 - without its word the summary goes on
            return None
        return seen

    def _wait_for_final_figures(self) -> None:
        """Wait until no request is open, at most three seconds; the agent settles the rest when it ends."""
        until = time.monotonic() + _FINAL_SECONDS
        while time.monotonic() < until:
            self._view = pages.live_view(self._address) or self._view
            if self._view is not None and not any(model.open_requests for model in self._view.models):
                return
            time.sleep(0.2)

    def _settled(self) -> summary.Accounts:
        """Return what the agent had settled, from its ledger."""
        reader = LedgerReader.open(self._state / "ledger.sqlite")
        try:
            requests_uj: dict[str, int] = {}
            before_seq: int | None = None
            while rows := reader.requests(_LEDGER_PAGE, before_seq=before_seq):
                before_seq = rows[-1].seq
                for row in rows:
                    requests_uj.setdefault(row.request.request, row.energy.energy_uj if row.energy else 0)
            devices_uj: dict[str, int] = {}
            for labels, uj in reader.counters().get("inferwatt_device_energy_joules_total", {}).items():
                devices_uj[labels[0]] = devices_uj.get(labels[0], 0) + int(uj)
        finally:
            reader.close()
        return summary.Accounts(requests_uj, devices_uj)


def _first_line(child: Child) -> bytes:
    """Return a child's first line of output.

    Raises:
        Unavailable: it ended, or said nothing in time.
    """
    ready, _, _ = select.select([child.output], [], [], _READY_SECONDS)
    line = child.output.readline() if ready else b""
    if not line.strip():
        with contextlib.suppress(Exception):
            child.process.wait(1)
        child.check()
        raise Unavailable(f"the demo's {child.name} said nothing", where=child.name, fix="run it again")
    return line


def free_port(wanted: int) -> int:
    """Return `wanted` if it can be listened on, else a free port."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable("no port is free", where="127.0.0.1", fix="--port PORT")
