"""The meter without threads: everything that arrives goes in here, in order, and what is settled comes out.

It joins what the rooms say: pids of processes with the engines that they serve, requests with the engine that
computed them. It writes each record that the attribution takes to the recorder, in that order, so that a replay
takes them in the same order. It has no clock and no socket: the agent, a test and `sdk.meter()` drive it alike.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from inferwatt.attribution.accounts import TickEnergy
from inferwatt.attribution.attributor import Attributor, moved_to
from inferwatt.attribution.timeline import Timeline
from inferwatt.books import Books
from inferwatt.errors import RecordRejected
from inferwatt.ledger.rows import REQUEST_ACCOUNT
from inferwatt.placement import Placement
from inferwatt.recording import Meta, Record
from inferwatt.records import (
    Device,
    Engine,
    Event,
    EventKind,
    Fit,
    Model,
    Outcome,
    Place,
    Reading,
    Request,
    RequestEnergy,
    Sums,
    Usage,
)
from inferwatt.residual import SERVER_DOMAIN, Residual
from inferwatt.settled import Settled
from inferwatt.tallies import accounts_of
from inferwatt.transcript import Recorder, Transcript

HOLD_NS = 1_300_000_000
"""How long a tick waits for what is still to be said of it: a server's page is read once a second."""
SILENT_NS = 2_000_000_000
"""How long no device may be read before time goes on without them."""


class Metering:
    """Feed it what arrives; take what is settled from `take`."""

    def __init__(
        self,
        books: Books,
        *,
        hold_ns: int = HOLD_NS,
        recorder: Recorder | None = None,
        meta: Meta | None = None,
        on_engine: Callable[[], None] = lambda: None,
    ) -> None:
        self.books = books
        meta = replace(meta or Meta(), hold_ns=hold_ns)
        self._attributor = Attributor(hold_ns=hold_ns, fits=meta.fits)
        self._transcript = Transcript(recorder, meta, lambda: books.dropped("recording"))
        self._on_engine = on_engine
        self._engines: dict[str, Engine] = {}
        self._models: dict[str, Model] = {}
        self._devices: dict[str, Device] = {}
        self._owners: dict[str, Request] = {}
        self._placement = Placement()
        self._residual: Residual | None = None
        self._settled = Settled()
        self._newest_ns = 0

    # What there is.

    def add_device(self, device: Device) -> None:
        """Make a device known; servers that run on the host's own parts run on this one too, if it is one."""
        if device.device in self._devices:
            return
        if device.domain == SERVER_DOMAIN:  # it contains the others: only what is left of it is a device of its own
            self._residual = self._residual or Residual(device, self._devices, self._attributor.timelines)
            return
        self._devices[device.device] = device
        self._placement.add_device(device)
        self._attributor.add_device(device)
        self.books.add_device(device)
        for engine in list(self._engines.values()):
            self._add_engine(engine)
        self._write_meta()

    def own_process(self, pid: int) -> None:
        """Say which process is inferwatt itself: its energy is counted apart, within other processes."""
        self._placement.own_process(pid)

    def add_model(self, model: Model) -> None:
        """Make a model's shape known; one that is known without its shape gets it."""
        known = self._models.get(model.model)
        if known is None or (known.flops_per_token is None and model.flops_per_token is not None):
            self._models[model.model] = model
            self._attributor.add_model(model)

    def engine_seen(
        self,
        engine: Engine,
        model: Model | None,
        pids: Iterable[int],
        t_ns: int,
        version: str = "",
        place: Place | None = None,
    ) -> None:
        """Make an engine known, or better known: its model, its processes, its devices, where it runs."""
        if model is not None:
            self.add_model(model)
        known = self._engines.get(engine.engine)
        self._placement.seen(engine, pids, place)
        self._add_engine(engine)
        self.books.add_engine(self._engines[engine.engine], version, self._placement.place_of(engine).names)
        if known is None:
            self._take(Event(t_ns, EventKind.MODEL_LOAD, engine=engine.engine, detail=engine.model))
        self._write_meta()
        self._on_engine()

    def _add_engine(self, engine: Engine) -> None:
        placed = self._placement.placed(engine)
        self._engines[engine.engine] = placed
        self._attributor.add_engine(placed)

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The engines by name."""
        return self._engines

    @property
    def pids(self) -> frozenset[int]:
        """The processes whose use of the host is to be watched."""
        return self._placement.pids

    # What happens.

    def feed(self, record: Record | Usage) -> bool:
        """Take one record; return whether it was taken (if not, it was counted by its reason)."""
        if isinstance(record, Usage):
            record = self._placement.joined(record)
            self._move(self._placement.take_moved())
        elif self._residual is not None and getattr(record, "device", "") == self._residual.server.device:
            return self._of_server(self._residual, record)
        try:
            self._take(record)
        except RecordRejected as exc:
            self.books.dropped(exc.reason)
            return False
        now_ns = moved_to(record)
        if now_ns is not None:
            self._newest_ns = max(self._newest_ns, now_ns)
            self._settle(self._newest_ns)
        elif isinstance(record, Sums):
            self.books.sums(record)
            self._placement.worked(record)
        return True

    def request(self, request: Request, engine: str = "", *, keeps_model: bool = False) -> bool:
        """Take what is known of a request of `engine` (else of the one it names); return whether it was taken.

        It goes by the engine's model, unless it `keeps_model`: an engine may serve adapters of it, by other names.
        """
        engine = engine or request.engine
        known = self._engines.get(engine)
        is_engines = known is not None and known.model and not (keeps_model and request.model)
        model = known.model if known is not None and is_engines else request.model
        if engine != request.engine or model != request.model:
            request = replace(request, engine=engine, model=model)
        taken = self.feed(self._placement.stamped(request))
        if taken:
            self.books.expect(request)
        if taken and request.end_ns is None:
            self._owners[request.request] = request
        elif taken:
            self._owners.pop(request.request, None)
        return taken

    def producer_gone(self, producer: str, now_ns: int) -> None:
        """End the open requests of a producer that will not come back."""
        for request in [r for r in self._owners.values() if r.producer == producer]:
            self.request(replace(request, end_ns=max(now_ns, request.arrival_ns), outcome=Outcome.ABORTED))

    def _take(self, record: Record) -> None:
        self._attributor.feed(record)
        self._transcript.write(record)

    def _of_server(self, residual: Residual, record: Record) -> bool:
        """Take what the whole server's meter said, and feed what it leaves for the overhead."""
        if isinstance(record, Event):
            residual.failed(record)
            self.books.events([record])
            return True
        left = residual.take(record) if isinstance(record, Reading) else ()
        if residual.device is not None:
            self.add_device(residual.device)
        for each in left:
            if isinstance(each, Event):
                self.books.events([each])
            self.feed(each)
        return True

    def _move(self, names: Iterable[str]) -> None:
        """Place engines anew whose processes were found on another accelerator."""
        for name in names:
            self._add_engine(self._engines[name])
            self._write_meta()

    def _settle(self, now_ns: int, *, last: bool = False) -> None:
        closed = self._attributor.advance(now_ns, last=last)
        self._settled.add(closed)
        if closed.late:
            self.books.add("inferwatt_windows_late_total", (), closed.late)

    def _count_own(self, tick: TickEnergy) -> None:
        """Count the agent's own energy: its part of other processes (the newest shares stand for the tick)."""
        own_part = self._placement.own_part(tick.device) if tick.other_uj else 0.0
        if own_part:
            provenance = self._devices[tick.device].provenance.value
            own_uj = round(tick.other_uj * own_part)
            self.books.add("inferwatt_agent_energy_joules_total", (provenance,), own_uj)

    def _count_moved(self, moved: TickEnergy) -> None:
        """Count what late records moved of ticks that are closed: what was counted of those stands."""
        provenance = self._devices[moved.device].provenance.value
        for account, _, uj in accounts_of(moved):
            if uj:
                self.books.add("inferwatt_corrections_joules_total", (account, REQUEST_ACCOUNT, provenance), -uj)

    # What comes of it.

    def take(self) -> Settled:
        """Book the ticks that were closed since the last call; return them, one a device, and what is final."""
        self.books.events(self._attributor.take_events())
        settled, self._settled = self._settled.merged(), Settled()
        for tick in settled.ticks:
            self.books.tick(tick)
            self._count_own(tick)
        for moved in settled.corrections:
            self._count_moved(moved)
        return settled

    @property
    def has_settled(self) -> bool:
        """Whether `take` has a final request to give."""
        return bool(self._settled.requests)

    def finish(self) -> None:
        """Close everything that is open, at the end."""
        self._settle(self._newest_ns, last=True)
        self._write_meta()

    def energy(self, request: str) -> RequestEnergy | None:
        """Return what is settled so far of an open request."""
        return self._attributor.energy(request)

    def open_requests(self) -> list[Request]:
        """Return the requests that have not ended."""
        return list(self._owners.values())

    def beat(self, now_ns: int) -> None:
        """Let time go on where no device is read: what is due becomes final, without joules."""
        if now_ns - self._newest_ns >= SILENT_NS:
            self.feed(Event(now_ns, EventKind.BEAT))

    def closed_counters(self) -> dict[str, tuple[int, int]]:
        """Return, by device, until when its counter is settled, and what it showed then, µJ."""
        return self._attributor.closed_counters()

    def timelines(self) -> Mapping[str, Timeline]:
        """Return each device's timeline."""
        return self._attributor.timelines()

    def fits(self) -> tuple[Fit, ...]:
        """Return what is learnt by now, to begin from the next time."""
        return self._attributor.fits()

    @property
    def device_totals(self) -> Mapping[str, Mapping[str, int]]:
        """Each device's accounts since the start, µJ."""
        return {name: totals.accounts() for name, totals in self._attributor.devices.items()}

    # The recording.

    def add_clock_pair(self, monotonic_ns: int, unix_ns: int) -> None:
        """Note what time it is on the wall, for the recording."""
        self._transcript.describe(clock=(*self._transcript.meta.clock, (monotonic_ns, unix_ns)))

    @property
    def recorder_error(self) -> str:
        """Why the recording ended early; empty where it did not."""
        return self._transcript.error

    def _write_meta(self) -> None:
        self._transcript.describe(
            engines=tuple(self._engines.values()),
            models=tuple(self._models.values()),
            devices=tuple(self._devices.values()),
        )
