"""What plugins inside servers say: which engine a plugin is of, its steps, and its requests. No I/O.

Where a plugin tells who was in each step, only its records get joules. What others tell of the same requests
(witnesses.py) corrects them and adds to them, and is never a second charge.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from inferwatt.callers import Clients, together
from inferwatt.engines.plugged import ANSWER, VLLM, Ends, Plugged, PluginSeen, Steps
from inferwatt.engines.session import Incoming
from inferwatt.engines.vllm_server import Found
from inferwatt.metering import Metering
from inferwatt.ports import Store, told_of
from inferwatt.receipts import Receipts
from inferwatt.records import Engine, Event, EventKind, Outcome, Request, RequestEnergy, Step, Sums, Tier
from inferwatt.snapshot import EngineView, Lack
from inferwatt.units import NS_PER_SECOND
from inferwatt.witnesses import FrontEnds, Known

HOLD_NS = 8 * NS_PER_SECOND // 10
"""How long an ended request waits for what its other witnesses say; its joules are settled later anyway."""
ABORT_HOLD_NS = 2 * NS_PER_SECOND
"""The same for what was an abort to the engine: it may be a stop string, and a busy front end says so late."""
RESTART_NS = 5 * NS_PER_SECOND
"""By then all producers of a server have found an agent that has started anew."""
LOOK_NS = NS_PER_SECOND
UNSERVED = "vllm"
"""The server of an engine behind which nobody listens: vLLM inside a program."""


@dataclass(slots=True)
class _Plugin:
    seen: PluginSeen
    engine: str = ""
    dropped: int = 0
    look_ns: int = 0
    """When its server is looked for again."""
    server: str = ""
    """Of one that answers clients: the server that it is in."""


class Plugins:
    """Knows the plugins and their open requests; the desk asks it what to meter.

    Args:
        metering: where engines and steps go.
        receipts: what is owed to producers.
        server_of: which server the process of a plugin belongs to, which was told to listen on a port.
        since_ns: when the agent started: steps from before are in no tick.
        listens: told where the server of an engine listens.
        store: where requests from before the agent's start are kept.
    """

    def __init__(
        self,
        metering: Metering,
        receipts: Receipts,
        server_of: Callable[[int, int | None], Found | None] = lambda _pid, _port: None,
        since_ns: int = 0,
        listens: Callable[[str, str], object] = lambda _engine, _url: None,
        store: Store | None = None,
    ) -> None:
        self._metering, self._listens, self._store = metering, listens, store
        self._receipts = receipts
        self._server_of = server_of
        self._since_ns = since_ns
        self._plugins: dict[str, _Plugin] = {}
        self._known: dict[str, Known] = {}
        self._held: list[tuple[int, str]] = []
        self._again: list[tuple[str, RequestEnergy]] = []
        """What the agent before has kept, and who asks for it."""
        self._fronts = FrontEnds(receipts)
        self._restart_ns = since_ns + RESTART_NS
        self._clients = Clients(receipts, self._unknown, self._restart_ns)

    # Who there is.

    def take(self, said: Plugged) -> None:
        """Take what a plugin says."""
        match said:
            case PluginSeen():
                self._seen(said)
            case Steps():
                self._receipts.came(said.producer, said.seq)
                self._receipts.done(said.producer, said.seq)
                self._steps(said)
            case Ends():
                self._fronts.add(said)

    def _seen(self, seen: PluginSeen) -> None:
        """A plugin has said hello; its model's shape is known before its server is found."""
        plugin = self._plugins.setdefault(seen.producer, _Plugin(seen))
        plugin.seen = seen
        if seen.is_of_engine and seen.model.model:
            self._metering.add_model(seen.model)
            self._place(plugin, seen.t_ns)

    def named(self, incoming: Incoming) -> Incoming:
        """Return a record with the server that it is of, where its producer answers clients inside of one."""
        plugin = self._plugins.get(incoming.producer)
        if plugin is None or plugin.seen.role != ANSWER:
            return incoming
        if not plugin.server and incoming.received_ns >= plugin.look_ns:
            plugin.look_ns = incoming.received_ns + LOOK_NS
            found = self._server_of(plugin.seen.pid, plugin.seen.port)
            plugin.server = found.name if found is not None else ""
        return replace(incoming, request=replace(incoming.request, engine=plugin.server or UNSERVED))

    def is_engine(self, producer: str) -> bool:
        """Whether a producer is the plugin that tells an engine's requests."""
        known = self._plugins.get(producer)
        return known is not None and known.seen.tells_requests

    def is_exact(self, engine: str) -> bool:
        """Whether a plugin tells the steps of an engine."""
        return Tier.STEP_EXACT in self._tiers(engine)

    def _tiers(self, engine: str) -> set[Tier]:
        """Return how the plugins of an engine tell its requests."""
        tiers = (known.seen.tier for known in self._plugins.values() if known.engine == engine)
        return {tier for tier in tiers if tier is not None}

    def is_witness(self, incoming: Incoming, engine: str) -> bool:
        """Whether a record is of what a plugin tells, or will tell when it has found this agent."""
        plugin = self._plugins.get(incoming.producer)
        may_come = plugin is not None and plugin.seen.role == ANSWER and incoming.received_ns < self._restart_ns
        return may_come or bool(self._tiers(engine))

    def sums(self, sums: Sums) -> None:
        """Take a server's own count; where a plugin tells all, it is a cross-check of the books alone.

        The page of a server with several engines is the sum of them, and can be compared with none.
        """
        if sums.lost_passes:
            self._metering.books.add("inferwatt_records_dropped_total", ("lost_passes",), sums.lost_passes)
        if not self.is_exact(sums.engine):
            self._metering.feed(sums)
        elif not any(known.engine.startswith(f"{sums.engine}/") for known in self._plugins.values()):
            self._metering.books.sums(sums)

    def forget(self, producer: str, now_ns: int) -> None:
        """Forget a plugin that is gone for good; a model without any is not loaded any more."""
        gone = self._plugins.pop(producer, None)
        self._clients.gone(producer)
        for name in [name for name, known in self._known.items() if known.incoming.producer == producer]:
            self._drop(name)
        if gone is not None and gone.engine and not self._tiers(gone.engine):
            event = Event(now_ns, EventKind.MODEL_UNLOAD, engine=gone.engine, detail="its engine has ended")
            self._metering.feed(event)

    def _engine(self, producer: str, now_ns: int) -> str:
        """Return the engine that a plugin is of; who has something to say before anybody listens serves no clients."""
        plugin = self._plugins[producer]
        self._place(plugin, now_ns, is_at_work=True)
        return plugin.engine

    def _place(self, plugin: _Plugin, now_ns: int, *, is_at_work: bool = False) -> None:
        """Find out which engine a plugin is of, so that its processes are watched before they work."""
        seen = plugin.seen
        if plugin.engine or (now_ns < plugin.look_ns and not is_at_work):
            return
        plugin.look_ns = now_ns + LOOK_NS
        server = self._server_of(seen.pid, seen.port)
        if server is None and not is_at_work:
            return
        name, pids, port, host = server or Found(UNSERVED, frozenset({seen.pid}))
        base = name if server else f"{VLLM}:{seen.pid}"
        plugin.engine = f"{base}/{seen.engine_index}" if seen.engine_index else base
        if plugin.engine in self._metering.engines:
            return  # by its page: its devices and processes are known
        engine = Engine(plugin.engine, seen.model.model, server=name, kind=VLLM)
        own = frozenset({seen.pid}) if seen.engine_index else pids
        self._metering.engine_seen(engine, seen.model, own, now_ns, seen.version)
        if port is not None and not seen.engine_index:
            self._listens(plugin.engine, f"http://{host}:{port}")

    # What they say.

    def _steps(self, said: Steps) -> None:
        """Take steps; whoever was in one and was not heard of gets a record."""
        plugin = self._plugins.get(said.producer)
        steps = [step for step in said.steps if step.t1_ns > self._since_ns]
        if plugin is None or not steps:
            return
        if said.dropped > plugin.dropped:
            self._metering.books.add("inferwatt_records_dropped_total", ("plugin",), said.dropped - plugin.dropped)
            plugin.dropped = said.dropped
        engine = self._engine(said.producer, said.received_ns)
        is_whole = len(steps) == len(said.steps)
        for name in said.names if is_whole else {name for step in steps for name, *_ in step.members}:
            if name not in self._known:
                self._unheard(said, name, engine, steps[0].t0_ns)
        for step in steps:
            self._metering.feed(Step(step.t0_ns, step.t1_ns, engine, step.members))

    def _unheard(self, said: Steps, name: str, engine: str, arrival_ns: int) -> None:
        model = self._plugins[said.producer].seen.model.model
        request = Request(name, engine, model, arrival_ns=arrival_ns, producer=said.producer)
        self._know(Incoming(said.producer, said.pid, said.seq, request, said.received_ns))
        self._metering.request(request, engine, keeps_model=True)

    def request(self, incoming: Incoming) -> list[tuple[Incoming, str]]:
        """Take a plugin's record of a request; return what is to be metered now, with its engine."""
        engine = self._engine(incoming.producer, incoming.received_ns)
        known = self._know(incoming)
        if incoming.request.end_ns is not None:
            hold_ns = ABORT_HOLD_NS if incoming.request.outcome is Outcome.ABORTED else HOLD_NS
            due_ns = incoming.received_ns + hold_ns
            if incoming.received_ns < self._restart_ns:  # who else tells of it may find this agent later
                due_ns = max(due_ns, self._restart_ns)
            self._held.append((due_ns, incoming.request.request))
            return []
        return [(known.with_others(), engine)]

    def _know(self, incoming: Incoming) -> Known:
        known = self._known.setdefault(incoming.request.request, Known(incoming))
        known.incoming = incoming
        self._clients.know(incoming.request)
        return known

    def witness(self, incoming: Incoming) -> None:
        """Take what somebody else tells of a request that a plugin tells already."""
        self._clients.add(incoming)

    def _unknown(self, said: Request) -> None:
        """Count a client's record of which no plugin knows the request; the agent before may have kept it whole."""
        kept = told_of(self._store, said) if said.arrival_ns < self._since_ns else []
        self._metering.books.dropped("duplicate" if kept else "witness")
        if energies := [row.energy for row in kept if row.energy is not None]:
            self._again.append((said.producer, together(said.request, energies, final=True)))

    def ready(self, now_ns: int, *, all_of_them: bool = False) -> list[tuple[Incoming, str]]:
        """Return what has waited long enough, or has changed, with all that is known of it and its engine."""
        for plugin in self._plugins.values():
            if not plugin.engine and plugin.seen.is_of_engine:
                self._place(plugin, now_ns)
        changed = self._clients.hear(self._known, now_ns, all_of_them=all_of_them)
        due = {name for due_ns, name in self._held if all_of_them or due_ns <= now_ns}
        self._held = [(due_ns, name) for due_ns, name in self._held if name not in due]
        held = {name for _, name in self._held}
        told = []
        for name in (*(name for name in dict.fromkeys(changed) if name not in held | due), *sorted(due)):
            known = self._known.get(name)
            if known is not None:
                incoming = known.with_others()
                if name in due:
                    incoming = replace(incoming, request=self._fronts.corrected(incoming.request))
                    self._drop(name)
                told.append((incoming, self._engine(incoming.producer, now_ns)))
        self._fronts.forget(now_ns)
        return told

    def _drop(self, name: str) -> None:
        known = self._known.pop(name, None)
        if known is not None:
            self._clients.forget(known.incoming.request)

    # What others are told.

    def settled(self, energies: Iterable[RequestEnergy]) -> list[tuple[str, RequestEnergy]]:
        """Take what is final; return what others than their producers are to be told of it, by producer."""
        for energy in energies:
            self._clients.settled(energy)
        again, self._again = self._again, []
        return [*again, *self._clients.finals()]

    def watched(self) -> list[tuple[str, RequestEnergy]]:
        """Return what is settled so far of the requests that others watch, by producer."""
        return self._clients.watched(self._metering.energy)

    def told(self) -> tuple[EngineView, ...]:
        """Return the servers whose plugin tells their requests, with the best tier that these can have."""
        found: dict[str, EngineView] = {}
        for known in self._plugins.values():
            if known.seen.tier is not None and known.engine:
                server = self._metering.engines[known.engine].server
                found[server] = EngineView(server, VLLM, known.seen.version, known.seen.tier.value)
        return tuple(found.values())

    def lacks(self) -> tuple[Lack, ...]:
        """Return what servers with our plugin lack of what it needs."""
        engines = self._metering.engines
        told = (
            known.seen.lacks(engines[known.engine].server if known.engine else known.server or UNSERVED)
            for known in self._plugins.values()
            if known.seen.role != ANSWER
        )
        return tuple(dict.fromkeys(lack for lacks in told for lack in lacks))

    def answering(self) -> list[tuple[str, str]]:
        """Return the producers that answer clients inside a server, with its name."""
        return [(name, known.server) for name, known in self._plugins.items() if known.server]
