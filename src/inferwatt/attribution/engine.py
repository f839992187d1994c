"""What one engine did: its steps, and its requests' lives. Pure."""

from dataclasses import replace

import numpy as np

from inferwatt.attribution.arrays import Bools, Floats, Ints, floats
from inferwatt.attribution.counted import Counts
from inferwatt.attribution.lag import MOST_NS, Lag
from inferwatt.attribution.latecomers import Latecomers
from inferwatt.attribution.lives import FAR_NS, Life, Lives, tier_of
from inferwatt.attribution.rebuild import from_spans
from inferwatt.attribution.slots import SlotTable
from inferwatt.attribution.steptime import StepTime
from inferwatt.attribution.timeline import Tick
from inferwatt.attribution.work import Shape, StepRows, StepStore, Work, from_steps
from inferwatt.errors import RecordRejected
from inferwatt.records import TIER_RANK, Engine, Model, Phase, Request, Step, Tier
from inferwatt.units import NS_PER_SECOND

_TAUGHT_STEPS = 512
_TEACH_EVERY = 8
_ALIKE = 40
"""Ticks whose ends differ by less than this part of them are taken for one."""
_NEVER = (-FAR_NS, -FAR_NS, 0)
_STILL_NS = 50_000_000
"""An engine that answers does not stand still for so long."""
_SEARCH_NS = 1_000_000_000
_UNANNOUNCED_NS = 60_000_000_000
"""A request of which only steps were told is taken for over when none was for so long."""


class EngineState:
    """One engine and what a tick may still need to know of it."""

    def __init__(
        self, engine: Engine, model: Model | None, loaded: bool, best_tier: Tier, is_told: bool = False
    ) -> None:
        self.engine = engine
        self._is_told = is_told
        self.loaded = loaded
        self.lives = Lives()
        self.counts = Counts(self.lives)
        self.steps = StepStore()
        self._best_tier = best_tier
        self._stepped = False
        self._step_count = 0
        self._untaught: list[StepRows] = []
        self.late = Latecomers()
        self._searched_ns = -FAR_NS
        self._closed_ns = -FAR_NS
        self._slot_of: dict[str, int] = {}
        self._worked: Work | None = None
        self._worked_ns = _NEVER
        self._tier = Tier.REQUEST_SPAN
        self._last_names: tuple[str, ...] = ()
        self._last_slots = np.zeros(0, dtype=np.int64)
        self._last_tokens, self._last_new = tuple[int, ...](), np.zeros(0)
        self.set_model(model)

    def set_model(self, model: Model | None) -> None:
        """Take the model's shape."""
        self.shape = self.lives.shape = Shape.of(model)
        self.shaped = model is not None and model.flops_per_token is not None

    # Steps and requests.

    def add_step(self, step: Step, slots: SlotTable) -> None:
        """Keep a step; its members get accounts."""
        if not step.members or TIER_RANK[self._best_tier] > 0:
            return
        names, new_tokens, context_tokens, phases = zip(*step.members, strict=True)
        if new_tokens != self._last_tokens:
            if min(new_tokens) <= 0:  # one that waits beside is no member: nothing of it is computed
                self.add_step(replace(step, members=tuple(member for member in step.members if member[1] > 0)), slots)
                return
            self._last_tokens, self._last_new = new_tokens, floats(new_tokens)
        new, context, has_prefill = self._last_new, floats(context_tokens), Phase.PREFILL in phases
        if names != self._last_names:
            self._last_slots = self._slots_of(names, step, slots)
        prefill, reached = np.zeros(len(names), dtype=np.bool_), context + 1.0
        if has_prefill:
            prefill = np.array([phase == Phase.PREFILL for phase in phases])
            reached = np.where(prefill, context + new, reached)  # of a decode's drafts one token is sure to stay
        before = slots.note_step(self._last_slots, step.t1_ns, reached)
        again = _again(before - context, new, prefill) if has_prefill else None
        rows = StepRows(step.t0_ns, step.t1_ns, self._last_slots, new, context, prefill, again)
        self._stepped = True
        self._worked_ns = _NEVER
        self.steps.add(rows)
        if step.t0_ns < self._closed_ns:
            self.late.steps.append(rows)
        self._step_count += 1
        if step.t1_ns > step.t0_ns and (self._step_count < _TAUGHT_STEPS or self._step_count % _TEACH_EVERY == 0):
            self._untaught.append(rows)

    def _slots_of(self, names: tuple[str, ...], step: Step, slots: SlotTable) -> Ints:
        """Return the members' slots; a member that is new gets an account, one that is settled has its own still."""
        known, settled = self._slot_of, dict[str, int]()
        for name in names:
            if name in known:
                continue
            life = slots.life(name)
            rested = slots.rested(name) if life is None else None
            if rested is not None and step.t0_ns < rested.end_ns:
                settled[name] = rested.slot
                continue
            if life is None:
                first = Request(name, engine=self.engine.engine, model=self.engine.model, arrival_ns=step.t0_ns)
                life = slots.open(first, Tier.STEP_EXACT)
                life.announced = False
                self.lives.add(life)
            life.tier, life.stepped = Tier.STEP_EXACT, True
            known[name] = life.slot
        self._last_names = () if settled else names
        return np.array([settled[name] if name in settled else known[name] for name in names])

    def add_request(self, request: Request, slots: SlotTable) -> None:
        """Keep what is known of a request.

        Raises:
            RecordRejected: the request has ended before.
        """
        if not request.model:
            request = replace(request, model=self.engine.model)
        life = slots.life(request.request)
        rested = slots.rested(request.request)
        if life is None and (rested is None or request.arrival_ns >= rested.end_ns):
            life = slots.open(request, tier_of(request, self._best_tier))
            self.lives.add(life)
            if request.arrival_ns < self._closed_ns and not self._stepped:
                self.late.lives.append(life)
        elif life is None or life.record.end_ns is not None:
            raise RecordRejected(
                f"request {request.request!r} has ended already", where=self.engine.engine, fix="use each id once"
            )
        else:
            life.record, life.announced = request, True
            life.tier = Tier.STEP_EXACT if life.stepped and not life.lost else tier_of(request, self._best_tier)
            slots.label(life)
        life.span = None
        self._worked_ns = _NEVER
        self.lives.changed = True
        self.lives.rates.learn(request)

    def ended(self, closed_ns: int, slots: SlotTable, *, last: bool) -> list[Life]:
        """Return the requests that ended by `closed_ns` (`last`: all of them) and forget them."""
        if self._stepped:
            if closed_ns > self._searched_ns + _SEARCH_NS:
                self._searched_ns = closed_ns
                self._end_unannounced(closed_ns, slots)
            for life in self.lives.active.values():
                if life.record.end_ns is not None:
                    life.last_step_end_ns = slots.last_step_end_ns(life.slot)
        done = self.lives.ended(FAR_NS if last else closed_ns)
        if done:
            self._worked_ns, self._last_names = _NEVER, ()
        for life in done:
            self._slot_of.pop(life.record.request, None)
        return done

    def _end_unannounced(self, closed_ns: int, slots: SlotTable) -> None:
        for life in self.lives.active.values():
            last_ns = 0 if life.announced else slots.last_step_end_ns(life.slot)
            if 0 < last_ns < closed_ns - _UNANNOUNCED_NS:
                life.record, self.lives.changed = replace(life.record, end_ns=last_ns), True

    def closed(self, closed_ns: int, last_closed_ns: int) -> None:
        """Drop the steps, and the server's own counts, that no tick can need any more.

        Args:
            closed_ns: until when the ticks of all its devices are closed.
            last_closed_ns: until when those of one are: what begins before and is told from now on comes late.
        """
        self._closed_ns = last_closed_ns
        self.steps.forget(closed_ns - MOST_NS)
        self.counts.forget(closed_ns)

    # Work.

    def may_work(self, t1_ns: int) -> bool:
        """Return whether a tick that ends at `t1_ns` could hold work at all (cheap)."""
        return bool(self.steps.has_any or self.lives.active or self.lives.coming_before(t1_ns))

    def work(self, t0_ns: int, t1_ns: int, window_ns: int = 0) -> Work | None:
        """Return the work that a tick shows, from steps where they are known, else from the requests' times.

        The devices of a host are read one after the other: ticks that begin and end almost together hold the same work.
        """
        near_ns = (t1_ns - t0_ns) // _ALIKE
        asked = t0_ns, t1_ns, window_ns
        if any(abs(at_ns - before_ns) > near_ns for at_ns, before_ns in zip(asked, self._worked_ns, strict=True)):
            self._worked, self._worked_ns = self._work(t0_ns, t1_ns, window_ns), asked
        return self._worked

    def _work(self, t0_ns: int, t1_ns: int, window_ns: int) -> Work | None:
        if self._stepped:
            steps = self.steps.overlapping(t0_ns - window_ns, t1_ns)
            if steps or not self._lost(t0_ns - window_ns, t1_ns):
                self._tier = Tier.STEP_EXACT
                return from_steps(steps, t0_ns, t1_ns, self.shape, window_ns)
        t0_ns, t1_ns = t0_ns - window_ns // 2, t1_ns - window_ns // 2
        lives = self.lives.present(t0_ns, t1_ns)
        if self._stepped:
            for life in lives:
                life.lost, life.tier = True, tier_of(life.record, self._best_tier)
        self._tier = max({life.tier for life in lives}, key=TIER_RANK.__getitem__, default=Tier.REQUEST_SPAN)
        spans = self.lives.spans(lives, t1_ns)
        work = from_spans(spans, t0_ns, t1_ns, self.shape, self.lives.pace.pace())
        if work is not None:
            self.lives.pace.note_reading(work)
        return work

    def _lost(self, t0_ns: int, t1_ns: int) -> bool:
        """Return whether the steps of a stretch of time were lost: none is known, but a request was answered in it."""
        around_ns = max(_STILL_NS - (t1_ns - t0_ns), 0)
        if not self._is_told or self.steps.overlapping(t0_ns - around_ns, t1_ns + around_ns):
            return False
        known = [(life.record.first_token_ns, life.record.end_ns) for life in self.lives.active.values()]
        return any(
            first_ns is not None and first_ns < t0_ns and end_ns is not None and end_ns > t1_ns
            for first_ns, end_ns in known
        )

    def steps_of(self, t0_ns: int, t1_ns: int) -> Work | None:
        """Return the work of the steps that are known by now; nothing else is looked at, and nothing changes by it."""
        return from_steps(self.steps.overlapping(t0_ns, t1_ns), t0_ns, t1_ns, self.shape)

    def late_work(self, t0_ns: int, t1_ns: int, window_ns: int) -> Work | None:
        """Return the work inside a closed tick that was told too late for it."""
        if self.late.steps:
            steps = [step for step in self.late.steps if step.t0_ns < t1_ns and step.t1_ns > t0_ns - window_ns]
            return from_steps(steps, t0_ns, t1_ns, self.shape, window_ns)
        spans = self.lives.spans(self.late.lives, t1_ns)
        return from_spans(spans, t0_ns, t1_ns, self.shape, self.lives.pace.pace())

    @property
    def tier(self) -> Tier:
        """The tier by which the newest `work` was told apart: the worst of the requests that were there."""
        return self._tier

    def token_weights(self, work: Work) -> Floats:
        """Return what each row weighs where only sums of tokens are known: when each was at work is not."""
        result: Floats = work.flops * np.where(work.prefill, self.lives.rates.prompt_token_price, 1.0)
        return result

    def teach_lag(self, lag: Lag, tick: Tick) -> None:
        """Teach how late a device's counter is, by the steps that its tick may show."""
        if self._stepped and lag.is_due():
            lag.learn(tick, self.steps.overlapping(tick.t0_ns - MOST_NS, tick.t1_ns), self.shape)

    def teach(self, time: StepTime) -> None:
        """Teach how long work takes."""
        if self._stepped:
            untaught, self._untaught = self._untaught, []
            for step in untaught:
                elapsed = (step.t1_ns - step.t0_ns) / NS_PER_SECOND
                time.learn(*step.totals(self.shape), len(step.slot), elapsed, has_prefill=bool(step.prefill.any()))
            time.fit()
            return
        self.lives.pace.seconds_per_byte = time.roofline().per_byte
        pace, prefill = self.lives.pace.pace(), self.lives.rates.prefill_seconds_per_token
        if pace.step_seconds:
            time.set_paced(pace.step_seconds - pace.seconds_per_byte * pace.mean_bytes, pace.seconds_per_flop)
        elif prefill is not None:
            time.set_per_flop(prefill / self.shape.flops_per_token)


def _again(known: Floats, new: Floats, prefill: Bools) -> Floats | None:
    """Return which part of a step's new tokens had been computed before, of those `known`; None where none had."""
    again = np.clip(known, 0.0, new) * prefill
    return again / np.maximum(new, 1.0) if again.any() else None
