"""What one engine did: its steps, its requests' lives, and what its server counted itself. Pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from inferwatt.attribution.arrays import Floats, Ints
from inferwatt.attribution.lag import MOST_NS, Lag
from inferwatt.attribution.lives import FAR_NS, Life, Lives, tier_of
from inferwatt.attribution.rebuild import from_spans
from inferwatt.attribution.slots import SlotTable
from inferwatt.attribution.steptime import StepTime
from inferwatt.attribution.timeline import Tick
from inferwatt.attribution.work import Shape, StepRows, StepStore, Work, from_steps, whole_step
from inferwatt.errors import RecordRejected
from inferwatt.records import TIER_RANK, Engine, Model, Phase, Request, Step, Sums, Tier

_SUMS_KEPT_NS = 10_000_000_000
_TAUGHT_STEPS = 512
_TEACH_EVERY = 8
_ALIKE = 40
"""Ticks whose ends differ by less than this part of them are taken for one."""
_NEVER = (-FAR_NS, -FAR_NS)


class EngineState:
    """One engine and what a tick may still need to know of it."""

    def __init__(self, engine: Engine, model: Model | None, loaded: bool, best_tier: Tier) -> None:
        self.engine = engine
        self.loaded = loaded
        self.lives = Lives()
        self.steps = StepStore()
        self._best_tier = best_tier
        self._stepped = False
        self._sums: deque[tuple[Sums, float]] = deque()
        self._step_count = 0
        self._untaught: list[StepRows] = []
        self._slot_of: dict[str, int] = {}
        self._worked: Work | None = None
        self._worked_ns = _NEVER
        self._tier = Tier.REQUEST_SPAN
        self._last_names: tuple[str, ...] = ()
        self._last_slots = np.zeros(0, dtype=np.int64)
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
        if names != self._last_names:
            self._last_names, self._last_slots = names, self._slots_of(names, slots)
        new, context = np.array(new_tokens, dtype=np.float64), np.array(context_tokens, dtype=np.float64)
        prefill, reached = np.zeros(len(names), dtype=np.bool_), context + 1.0
        if Phase.PREFILL in phases:
            prefill = np.array([phase == Phase.PREFILL for phase in phases])
            reached = np.where(prefill, context + new, reached)  # of a decode's drafts one token is sure to stay
        before = slots.note_step(self._last_slots, step.t1_ns, reached)
        again = np.clip(before - context, 0.0, new) * prefill
        part = again / np.maximum(new, 1.0) if again.any() else None
        rows = StepRows(step.t0_ns, step.t1_ns, self._last_slots, new, context, prefill, part)
        self._stepped = True
        self._worked_ns = _NEVER
        self.steps.add(rows)
        self._step_count += 1
        if self._step_count < _TAUGHT_STEPS or self._step_count % _TEACH_EVERY == 0:
            self._untaught.append(rows)

    def _slots_of(self, names: Sequence[str], slots: SlotTable) -> Ints:
        """Return the members' slots; a member that is new gets an account."""
        known = self._slot_of
        new = [name for name in names if name not in known]
        for name in new:
            life = slots.life(name)
            if life is None:
                life = slots.open(Request(name, engine=self.engine.engine, model=self.engine.model), Tier.STEP_EXACT)
                self.lives.add(life)
            life.tier, life.stepped = Tier.STEP_EXACT, True
            known[name] = life.slot
        return np.array([known[name] for name in names])

    def add_request(self, request: Request, slots: SlotTable) -> None:
        """Keep what is known of a request.

        Raises:
            RecordRejected: the request has ended before.
        """
        if not request.model:
            request = replace(request, model=self.engine.model)
        life = slots.life(request.request)
        if life is None:
            life = slots.open(request, tier_of(request, self._best_tier))
            self.lives.add(life)
        elif life.record.end_ns is not None:
            raise RecordRejected(
                f"request {request.request!r} has ended already", where=self.engine.engine, fix="use each id once"
            )
        else:
            life.record = request
            life.tier = Tier.STEP_EXACT if life.stepped else tier_of(request, self._best_tier)
            slots.label(life)
        life.span = None
        self._worked_ns = _NEVER
        self.lives.changed = True
        self.lives.rates.learn(request)

    def ended(self, closed_ns: int, slots: SlotTable, *, last: bool) -> list[Life]:
        """Return the requests that ended by `closed_ns` (`last`: all of them) and forget them."""
        if self._stepped:
            for life in self.lives.active.values():
                if life.record.end_ns is not None:
                    life.last_step_end_ns = slots.last_step_end_ns(life.slot)
        done = self.lives.ended(FAR_NS if last else closed_ns)
        if done:
            self._worked_ns = _NEVER
        for life in done:
            self._slot_of.pop(life.record.request, None)
        return done

    def forget_steps(self, closed_ns: int) -> None:
        """Drop the steps, and the server's own counts, that no tick can need any more."""
        self.steps.forget(closed_ns - MOST_NS)
        while self._sums and self._sums[0][0].t1_ns < closed_ns - _SUMS_KEPT_NS:
            self._sums.popleft()

    # Work.

    def may_work(self, t1_ns: int) -> bool:
        """Return whether a tick that ends at `t1_ns` could hold work at all (cheap)."""
        return bool(self.steps.has_any or self.lives.active or self.lives.coming_before(t1_ns))

    def work(self, t0_ns: int, t1_ns: int) -> Work | None:
        """Return the work inside the tick, from steps where they are known, else from the requests' times.

        The devices of a host are read one after the other: ticks that begin and end almost together hold the same work.
        """
        near_ns = (t1_ns - t0_ns) // _ALIKE
        if abs(t0_ns - self._worked_ns[0]) > near_ns or abs(t1_ns - self._worked_ns[1]) > near_ns:
            self._worked, self._worked_ns = self._work(t0_ns, t1_ns), (t0_ns, t1_ns)
        return self._worked

    def _work(self, t0_ns: int, t1_ns: int) -> Work | None:
        if self._stepped:
            return from_steps(self.steps.overlapping(t0_ns, t1_ns), t0_ns, t1_ns, self.shape)
        lives = self.lives.present(t0_ns, t1_ns)
        self._tier = max({life.tier for life in lives}, key=TIER_RANK.__getitem__, default=Tier.REQUEST_SPAN)
        spans = [self.lives.span(life, t1_ns) for life in lives]
        return from_spans(spans, t0_ns, t1_ns, self.shape, self.lives.pace.pace())

    def steps_of(self, t0_ns: int, t1_ns: int) -> Work | None:
        """Return the work of the steps that are known by now; nothing else is looked at, and nothing changes by it."""
        return from_steps(self.steps.overlapping(t0_ns, t1_ns), t0_ns, t1_ns, self.shape)

    @property
    def tier(self) -> Tier:
        """The tier by which the newest `work` was told apart: the worst of the requests that were there."""
        return Tier.STEP_EXACT if self._stepped else self._tier

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
                rows = whole_step(step, self.shape)
                flops, read_bytes, elapsed = (float(x.sum()) for x in (rows.flops, rows.read_bytes, rows.seconds))
                time.learn(flops, read_bytes, len(rows.slot), elapsed, has_prefill=bool(rows.prefill.any()))
            time.fit()
            return
        pace, prefill = self.lives.pace.pace(), self.lives.rates.prefill_seconds_per_token
        if pace.step_seconds:
            time.set_paced(pace.step_seconds, pace.seconds_per_flop)
        elif prefill is not None:
            time.set_per_flop(prefill / self.shape.flops_per_token)

    # What the server counted itself.

    def add_sums(self, sums: Sums) -> None:
        """Keep what the server counted, and how many of its running requests no record explains.

        What it tells of its passes is no count of work that records could lack: it tells the engine's pace.
        """
        if sums.steps is not None:
            self.lives.learn_passes(sums)
            return
        excess = 0.0
        if sums.running is not None:
            excess = max(0.0, float(sums.running - self.lives.open_at(sums.t1_ns)))
        self._sums.append((sums, excess))

    def counted(self, t0_ns: int, t1_ns: int) -> bool:
        """Return whether the server itself says that it worked in that time, beyond what records explain.

        A page tells sums of a second. Where a record was at work in it and no more runs than the records know, what it
        counted is theirs, and the rest of that second is no work.
        """
        return any(
            (sums.running or 0) + (sums.output_tokens or 0) + (sums.prompt_tokens or 0) + sum(sums.units.values()) > 0
            and not self._is_explained(sums)
            for sums in self._during(t0_ns, t1_ns)
        )

    def _is_explained(self, sums: Sums) -> bool:
        if not self.lives.worked(sums.t0_ns, sums.t1_ns):
            return False
        return sums.running is None or sums.running <= self.lives.open_at(sums.t1_ns)

    def _during(self, t0_ns: int, t1_ns: int) -> list[Sums]:
        found = []
        for sums, _ in reversed(self._sums):
            if sums.t1_ns <= t0_ns:
                break
            if sums.t0_ns < t1_ns:
                found.append(sums)
        return found

    def unlisted_part(self, tick: Tick, work: Work) -> float:
        """Return the part of the work that no record explains: requests that run at two scrapes in a row."""
        before = 0.0
        for sums, excess in self._sums:
            if sums.t0_ns >= tick.t1_ns:
                break
            if sums.t1_ns > tick.t0_ns:
                both = min(before, excess)
                if both <= 0:
                    return 0.0
                members = len(np.unique(work.slot))
                return both / (both + members)
            before = excess
        return 0.0

    def unlisted_prefill_ratio(self, tick: Tick) -> float:
        """Return which part of unlisted work is prefill, by what the server counted and what each token takes."""
        price = self.lives.rates.prompt_token_price
        prompt = output = 0.0
        for sums in self._during(tick.t0_ns, tick.t1_ns):
            prompt += (sums.prompt_tokens or 0) * price
            output += sums.output_tokens or 0
        return prompt / (prompt + output) if prompt + output > 0 else 0.0
