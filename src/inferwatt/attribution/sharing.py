"""How one tick is shared: who worked in it, who held the device, what was idle, what nobody can explain. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from inferwatt.attribution.accounts import Shares
from inferwatt.attribution.arrays import Floats, Ints
from inferwatt.attribution.beside import Beside
from inferwatt.attribution.costmodel import CostModel, Priced
from inferwatt.attribution.engine import EngineState
from inferwatt.attribution.holding import mean_activity
from inferwatt.attribution.power import Power
from inferwatt.attribution.saved import Fits, fit_of
from inferwatt.attribution.steptime import StepTime
from inferwatt.attribution.timeline import Tick, TickKind
from inferwatt.attribution.work import Work
from inferwatt.records import Activity, Component, Device, Fit, Rule, Tier
from inferwatt.units import NS_PER_SECOND, watts

QUIET_NS = NS_PER_SECOND // 2
"""How long closing may wait while nobody works: the ticks of that time are then shared as one."""
_OTHER_LAG_NS = 5_000_000
"""A counter's lag that is found to be so much another: what was learnt of its ticks was learnt of the wrong work."""
_FULL_TICK_RATIO = 0.2
"""A tick that was busy for less than this teaches the cost model nothing."""


class Sharing:
    """Shares ticks among the engines that it is given, and learns what work costs on each device."""

    def __init__(self, engines: Mapping[str, EngineState], rule: Rule, fits: Iterable[Fit]) -> None:
        self._engines = engines
        self._rule = rule
        self._fits = Fits(fits)
        self._costs: dict[tuple[str, str], CostModel] = {}
        self._times: dict[str, StepTime] = {}
        self._besides: dict[str, Beside] = {}

    def fits(self, powers: Mapping[str, Power]) -> tuple[Fit, ...]:
        """Return what is learnt by now of each engine on each of its devices, to begin from the next time."""
        return tuple(
            fit_of(self._engines[name], powers[device], cost)
            for (name, device), cost in self._costs.items()
            if device in powers
        )

    def forget(self, engine: str) -> None:
        """Forget what an engine's work costs: it has another model now."""
        self._times.pop(engine, None)
        self._besides.clear()
        for key in [key for key in self._costs if key[0] == engine]:
            del self._costs[key]

    def new_regime(self, device: str) -> None:
        """Begin to learn anew what work costs on a device: its power cap or its clocks are others now."""
        if device in self._besides:
            self._besides[device].doubt_ticks()
        for (engine, on_device), cost in self._costs.items():
            if on_device == device:
                cost.doubt_ticks()
                self._times[engine].doubt_steps()

    def expect(self, device: Device, t0_ns: int, t1_ns: int) -> Iterator[tuple[Ints, Floats, Floats]]:
        """Yield what the known steps of a device's engines will have used: keys, µJ, notes. Nothing changes by it."""
        for (name, on_device), cost in self._costs.items():
            work = self._engines[name].steps_of(t0_ns, t1_ns) if on_device == device.device else None
            expected = cost.expect(work) if work else None
            if expected is not None:
                yield expected

    def price(self, power: Power, engine: EngineState, work: Work) -> Priced:
        """Return what an engine's work is expected to have used of a device."""
        return _priced(engine, self._cost(engine, power), work)

    def may_work(self, t_ns: int) -> bool:
        """Return whether a tick that ends at `t_ns` could hold work at all."""
        return any(engine.may_work(t_ns) for engine in self._engines.values())

    def is_quiet(self, tick: Tick, following: Tick) -> bool:
        """Return whether two ticks may be shared as one: nothing is odd about them, and nobody works in them."""
        t0_ns, t1_ns = tick.t0_ns, following.t1_ns
        return (
            tick.kind is following.kind is TickKind.NORMAL
            and t1_ns - t0_ns <= QUIET_NS
            and not self.may_work(t1_ns)
            and not any(engine.counts.worked(t0_ns, t1_ns) for engine in self._engines.values())
        )

    def share(self, power: Power, tick: Tick, shares: Shares) -> None:
        """Fill in who used the tick's energy, µJ as floats."""
        engines = [e for e in self._engines.values() if power.device.device in e.engine.devices]
        held = mean_activity(power.activity, tick)
        if held is None:
            self._alone(power, tick, engines, shares)
        elif power.device.component is Component.ACCELERATOR:
            self._accelerator(power, tick, engines, held, shares)
        else:
            self._held(power, tick, engines, held, shares)

    def _accelerator(
        self, power: Power, tick: Tick, engines: list[EngineState], held: Activity, shares: Shares
    ) -> None:
        """Share a tick of an accelerator whose processes are known: first what others used, then among our engines.

        Its use by processes is told in long and coarse averages, so it decides only between them and others; when
        our engines worked is known better from their work.
        """
        here = [engine for engine in engines if engine.engine.engine in held.shares]
        foreign = held.other_ratio + held.unknown_ratio
        if foreign <= 0:
            self._alone(power, tick, here, shares, held.shares)
            return
        idle_uj = min((power.idle.watts or 0.0) * tick.elapsed_ns / 1000, float(tick.energy_uj))
        each_uj = (tick.energy_uj - idle_uj) / (sum(held.shares.values()) + foreign)
        shares.other += each_uj * held.other_ratio
        shares.unattributed += each_uj * held.unknown_ratio
        rest_uj = round(tick.energy_uj - each_uj * foreign)
        power.idle.worked(tick.t1_ns)
        self._alone(power, replace(tick, energy_uj=rest_uj), here, shares, held.shares)

    def _alone(
        self,
        power: Power,
        tick: Tick,
        engines: list[EngineState],
        shares: Shares,
        held: Mapping[str, float] | None = None,
    ) -> None:
        """Share a tick of a device on which only our engines run: all of it, less idle power in the gaps.

        Engines that worked side by side are told apart by how much each `held`, where that is known.
        """
        tick = self._as_used(power, tick, engines)
        each = {
            e.engine.engine: e.work(tick.t0_ns, tick.t1_ns, tick.window_ns) for e in engines if e.may_work(tick.t1_ns)
        }
        work = {name: rows for name, rows in each.items() if rows}
        resting = [engine for engine in engines if engine.engine.engine not in work]
        unlisted = {e.engine.engine: e for e in resting if e.counts.worked(tick.t0_ns, tick.t1_ns)}
        busy_ns = max((w.busy_ns for w in work.values()), default=0)
        if unlisted:
            busy_ns = tick.elapsed_ns
        idle_uj = _idle_part(power, tick, busy_ns)
        if tick.kind is TickKind.BRIDGED:
            shares.unattributed += idle_uj
        else:
            shares.add_idle(idle_uj, [e.engine.engine for e in engines if e.loaded])
        active_uj = tick.energy_uj - idle_uj
        if not busy_ns or active_uj <= 0:
            return
        parts = len(work) + len(unlisted)
        for name, engine in unlisted.items():
            shares.add_unlisted(name, active_uj / parts, engine.counts.unlisted_prefill_ratio(tick))
        self._beside(power, tick, work, active_uj * len(work) / parts, shares, held or {})

    def _beside(
        self,
        power: Power,
        tick: Tick,
        work: dict[str, Work],
        active_uj: float,
        shares: Shares,
        held: Mapping[str, float],
    ) -> None:
        """Share active energy among engines that worked side by side: by their use of it, else by their work."""
        ratios = {name: held.get(name, 0.0) for name in work}
        used = sum(ratios.values())
        if len(work) < 2 or used <= 0:
            self._work(power, tick, work, active_uj, shares)
            return
        for name, ratio in ratios.items():
            self._work(power, tick, {name: work[name]}, active_uj * ratio / used, shares)

    def _held(self, power: Power, tick: Tick, engines: list[EngineState], held: Activity, shares: Shares) -> None:
        """Share a tick of a device whose use by processes is known.

        Its baseline belongs to who holds the capacity, used or not; what is above it to who used it.
        """
        used = sum(held.shares.values()) + held.other_ratio + held.unknown_ratio
        power.baseline.learn(min(used, 1.0), watts(tick.energy_uj, tick.elapsed_ns))
        base_uj = min(power.baseline.watts * tick.elapsed_ns / 1000, float(tick.energy_uj))
        if used <= 0:
            base_uj = float(tick.energy_uj)
        whole = max(used, 1.0)
        dynamic_uj = tick.energy_uj - base_uj

        def part_uj(ratio: float) -> float:
            return base_uj * ratio / whole + (dynamic_uj * ratio / used if used > 0 else 0.0)

        resident = [e.engine.engine for e in engines if e.loaded]
        shares.other += part_uj(held.other_ratio)
        shares.unattributed += part_uj(held.unknown_ratio)
        shares.add_idle(base_uj * (whole - used) / whole, resident)
        known = {e.engine.engine: e for e in engines}
        for name, ratio in held.shares.items():
            engine = known.get(name)
            if engine is None:
                shares.other += part_uj(ratio)
                continue
            work = engine.work(tick.t0_ns, tick.t1_ns) if engine.may_work(tick.t1_ns) else None
            if work is not None:
                self._work(power, tick, {name: work}, part_uj(ratio), shares)
            elif engine.counts.worked(tick.t0_ns, tick.t1_ns):
                shares.add_unlisted(name, part_uj(ratio), engine.counts.unlisted_prefill_ratio(tick))
            else:
                shares.add_idle(part_uj(ratio), [name])

    def _work(self, power: Power, tick: Tick, work: dict[str, Work], active_uj: float, shares: Shares) -> None:
        """Share active energy among the rows of work, by what each is expected to have used."""
        if active_uj <= 0 or not work:
            return
        priced = {}
        for name, rows in work.items():
            engine = self._engines[name]
            cost = self._cost(engine, power)
            engine.teach(self._times[name])
            priced[name] = _priced(engine, cost, rows)  # by what was known before this tick
        amounts = self._amounts(power, work, priced)
        total = sum(amounts.values())
        if total <= 0:
            shares.unattributed += active_uj
            return
        parts_uj = {name: active_uj * amount / total for name, amount in amounts.items()}
        if tick.kind is TickKind.NORMAL:
            self._learn(power, tick, work, parts_uj)
        for name, part_uj in parts_uj.items():
            self._give(tick, self._engines[name], work[name], priced[name], part_uj, shares)

    def _amounts(self, power: Power, work: Mapping[str, Work], priced: Mapping[str, Priced]) -> dict[str, float]:
        """Return what each engine's work is expected to have used, in one unit."""
        by_tokens = any(self._engines[name].tier is Tier.TOKEN_SHARE for name in work)
        if len(work) < 2 or by_tokens:
            return {name: float(each.expected.sum()) for name, each in priced.items()}
        beside = self._besides.setdefault(power.device.device, Beside())
        return dict(zip(work, beside.amounts(work).tolist(), strict=True))

    def _learn(self, power: Power, tick: Tick, work: Mapping[str, Work], parts_uj: Mapping[str, float]) -> None:
        """Learn what work costs from a tick, of those who filled it by enough."""
        device = power.device.device
        full = [name for name, rows in work.items() if rows.busy_ns >= _FULL_TICK_RATIO * tick.elapsed_ns]
        for name in full:
            self._costs[name, device].learn_energy(work[name], parts_uj[name])
        if full and sum(device in engine.engine.devices for engine in self._engines.values()) > 1:
            self._besides.setdefault(device, Beside()).learn(work, sum(parts_uj.values()))

    def _give(self, tick: Tick, engine: EngineState, rows: Work, priced: Priced, uj: float, shares: Shares) -> None:
        """Give an engine's part of a tick to its requests, and to what its server counted beyond them."""
        name = engine.engine.engine
        unlisted = engine.counts.unlisted_part(tick, rows)
        if unlisted > 0:
            shares.add_unlisted(name, uj * unlisted, engine.counts.unlisted_prefill_ratio(tick))
            uj *= 1 - unlisted
        if self._rule is Rule.SHAPLEY:
            shares.add_rows(priced.keys, *priced.shares(uj))
        else:
            shares.pooled[name] = shares.pooled.get(name, 0.0) + uj

    def _as_used(self, power: Power, tick: Tick, engines: Sequence[EngineState]) -> Tick:
        """Return the tick at the time when its energy was used: a counter may lag behind the steps."""
        before_ns = power.lag.reach_ns
        if len(engines) == 1 and tick.kind is TickKind.NORMAL:
            engines[0].teach_lag(power.lag, tick)
            if abs(power.lag.reach_ns - before_ns) > _OTHER_LAG_NS:
                self._cost(engines[0], power).doubt_ticks()
        return power.lag.used(tick)

    def _cost(self, engine: EngineState, power: Power) -> CostModel:
        key = (engine.engine.engine, power.device.device)
        cost = self._costs.get(key)
        if cost is None:
            time = self._times.setdefault(engine.engine.engine, step_time(engine, power.device))
            cost = self._costs[key] = CostModel(time)
            self._fits.resume(engine, power, cost)
        return cost


def _priced(engine: EngineState, cost: CostModel, rows: Work) -> Priced:
    """Return what an engine's rows are expected to have used."""
    priced = cost.price(rows)
    return priced.by_tokens(rows, engine.token_weights(rows)) if engine.tier is Tier.TOKEN_SHARE else priced


def _idle_part(power: Power, tick: Tick, busy_ns: int) -> float:
    """Return the energy of the time in which no engine worked, µJ; a tick without any work teaches the idle power."""
    gap_ns = max(tick.elapsed_ns - busy_ns, 0)
    idle_uj = tick.energy_uj * gap_ns / tick.elapsed_ns
    if busy_ns:
        power.idle.worked(tick.t1_ns)
        if power.idle.watts is not None and tick.kind is TickKind.NORMAL:
            idle_uj = min(idle_uj, power.idle.watts * gap_ns / 1000)
    elif tick.kind is TickKind.NORMAL:
        power.idle.quiet(tick.t0_ns, watts(tick.energy_uj, tick.elapsed_ns))
    return idle_uj


def step_time(engine: EngineState, device: Device) -> StepTime:
    """Return what is supposed of an engine's steps before any is seen: by the device's datasheet."""
    peaks = (device.peak_flops, device.peak_bytes_per_second) if engine.shaped else (None, None)
    per_flop, per_byte = (1.0 / peak if peak else 0.0 for peak in peaks)
    return StepTime(per_flop, per_byte)
