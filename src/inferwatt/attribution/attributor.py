"""The split itself: readings and work in, closed ticks and final requests out. Pure: time comes with the data.

The law: for each device and tick, in whole microjoules, ``energy = requests + unlisted + idle_resident + idle_empty
+ other + unattributed``. The counter decides the total, weights only the shares. A closed tick never changes.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from inferwatt.attribution.accounts import DeviceTotals, Pool, Shares, TickEnergy
from inferwatt.attribution.booking import book
from inferwatt.attribution.correcting import correct
from inferwatt.attribution.engine import EngineState
from inferwatt.attribution.overhead import Overhead
from inferwatt.attribution.pending import Outlook
from inferwatt.attribution.power import Power
from inferwatt.attribution.sharing import QUIET_NS, Sharing
from inferwatt.attribution.slots import SlotTable
from inferwatt.attribution.states import NOTHING, Closed, DeviceState, give_up, moved_to
from inferwatt.attribution.timeline import Tick, TickKind, Timeline
from inferwatt.errors import RecordRejected
from inferwatt.records import (
    HOST,
    Activity,
    Component,
    Device,
    Engine,
    Event,
    EventKind,
    Fit,
    Model,
    Reading,
    Request,
    RequestEnergy,
    Rule,
    Step,
    Sums,
    Tier,
)
from inferwatt.units import NS_PER_SECOND

_BEAT_NS = NS_PER_SECOND // 100
__all__ = ["Attributor", "Closed", "moved_to"]


class Attributor:
    """Splits each device's ticks among the requests, models and accounts that used them.

    Feed records as they come, then call `advance` with the time up to which everything has come. A tick is closed
    once it is `hold_ns` old, by what is known then. A rule other than Shapley's divides the whole window at its end,
    so that nothing becomes final before.
    """

    def __init__(
        self,
        *,
        hold_ns: int = 0,
        best_tier: Tier = Tier.STEP_EXACT,
        rule: Rule = Rule.SHAPLEY,
        fits: Iterable[Fit] = (),
    ) -> None:
        self._hold_ns = hold_ns
        self._best_tier = best_tier
        self._rule = rule
        self._pool = Pool()
        self._devices: dict[str, DeviceState] = {}
        self._engines: dict[str, EngineState] = {}
        self._models: dict[str, Model] = {}
        self._sharing = Sharing(self._engines, rule, fits)
        self._slots = SlotTable()
        self._outlook = Outlook()
        self._takers: dict[type, Callable[[Any], None]] = {
            Reading: self.reading, Activity: self.activity, Step: self.step,
            Request: self.request, Sums: self.sums, Event: self.event,
        }  # fmt: skip
        self._looked_ns = self._look_again_ns = 0

    # What there is.

    def add_device(self, device: Device) -> None:
        """Make a device known; a device that is known already is kept as it is."""
        if device.device in self._devices:
            return
        slot_class = self._slots.slot_class(device.component, device.provenance, device.systematic_ratio)
        state = DeviceState(device, Timeline(device), Power.of(device), DeviceTotals(), slot_class)
        if device.component is Component.OVERHEAD:
            state.overhead = Overhead(slot_class)
        self._devices[device.device] = state  # an overhead is shared by its devices' ticks: theirs are closed first
        self._devices = dict(sorted(self._devices.items(), key=lambda item: item[1].overhead is not None))

    def add_model(self, model: Model) -> None:
        """Make a model's shape known; the first shape stands, since what it costs is learnt in its units."""
        if getattr(self._models.get(model.model), "flops_per_token", None) is None:
            self._models[model.model] = model
            for state in self._engines.values():
                if state.engine.model == model.model:
                    state.set_model(model)

    def add_engine(self, engine: Engine, *, loaded: bool = True, is_told: bool = False) -> None:
        """Make an engine known, its model `loaded` or not, all its steps told in time or not; or change its devices."""
        known, model = self._engines.get(engine.engine), self._models.get(engine.model)
        if known is None:
            self._engines[engine.engine] = EngineState(engine, model, loaded, self._best_tier, is_told)
            return
        if known.engine.model != engine.model:
            known.set_model(model)
            self._sharing.forget(engine.engine)
        known.engine = engine

    # What happened.

    def reading(self, reading: Reading) -> None:
        """Take one poll of a known device.

        Raises:
            RecordRejected: no such device.
        """
        state = self._devices.get(reading.device)
        if state is None:
            raise RecordRejected(
                f"a reading of an unknown device {reading.device!r}", where="readings", fix="name it in meta.json"
            )
        tick = state.timeline.add(reading)
        if tick is not None:
            state.pending.append(tick)

    def activity(self, activity: Activity) -> None:
        """Take who held a device for a while; of an unknown device it is ignored."""
        if activity.t1_ns <= activity.t0_ns:
            return
        for state in self._devices.values():
            is_meant = activity.device == HOST and state.device.component is not Component.ACCELERATOR
            if is_meant or activity.device == state.device.device:
                state.power.activity.append(activity)

    def step(self, step: Step) -> None:
        """Take one engine step.

        Raises:
            RecordRejected: no such engine, or the step ends before it starts.
        """
        engine = self._engine(step.engine)
        if step.t1_ns < step.t0_ns:
            raise RecordRejected("a step that ends before it starts", where=step.engine, fix="check the engine's clock")
        engine.add_step(step, self._slots)
        self._look_soon()

    def request(self, request: Request) -> None:
        """Take what is known of a request: a new one, or more of one that is open.

        Raises:
            RecordRejected: no such engine, an end before the arrival, or a request that has ended already.
        """
        engine = self._engine(request.engine)
        if request.end_ns is not None and request.end_ns < request.arrival_ns:
            raise RecordRejected(
                f"request {request.request!r} ends before it arrives", where=request.engine, fix="check its clock"
            )
        engine.add_request(request, self._slots)
        self._look_soon()

    def sums(self, sums: Sums) -> None:
        """Take what a server counted itself; of an unknown engine it is ignored."""
        engine = self._engines.get(sums.engine)
        if engine is not None and sums.t1_ns > sums.t0_ns:
            engine.counts.add(sums)

    def feed(self, record: Reading | Activity | Step | Request | Sums | Event) -> None:
        """Take any record.

        Raises:
            RecordRejected: it does not fit what is known.
        """
        self._takers[type(record)](record)

    def event(self, event: Event) -> None:
        """Take what happened to a device or an engine."""
        device = self._devices.get(event.device)
        engine = self._engines.get(event.engine)
        if device is not None and event.kind in {EventKind.READ_FAILURE, EventKind.DEVICE_GONE}:
            device.timeline.failed(event)
        if event.kind is EventKind.REGIME:
            self._sharing.new_regime(event.device)
        if engine is not None and event.kind in {EventKind.MODEL_LOAD, EventKind.MODEL_UNLOAD}:
            engine.loaded = event.kind is EventKind.MODEL_LOAD

    def _engine(self, name: str) -> EngineState:
        """Return the engine that work came of."""
        engine = self._engines.get(name)
        if engine is None:
            raise RecordRejected(f"work of an unknown engine {name!r}", where="records", fix="name it in meta.json")
        return engine

    def _look_soon(self) -> None:
        """Look within a beat at what was taken; what was rejected changes nothing."""
        self._look_again_ns = min(self._look_again_ns, self._looked_ns + _BEAT_NS)

    # What comes of it.

    @property
    def devices(self) -> Mapping[str, DeviceTotals]:
        """What each device used so far, by account."""
        return {name: state.totals for name, state in self._devices.items()}

    def timelines(self) -> dict[str, Timeline]:
        """Return each device's timeline: its ticks so far, closed or not, and how its counter moves."""
        return {name: state.timeline for name, state in self._devices.items()}

    def closed_counters(self) -> dict[str, tuple[int, int]]:
        """Return, by device, until when its counter is settled, and what it showed then, µJ."""
        return {
            name: (state.closed_ns, state.closed_counter_uj)
            for name, state in self._devices.items()
            if state.closed_counter_uj is not None
        }

    def fits(self) -> tuple[Fit, ...]:
        """Return what is learnt by now, to begin from the next time."""
        return self._sharing.fits({name: state.power for name, state in self._devices.items()})

    def take_events(self) -> list[Event]:
        """Return what the timelines noticed since the last call."""
        return [event for state in self._devices.values() for event in state.timeline.take_events()]

    def energy(self, request: str) -> RequestEnergy | None:
        """Return what an open request used so far; None for one that is not known (or is final).

        What is settled, and what its steps since then will come to by the fitted model.
        """
        return self._slots.energy(request, self._outlook.of(self._devices.values(), self._sharing))

    def advance(self, now_ns: int, *, last: bool = False) -> Closed:
        """Close the ticks that are `hold_ns` old at `now_ns` (`last`: all of them), and what became final by that.

        The readings of one beat follow each other closely: the first of them closes what is due for all.
        """
        if now_ns < self._look_again_ns and not last:
            return NOTHING
        self._looked_ns = now_ns
        self._look_again_ns = now_ns + (_BEAT_NS if self._sharing.may_work(now_ns) else QUIET_NS)
        corrections = tuple(
            each
            for engine in self._engines.values()
            if engine.late.are_due(now_ns, last=last)
            for each in correct(engine, self._devices, self._sharing, self._slots)
        )
        due_ns = now_ns - self._hold_ns
        ticks = [tick for state in self._devices.values() for tick in self._close_ticks(state, due_ns, last)]
        requests: list[tuple[Request, RequestEnergy]] = []
        late = 0
        for engine in self._engines.values():
            closed_ns, stale = self._closed_until(engine, due_ns)
            if self._rule is not Rule.SHAPLEY:
                if not last:
                    continue
                self._slots.divide(self._pool, engine.engine.engine, self._rule)
            for life in engine.ended(closed_ns, self._slots, last=last) if not engine.late else ():
                late += stale
                requests.append((life.record, self._slots.settle(life, now_ns)))
        corrected = tuple(self._slots.take_corrected()) if corrections else ()
        self._slots.rest(now_ns)
        return Closed(tuple(ticks), tuple(requests), corrections, corrected, late)

    def _closed_until(self, engine: EngineState, due_ns: int) -> tuple[int, bool]:
        """Return the time until which the engine's requests are settled, and whether a device was given up on."""
        states = [self._devices[name] for name in engine.engine.devices if name in self._devices]
        closed_ns = min([state.closed_ns - state.power.lag.reach_ns for state in states], default=due_ns)
        if states:
            last_ns = max(state.closed_ns - state.power.lag.reach_ns for state in states)
            engine.closed(closed_ns, last_ns)
        return give_up(states, closed_ns, due_ns)

    def _close_ticks(self, state: DeviceState, due_ns: int, last: bool) -> Iterable[TickEnergy]:
        while state.pending and (last or state.pending[0].t1_ns <= due_ns):
            tick = state.pending.popleft()
            while state.pending and state.pending[0].t1_ns <= due_ns and self._sharing.is_quiet(tick, state.pending[0]):
                tick = tick.with_next(state.pending.popleft())
            yield self._close(state, tick)
            state.closed_ns = tick.t1_ns
            state.closed_counter_uj = tick.counter_uj
            while state.power.activity and state.power.activity[0].t1_ns <= tick.t1_ns:
                state.power.activity.popleft()

    def _close(self, state: DeviceState, tick: Tick) -> TickEnergy:
        shares = state.overhead.shares(self._slots) if state.overhead else Shares()
        idle_watts = state.power.idle.watts
        is_open = tick.kind is not TickKind.RESET and tick.t0_ns >= state.given_up_ns
        if not is_open:
            shares = Shares(unattributed=float(tick.energy_uj))
        elif state.overhead is None:
            self._sharing.share(state.power, tick, shares)
        result = book(self._slots, self._pool, state.slot_class, tick, shares)
        state.totals.add(result)
        if is_open and self._rule is Rule.SHAPLEY:
            state.history.keep(tick, result, idle_watts)
        for other in self._devices.values():
            if other.overhead is not None and state.overhead is None:
                other.overhead.note(result)
        return result
