"""From what the recorder kept to steps and requests: the books of one vLLM engine, in a thread of our own.

Only what a SchedulerOutput and the engine's outputs say is read, never the scheduler's own state, which has moved on
by then. Steady decode, the same members with one token each, is only counted; a sequence's book is brought up to date
when something else happens. A step lasts from its schedule, or the end of the step before it, to its output: right also
where vLLM schedules the next step while one runs.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from inferwatt.engines.vllm_names import names_of
from inferwatt.engines.vllm_recorder import ADDED, FINISHED, SCHEDULED, Event
from inferwatt.engines.vllm_sequences import Sequence
from inferwatt.records import Request
from inferwatt.units import NS_PER_SECOND
from inferwatt.wire_steps import Same, StepRow

MAX_PENDING = 64
"""Steps that were scheduled and not heard of again; no engine has so many in flight."""
GIVEN_UP_NS = 30 * NS_PER_SECOND
"""How long a step may run that is for nobody any more: an engine that failed ends its requests and drops their steps
(vLLM's fault tolerance), and may not make another one."""
MAX_WEIGHT = 24_000
"""Members of whole steps in a message: with numbers of 15 digits in all, well below a frame's 1 MiB."""
MAX_ROWS = 2048


class _Pending(NamedTuple):
    t0_ns: int
    output: Any


class _Base(NamedTuple):
    """A step that the next ones may repeat, and what the sum of their contexts will be."""

    row: StepRow
    next_context: int

    @classmethod
    def of(cls, row: StepRow) -> "_Base":
        return cls(row, sum(row.context_tokens) + sum(row.new_tokens))

    def repeated(self, t0_ns: int, t1_ns: int, age: int) -> StepRow:
        """Return the step that is `age` steps of one token after it, in full."""
        row = self.row
        contexts = [was + new + age - 1 for was, new in zip(row.context_tokens, row.new_tokens, strict=True)]
        return StepRow(t0_ns, t1_ns, row.names, [1] * len(row.names), contexts, [])


class _Got(NamedTuple):
    """What a step gave one sequence: how many tokens, and the name of its end, empty where it goes on."""

    tokens: int
    end: str


class VllmBooks:
    """Feed it a recorder's events in order, then take what is new: steps, and the newest state of changed requests."""

    def __init__(self, model: str, *, is_suffixed: bool = True, arrival_ns: Callable[[float], int | None]) -> None:
        """Make the books of an engine.

        Args:
            model: what the server calls its model; a LoRA adapter's own name stands for it.
            is_suffixed: whether vLLM makes its requests' names unique.
            arrival_ns: a time of the wall clock (UTC, seconds) as CLOCK_MONOTONIC.
        """
        self._model = model
        self._is_suffixed = is_suffixed
        self._arrival_ns = arrival_ns
        self.lost_steps = 0
        self._sequences: dict[str, Sequence] = {}
        self._pending: dict[int, _Pending] = {}
        self._updated_ns = 0
        self._rows: list[StepRow | Same] = []
        self._changed: dict[str, Sequence] = {}
        self._ending: dict[str, set[int]] = {}
        self._base: _Base | None = None
        self._run = 0
        self._settled = 0
        self._weight = 0

    def take(self, now_ns: int = 0) -> tuple[list[StepRow | Same], list[Request]]:
        """Return the steps since the last call, and the requests that changed."""
        self._settle_run()
        self._give_up(now_ns - GIVEN_UP_NS)
        rows, self._rows, self._weight = self._rows, [], 0
        for name in [name for name, waits in self._ending.items() if not waits]:
            del self._ending[name]
            self._changed[name] = self._sequences.pop(name)
        changed, self._changed = self._changed, {}
        return rows, [self._request(one) for one in changed.values()]

    @property
    def is_full(self) -> bool:
        """Whether what is new fills a message."""
        return self._weight > MAX_WEIGHT or len(self._rows) >= MAX_ROWS

    def open_requests(self) -> list[Request]:
        """Return every request that has not ended, for an agent that has just started."""
        self._settle_run()
        return [self._request(one) for one in self._sequences.values()]

    def feed(self, event: Event) -> None:
        """Take one event of the recorder."""
        kind, t_ns = event[0], event[1]
        if kind == ADDED:
            self._added(t_ns, *event[2:])
        elif kind == SCHEDULED:
            self._scheduled(t_ns, event[2])
        elif kind == FINISHED:
            self._finished(t_ns, event[2], event[3])
        else:
            self._updated(t_ns, event[2], event[3])

    # What happened.

    def _added(self, t_ns: int, name: str, arrival_unix: float | None, prompt: int | None, lora: str) -> None:
        if name in self._sequences:
            return  # more input for a session that goes on
        arrival_ns = self._arrival_ns(arrival_unix) if arrival_unix is not None else None
        one = Sequence(name, min(arrival_ns or t_ns, t_ns), prompt, lora)
        self._sequences[name] = self._changed[name] = one

    def _scheduled(self, t_ns: int, output: Any) -> None:
        if output.num_scheduled_tokens:
            self._pending[id(output)] = _Pending(t_ns, output)  # it is held, so that its id is its own
            if len(self._pending) > MAX_PENDING:
                self._forget(next(iter(self._pending)))

    def _forget(self, key: int) -> None:
        del self._pending[key]
        self.lost_steps += 1
        for waits in self._ending.values():
            waits.discard(key)

    def _give_up(self, before_ns: int) -> None:
        """Forget steps from before a time of which every member has ended."""
        old = [key for key, step in self._pending.items() if step.t0_ns < before_ns] if self._ending else ()
        for key in old:
            if self._pending[key].output.num_scheduled_tokens.keys() <= self._ending.keys():
                self._forget(key)

    def _finished(self, t_ns: int, names: Any, status: str) -> None:
        self._settle_run()
        names = (names,) if isinstance(names, str) else tuple(self._sequences) if names is None else names
        for name in names:
            one = self._sequences.get(name)
            if one is not None and one.end_ns is None:
                self._end(one, t_ns, status)

    def _end(self, one: Sequence, t_ns: int, how: str) -> None:
        """Note an end; the record waits for the steps in flight that still compute for it."""
        self._base = None
        one.end_ns, one.outcome = max(t_ns, one.arrival_ns), how
        self._ending[one.name] = {
            key for key, step in self._pending.items() if one.name in step.output.num_scheduled_tokens
        }

    # A step.

    def _updated(self, t_ns: int, output: Any, result: Any) -> None:
        if id(output) not in self._pending:
            return
        while (oldest := next(iter(self._pending))) != id(output):
            self._forget(oldest)  # outputs come in order: vLLM has dropped the steps before
        pending = self._pending.pop(id(output))
        t0_ns = min(max(pending.t0_ns, self._updated_ns), t_ns)
        self._updated_ns = t_ns
        base = self._base
        if base is not None and _is_steady(base, self._run, output, result):
            self._run += 1
            same = Same(t0_ns, t_ns)
            self._rows.append(same if self._rows else base.repeated(t0_ns, t_ns, self._run))
            return
        self._settle_run()
        row = self._step(t0_ns, t_ns, output, _got(result))
        self._rows.append(row)
        self._weight += len(row.names)
        self._base, self._run, self._settled = _Base.of(row), 0, 0
        for waits in self._ending.values():
            waits.discard(id(output))

    def _step(self, t0_ns: int, t1_ns: int, output: Any, got: Mapping[str, _Got]) -> StepRow:
        contexts = self._contexts(output)
        drafts = output.scheduled_spec_decode_tokens or {}
        row = StepRow(t0_ns, t1_ns, [], [], [], [])
        for name, tokens in output.num_scheduled_tokens.items():
            one = self._sequences.get(name) or self._unknown(name, t0_ns)
            context = contexts.get(name, one.reach)
            one.admit(context, t0_ns)
            if one.is_prefill(context):
                row.prefill.append(len(row.names))
            if one.end_ns is not None:
                context = one.lost(context, tokens)
            else:
                gained = got.get(name, _Got(0, ""))
                context = one.step(context, tokens, len(drafts.get(name, ())), gained.tokens)
                self._gained(one, t1_ns, gained)
            row.names.append(name)
            row.new_tokens.append(tokens)
            row.context_tokens.append(context)
        return row

    def _gained(self, one: Sequence, t_ns: int, gained: _Got) -> None:
        if gained.tokens and one.first_ns is None:
            one.first_ns = t_ns
            self._changed[one.name] = one
        if gained.end:
            self._end(one, t_ns, gained.end)

    def _contexts(self, output: Any) -> dict[str, int]:
        """Return each member's tokens that were computed before the step; of a new one take its prompt's length."""
        cached = output.scheduled_cached_reqs
        contexts = dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        for new in output.scheduled_new_reqs:
            contexts[new.req_id] = new.num_computed_tokens
            one = self._sequences.get(new.req_id) or self._unknown(new.req_id, self._updated_ns)
            if one.prompt is None and new.prompt_token_ids is not None:
                one.prompt = len(new.prompt_token_ids)
        return contexts

    def _unknown(self, name: str, t_ns: int) -> Sequence:
        """Return a book for a request whose arrival was not seen."""
        one = self._sequences[name] = self._changed[name] = Sequence(name, t_ns)
        return one

    def _settle_run(self) -> None:
        """Bring the books of a steady run's members up to date."""
        grown, self._settled = self._run - self._settled, self._run
        if grown and self._base is not None:
            for name in self._base.row.names:
                self._sequences[name].grow(grown)

    # Saying it.

    def _request(self, one: Sequence) -> Request:
        names = names_of(one.name, is_suffixed=self._is_suffixed)
        known: dict[str, Any] = {}
        if one.cached is not None and one.prompt is not None:
            known = {"cached_tokens": min(one.cached, one.prompt)}
        has_ended = one.end_ns is not None and one.name not in self._ending  # else a step is still on the way
        if has_ended:
            known["outcome"], known["ending"] = one.ended
            known |= {"cached_tokens": known.get("cached_tokens", 0), "output_tokens": one.output}
            known |= {f"{name}_tokens": getattr(one, name) for name in ("recomputed", "rejected", "wasted")}
        return Request(
            one.name,
            model=one.lora or self._model,
            arrival_ns=one.arrival_ns,
            first_token_ns=one.first_ns,
            end_ns=one.end_ns if has_ended else None,
            prompt_tokens=one.prompt,
            response_id=names.response_id,
            trace_id=names.request_id,
            queued_ns=one.queued_ns,
            **known,
        )


def _got(result: Any) -> dict[str, _Got]:
    """Return what a step gave each sequence, of all front ends."""
    return {
        one.request_id: _Got(len(one.new_token_ids), one.finish_reason.name if one.finish_reason is not None else "")
        for each in (result.values() if result else ())
        for one in each.outputs
    }


def _is_steady(base: _Base, run: int, output: Any, result: Any) -> bool:
    """Whether a step does what the `run` steps since the base did: one token each, and each gave one and goes on."""
    scheduled = output.num_scheduled_tokens
    count = len(scheduled)
    if output.scheduled_new_reqs or output.scheduled_spec_decode_tokens or output.total_num_scheduled_tokens != count:
        return False
    if list(scheduled) != base.row.names:
        return False
    if sum(output.scheduled_cached_reqs.num_computed_tokens) != base.next_context + run * count:
        return False
    given = 0
    for each in result.values() if result else ():
        given += len(each.outputs)
        for one in each.outputs:
            if one.finish_reason is not None or len(one.new_token_ids) != 1:
                return False
    return given == count
