"""The split itself: readings and work in, closed ticks and final requests out. Pure: time comes with the data.

The law: for each device and tick, in whole microjoules, ``energy = requests + unlisted + idle_resident + idle_empty
+ other + unattributed``. The counter decides the total, weights only the shares. A closed tick never changes.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from inferwatt.attribution.accounts import DeviceTotals, Pool, Shares, SlotTable, TickEnergy
from inferwatt.attribution.costmodel import CostModel
from inferwatt.attribution.engine import EngineState
from inferwatt.attribution.idle import BaselinePower, IdlePower
from inferwatt.attribution.split import apportion
from inferwatt.attribution.timeline import Tick, TickKind, Timeline
from inferwatt.attribution.work import Floats, Work
from inferwatt.errors import RecordRejected
from inferwatt.records import (
    Activity,
    Device,
    Engine,
    Event,
    EventKind,
    Model,
    Reading,
    Request,
    RequestEnergy,
    Rule,
    Step,
    Sums,
    Tier,
)
from inferwatt.units import NS_PER_SECOND, watts

_STALE_NS = 2 * NS_PER_SECOND
_FULL_TICK_RATIO = 0.2
_SPREAD = {Tier.STEP_EXACT: 0.15, Tier.STEP_RECONSTRUCTED: 0.35, Tier.REQUEST_SPAN: 0.6, Tier.TOKEN_SHARE: 1.0}
"""How much of the distance between the two extreme splits (all shared, all own) the 90% interval spans, by tier. A
first setting, to be calibrated against simulated truth."""


@dataclass(slots=True)
class _DeviceState:
    """One device: its timeline, its idle power, its open ticks and who was seen holding it."""

    device: Device
    timeline: Timeline
    idle: IdlePower
    baseline: BaselinePower
    totals: DeviceTotals
    slot_class: int
    pending: deque[Tick] = field(default_factory=deque)
    activity: deque[Activity] = field(default_factory=deque)
    closed_ns: int = 0
    given_up_ns: int = 0
    seen_ns: int = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """What one call to `Attributor.advance` settled for good."""

    ticks: tuple[TickEnergy, ...]
    requests: tuple[tuple[Request, RequestEnergy], ...]
    late: int = 0
    """Requests that became final although a device of theirs had stopped answering."""


class Attributor:
    """Splits each device's ticks among the requests, models and accounts that used them.

    Feed records as they come, then call `advance` with the time up to which everything has come. A tick is closed
    once it is `hold_ns` old, by what is known then. A rule other than Shapley's divides the whole window at its end,
    so that nothing becomes final before.
    """

    def __init__(self, *, hold_ns: int = 0, best_tier: Tier = Tier.STEP_EXACT, rule: Rule = Rule.SHAPLEY) -> None:
        self._hold_ns = hold_ns
        self._best_tier = best_tier
        self._rule = rule
        self._pool = Pool()
        self._devices: dict[str, _DeviceState] = {}
        self._engines: dict[str, EngineState] = {}
        self._models: dict[str, Model] = {}
        self._costs: dict[tuple[str, str], CostModel] = {}
        self._slots = SlotTable()

    # What there is.

    def add_device(self, device: Device) -> None:
        """Make a device known; a device that is known already is kept as it is."""
        if device.device not in self._devices:
            slot_class = self._slots.slot_class(device.component, device.provenance, device.systematic_ratio)
            self._devices[device.device] = _DeviceState(
                device, Timeline(device), IdlePower(device), BaselinePower(device), DeviceTotals(), slot_class
            )

    def add_model(self, model: Model) -> None:
        """Make a model's shape known; the first word stands, since what it costs is learnt in its units."""
        if self._models.setdefault(model.model, model) is model:
            for state in self._engines.values():
                if state.engine.model == model.model:
                    state.set_model(model)

    def add_engine(self, engine: Engine, *, loaded: bool = True) -> None:
        """Make an engine known, or change its devices; it is resident on them while it is loaded."""
        known = self._engines.get(engine.engine)
        if known is None:
            self._engines[engine.engine] = EngineState(engine, self._models.get(engine.model), loaded, self._best_tier)
        else:
            known.engine = engine
            known.loaded = loaded

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
        state.seen_ns = max(state.seen_ns, reading.t_ns)
        tick = state.timeline.add(reading)
        if tick is not None:
            state.pending.append(tick)

    def activity(self, activity: Activity) -> None:
        """Take who held a device for a while; of an unknown device it is ignored."""
        state = self._devices.get(activity.device)
        if state is not None and activity.t1_ns > activity.t0_ns:
            state.activity.append(activity)

    def step(self, step: Step) -> None:
        """Take one engine step.

        Raises:
            RecordRejected: no such engine, or the step ends before it starts.
        """
        engine = self._engine(step.engine)
        if step.t1_ns < step.t0_ns:
            raise RecordRejected("a step that ends before it starts", where=step.engine, fix="check the engine's clock")
        engine.add_step(step, self._slots)

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

    def sums(self, sums: Sums) -> None:
        """Take what a server counted itself; of an unknown engine it is ignored."""
        engine = self._engines.get(sums.engine)
        if engine is not None and sums.t1_ns > sums.t0_ns:
            engine.add_sums(sums)

    def feed(self, record: Reading | Activity | Step | Request | Sums | Event) -> None:
        """Take any record.

        Raises:
            RecordRejected: it does not fit what is known.
        """
        match record:
            case Reading():
                self.reading(record)
            case Activity():
                self.activity(record)
            case Step():
                self.step(record)
            case Request():
                self.request(record)
            case Sums():
                self.sums(record)
            case Event():
                self.event(record)

    def event(self, event: Event) -> None:
        """Take what happened to a device or an engine."""
        device = self._devices.get(event.device)
        engine = self._engines.get(event.engine)
        if device is not None and event.kind in {EventKind.READ_FAILURE, EventKind.DEVICE_GONE}:
            device.timeline.failed(event)
        if engine is not None and event.kind in {EventKind.MODEL_LOAD, EventKind.MODEL_UNLOAD}:
            engine.loaded = event.kind is EventKind.MODEL_LOAD

    def _engine(self, name: str) -> EngineState:
        engine = self._engines.get(name)
        if engine is None:
            raise RecordRejected(f"work of an unknown engine {name!r}", where="records", fix="name it in meta.json")
        return engine

    # What comes of it.

    @property
    def devices(self) -> Mapping[str, DeviceTotals]:
        """What each device used so far, by account."""
        return {name: state.totals for name, state in self._devices.items()}

    @property
    def pending_ns(self) -> int:
        """How far back the oldest tick that is not closed begins, nanoseconds before the newest reading."""
        return max(
            (state.seen_ns - state.pending[0].t0_ns for state in self._devices.values() if state.pending), default=0
        )

    def take_events(self) -> list[Event]:
        """Return what the timelines noticed since the last call."""
        events = [event for state in self._devices.values() for event in state.timeline.events]
        for state in self._devices.values():
            state.timeline.events.clear()
        return events

    def open_requests(self) -> list[Request]:
        """Return the requests that have not ended."""
        return [life.record for life in self._slots.lives() if life.record.end_ns is None]

    def energy(self, request: str) -> RequestEnergy | None:
        """Return what is settled so far of an open request; None for one that is not known (or is final)."""
        return self._slots.energy(request, final=False)

    def advance(self, now_ns: int, *, last: bool = False) -> Closed:
        """Close the ticks that are `hold_ns` old at `now_ns` (`last`: all of them), and what became final by that."""
        ticks = [tick for state in self._devices.values() for tick in self._close_ticks(state, now_ns, last)]
        requests: list[tuple[Request, RequestEnergy]] = []
        late = 0
        for engine in self._engines.values():
            closed_ns, stale = self._closed_until(engine, now_ns, last)
            if self._rule is not Rule.SHAPLEY:
                if not last:
                    continue
                self._slots.divide(self._pool, engine.engine.engine, self._rule)
            for life in engine.ended(closed_ns, last=last):
                late += stale
                requests.append((life.record, self._slots.settle(life, now_ns)))
        self._slots.rest(now_ns)
        return Closed(tuple(ticks), tuple(requests), late)

    def _closed_until(self, engine: EngineState, now_ns: int, last: bool) -> tuple[int, bool]:
        """Return the time until which the engine's requests are settled, and whether a device was given up on."""
        states = [self._devices[name] for name in engine.engine.devices if name in self._devices]
        give_up_ns = (
            now_ns - self._hold_ns - max([_STALE_NS, *(2 * round(state.timeline.period_ns) for state in states)])
        )
        closed_ns = min((state.closed_ns for state in states), default=now_ns - self._hold_ns)
        if states:
            engine.forget_steps(closed_ns)
        stale = closed_ns < give_up_ns
        for state in states:
            if state.closed_ns < give_up_ns:
                state.given_up_ns = give_up_ns
        return max(closed_ns, give_up_ns), stale

    def _close_ticks(self, state: _DeviceState, now_ns: int, last: bool) -> Iterable[TickEnergy]:
        while state.pending and (last or state.pending[0].t1_ns + self._hold_ns <= now_ns):
            tick = state.pending.popleft()
            yield self._close(state, tick)
            state.closed_ns = tick.t1_ns
            while state.activity and state.activity[0].t1_ns <= tick.t1_ns:
                state.activity.popleft()

    def _close(self, state: _DeviceState, tick: Tick) -> TickEnergy:
        shares = Shares()
        if tick.kind is TickKind.RESET or tick.t0_ns < state.given_up_ns:
            shares.unattributed = float(tick.energy_uj)
        else:
            self._share(state, tick, shares)
        result = self._book(state, tick, shares)
        state.totals.add(result)
        return result

    def _share(self, state: _DeviceState, tick: Tick, shares: Shares) -> None:
        """Fill in who used the tick's energy, µJ as floats."""
        engines = [e for e in self._engines.values() if state.device.device in e.engine.devices]
        held = _held(state.activity, tick)
        if held is None:
            work = {e.engine.engine: e.work(tick.t0_ns, tick.t1_ns) for e in engines if e.may_work(tick.t1_ns)}
            self._share_alone(state, tick, engines, {name: w for name, w in work.items() if w}, shares)
        else:
            self._share_held(state, tick, engines, held, shares)

    def _share_alone(
        self, state: _DeviceState, tick: Tick, engines: list[EngineState], work: dict[str, Work], shares: Shares
    ) -> None:
        """Share a tick of a device on which only our engines run: all of it, less idle power in the gaps."""
        unlisted = {e.engine.engine: e for e in engines if e.engine.engine not in work and e.counted(tick)}
        busy_ns = max((w.busy_ns for w in work.values()), default=0)
        if unlisted:
            busy_ns = tick.elapsed_ns
        gap_ns = max(tick.elapsed_ns - busy_ns, 0)
        idle_uj = tick.energy_uj * gap_ns / tick.elapsed_ns
        if busy_ns and state.idle.watts is not None and tick.kind is TickKind.NORMAL:
            idle_uj = min(idle_uj, state.idle.watts * gap_ns / 1000)
        if busy_ns:
            state.idle.worked(tick.t1_ns)
        elif tick.kind is TickKind.NORMAL:
            state.idle.quiet(tick.t0_ns, watts(tick.energy_uj, tick.elapsed_ns))
        if tick.kind is TickKind.BRIDGED:
            shares.unattributed += idle_uj
        else:
            shares.add_idle(idle_uj, [e.engine.engine for e in engines if e.loaded])
        active_uj = tick.energy_uj - idle_uj
        if not busy_ns or active_uj <= 0:
            return
        parts = len(work) + len(unlisted)
        for name, engine in unlisted.items():
            shares.add_unlisted(name, active_uj / parts, engine.unlisted_prefill_ratio(tick))
        self._share_work(state, tick, work, active_uj * len(work) / parts, shares)

    def _share_held(
        self, state: _DeviceState, tick: Tick, engines: list[EngineState], held: Activity, shares: Shares
    ) -> None:
        """Share a tick of a device whose use by processes is known.

        Its baseline belongs to who holds the capacity, used or not; what is above it to who used it.
        """
        used = sum(held.shares.values()) + held.other_ratio
        state.baseline.learn(min(used, 1.0), watts(tick.energy_uj, tick.elapsed_ns))
        base_uj = min(state.baseline.watts * tick.elapsed_ns / 1000, float(tick.energy_uj))
        if used <= 0:
            base_uj = float(tick.energy_uj)
        whole = max(used, 1.0)
        dynamic_uj = tick.energy_uj - base_uj

        def part_uj(ratio: float) -> float:
            return base_uj * ratio / whole + (dynamic_uj * ratio / used if used > 0 else 0.0)

        resident = [e.engine.engine for e in engines if e.loaded]
        shares.other += part_uj(held.other_ratio)
        shares.add_idle(base_uj * (whole - used) / whole, resident)
        known = {e.engine.engine: e for e in engines}
        for name, ratio in held.shares.items():
            engine = known.get(name)
            if engine is None:
                shares.other += part_uj(ratio)
                continue
            work = engine.work(tick.t0_ns, tick.t1_ns) if engine.may_work(tick.t1_ns) else None
            if work is not None:
                self._share_work(state, tick, {name: work}, part_uj(ratio), shares)
            elif engine.counted(tick):
                shares.add_unlisted(name, part_uj(ratio), engine.unlisted_prefill_ratio(tick))
            else:
                shares.add_idle(part_uj(ratio), [name])

    def _share_work(
        self, state: _DeviceState, tick: Tick, work: dict[str, Work], active_uj: float, shares: Shares
    ) -> None:
        """Share active energy among the rows of work, by what each is expected to have used."""
        if active_uj <= 0 or not work:
            return
        weighed = []
        for name, rows in work.items():
            engine = self._engines[name]
            cost = self._cost(engine, state.device)
            engine.teach(cost, tick.t0_ns, tick.t1_ns)
            full = rows.busy_ns >= _FULL_TICK_RATIO * tick.elapsed_ns
            if len(work) == 1 and full and tick.kind is TickKind.NORMAL:
                cost.learn_energy(rows, active_uj)
            weighed.append((engine, rows, *cost.shares(rows)))
        total = sum(float(expected.sum()) for _, _, expected, _, _ in weighed)
        if total <= 0:
            shares.unattributed += active_uj
            return
        for engine, rows, expected, shared, own in weighed:
            part_uj = active_uj * float(expected.sum()) / total
            unlisted = engine.unlisted_part(tick, rows)
            if unlisted > 0:
                shares.add_unlisted(engine.engine.engine, part_uj * unlisted, engine.unlisted_prefill_ratio(tick))
                part_uj *= 1 - unlisted
            if self._rule is not Rule.SHAPLEY:
                shares.pooled[engine.engine.engine] = shares.pooled.get(engine.engine.engine, 0.0) + part_uj
                continue
            spread = np.abs(_scaled(shared, part_uj) - _scaled(own, part_uj)) * _SPREAD[engine.tier_in(rows)]
            shares.add_rows(rows.slot, rows.prefill, _scaled(expected, part_uj), spread)

    def _cost(self, engine: EngineState, device: Device) -> CostModel:
        key = (engine.engine.engine, device.device)
        cost = self._costs.get(key)
        if cost is None:
            cost = self._costs[key] = CostModel(
                1.0 / device.peak_flops if device.peak_flops and engine.shaped else 0.0,
                1.0 / device.peak_bytes_per_second if device.peak_bytes_per_second and engine.shaped else 0.0,
            )
        return cost

    def _book(self, state: _DeviceState, tick: Tick, shares: Shares) -> TickEnergy:
        """Round the shares to whole microjoules that sum to the tick, and write them to the requests' accounts."""
        only = shares.only_account
        if only is not None:
            return _whole(tick, shares, only)
        keys, fair, spread = shares.members()
        alive = self._slots.alive(keys)
        if not alive.all():
            shares.unattributed += float(fair[~alive].sum())
            keys, fair, spread = keys[alive], fair[alive], spread[alive]
        scalars = shares.scalars()
        if fair.sum() + sum(scalars) <= 0:
            scalars[-1] = 1.0
        whole_uj = apportion(tick.energy_uj, np.concatenate([fair, scalars]))
        result = self._slots.book(state.slot_class, tick, shares, keys, spread, whole_uj)
        for name, pooled_uj in result.pooled.items():
            self._pool.add(state.slot_class, name, pooled_uj)
        return result


def _whole(tick: Tick, shares: Shares, account: str) -> TickEnergy:
    """Return a tick that belongs to one account alone: the common case while nothing runs."""
    uj = tick.energy_uj
    return TickEnergy(
        device=tick.device,
        t0_ns=tick.t0_ns,
        t1_ns=tick.t1_ns,
        energy_uj=uj,
        requests={},
        unlisted={},
        idle_resident=dict.fromkeys(shares.idle_resident, uj),
        idle_empty_uj=uj if account == "idle_empty" else 0,
        other_uj=uj if account == "other" else 0,
        unattributed_uj=uj if account == "unattributed" else 0,
    )


def _scaled(weights: Floats, total_uj: float) -> Floats:
    total = float(weights.sum())
    return weights * (total_uj / total) if total > 0 else weights


def _held(activities: deque[Activity], tick: Tick) -> Activity | None:
    """Return the mean activity over the tick, weighted by time; None where nothing is known of it."""
    shares: dict[str, float] = {}
    other = 0.0
    covered_ns = 0
    for seen in activities:
        if seen.t0_ns >= tick.t1_ns:
            break
        inside_ns = min(seen.t1_ns, tick.t1_ns) - max(seen.t0_ns, tick.t0_ns)
        if inside_ns <= 0:
            continue
        covered_ns += inside_ns
        other += seen.other_ratio * inside_ns
        for name, ratio in seen.shares.items():
            shares[name] = shares.get(name, 0.0) + ratio * inside_ns
    if covered_ns == 0:
        return None
    return Activity(
        tick.t0_ns,
        tick.t1_ns,
        tick.device,
        {name: value / covered_ns for name, value in shares.items()},
        other / covered_ns,
    )
