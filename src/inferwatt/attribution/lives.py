"""The lives of one engine's requests: what is known of each, and the spans that are supposed of the rest. Pure."""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from inferwatt.attribution.pace import PaceFit, Prompt
from inferwatt.attribution.rebuild import CHUNK_TOKENS, Span
from inferwatt.attribution.work import Shape
from inferwatt.records import TIER_RANK, Request, Sums, Tier
from inferwatt.units import NS_PER_SECOND

FAR_NS = 2**62
"""An end that has not come."""
_REMEMBERED = 64
_ENOUGH = 8
_MIN_PROMPT_TOKENS = 16
_GAIN = 0.1
_SLACK = 1.5
_SOON_NS = NS_PER_SECOND
_PACED_SLACK = 1.2
_PROMPT_TOKEN_IN_OUTPUT_TOKENS = 0.1
"""What a prompt token costs of an output token where nothing is learnt yet: the middle of the token prices that did
best in our simulations of four loads (1/5 to 1/50)."""
_DEFAULT_TOKENS_PER_SECOND = 20.0


@dataclass(slots=True)
class Rates:
    """How fast the engine works, learnt from requests whose first token was seen."""

    _prefill_seconds_per_token: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    prefill_seconds_per_token: float | None = None
    """The lower quartile of time to first token per computed token, of requests that did not queue; else None."""
    decode_tokens_per_second: float = 0.0
    prompt_tokens: float = 0.0

    def learn(self, request: Request) -> None:
        """Learn from a request that has ended and whose first token was seen."""
        if request.end_ns is None or request.first_token_ns is None:
            return
        computed = computed_tokens(request)
        if computed is not None:
            self.prompt_tokens += (computed - self.prompt_tokens) * (_GAIN if self.prompt_tokens else 1.0)
            if computed >= _MIN_PROMPT_TOKENS:
                seconds = (request.first_token_ns - request.begun_ns) / NS_PER_SECOND
                self._prefill_seconds_per_token.append(seconds / computed)
                seen = sorted(self._prefill_seconds_per_token)
                self.prefill_seconds_per_token = seen[len(seen) // 4] if len(seen) >= _ENOUGH else None
        decoded = (request.output_tokens or 0) - 1
        elapsed_ns = request.end_ns - request.first_token_ns
        if decoded >= 1 and elapsed_ns > 0:
            rate = decoded * NS_PER_SECOND / elapsed_ns
            gain = _GAIN if self.decode_tokens_per_second else 1.0
            self.decode_tokens_per_second += gain * (rate - self.decode_tokens_per_second)

    @property
    def tokens_per_second(self) -> float:
        """Tokens that a decoding request makes in a second."""
        return self.decode_tokens_per_second or _DEFAULT_TOKENS_PER_SECOND

    @property
    def prompt_token_price(self) -> float:
        """What a computed prompt token costs, in output tokens, by the time that each takes."""
        prefill = self.prefill_seconds_per_token
        if prefill is None or not self.decode_tokens_per_second:
            return _PROMPT_TOKEN_IN_OUTPUT_TOKENS
        return min(prefill * self.decode_tokens_per_second, 1.0)


@dataclass(slots=True)
class Life:
    """One request: its newest record, its slot in the attributor's arrays, and what was known of its course."""

    record: Request
    slot: int
    tier: Tier
    span: Span | None = None
    earlier: Span | None = None
    """The part of its prompt that filled up a step of others."""
    supposed_ns: int = 0
    """When its spans were supposed."""
    stepped: bool = False
    lost: bool = False
    """Whether steps of its time were lost: it is `stepped` in part."""
    announced: bool = True
    """Whether a record told of it; else only steps did."""
    last_step_end_ns: int = 0

    @property
    def end_ns(self) -> int:
        """When its last work ended; far away while it is open."""
        return FAR_NS if self.record.end_ns is None else max(self.record.end_ns, self.last_step_end_ns)


def computed_tokens(request: Request) -> int | None:
    """Return how many prompt tokens had to be computed; None where the prompt's length is not known."""
    if request.prompt_tokens is None:
        return None
    return max(request.prompt_tokens - (request.cached_tokens or 0), 0)


def tier_of(request: Request, best: Tier) -> Tier:
    """Return the tier of a request whose steps are not known, not better than `best`."""
    tier = Tier.REQUEST_SPAN if request.first_token_ns is None else Tier.STEP_RECONSTRUCTED
    return max(tier, best, key=TIER_RANK.__getitem__)


def _is_supposed(life: Life, now_ns: int) -> bool:
    """Return whether nothing new is to be supposed of when a request's prompt was computed."""
    if life.span is None or life.record.first_token_ns is None:
        return life.span is not None and life.record.end_ns is not None
    return not life.supposed_ns < life.span.first_ns < now_ns + _SOON_NS


class Lives:
    """The requests of one engine, in the order of their arrival; those at work are kept apart."""

    def __init__(self) -> None:
        self.rates = Rates()
        self.pace = PaceFit()
        self.shape = Shape()
        self.active: dict[int, Life] = {}
        self.changed = False
        """Whether anything was said of a request since `ended` was last asked."""
        self._looked_ns = -1
        self._settled: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
        self._coming: list[tuple[int, int, Life]] = []

    def add(self, life: Life) -> None:
        """Keep a request until it is final."""
        self.changed = True
        heapq.heappush(self._coming, (life.record.arrival_ns, life.slot, life))

    def coming_before(self, t_ns: int) -> bool:
        """Return whether a request that arrives before `t_ns` waits to be looked at."""
        return bool(self._coming) and self._coming[0][0] < t_ns

    def present(self, t0_ns: int, t1_ns: int) -> list[Life]:
        """Return the requests that may have been at work inside the tick."""
        self._look(t1_ns)
        return [
            life
            for life in self.active.values()
            if (end_ns := life.record.end_ns) is None or end_ns > t0_ns or life.last_step_end_ns > t0_ns
        ]

    def _look(self, t_ns: int) -> None:
        """Count those that arrived before `t_ns` among those at work."""
        while self._coming and self._coming[0][0] < t_ns:
            life = heapq.heappop(self._coming)[2]
            self.active[life.slot] = life

    def ended(self, closed_ns: int) -> list[Life]:
        """Return the requests that had ended by `closed_ns`, and forget them.

        It is asked at each reading of each device: where nothing was said since, and no tick was closed on all of the
        engine's devices, there is nothing to look for.
        """
        if closed_ns == self._looked_ns and not self.changed:
            return []
        self._looked_ns, self.changed = closed_ns, False
        self._look(closed_ns)
        done = [
            life
            for life in self.active.values()
            if (FAR_NS if (end_ns := life.record.end_ns) is None else end_ns) <= closed_ns
            and life.last_step_end_ns <= closed_ns
        ]
        for life in done:
            del self.active[life.slot]
            self._settled.append((life.record.arrival_ns, life.end_ns))
            self._learn(life)
        return done

    def _learn(self, life: Life) -> None:
        """Learn the engine's pace from a request that is over."""
        record = life.record
        if record.end_ns is None or record.first_token_ns is None or life.stepped:
            return
        if record.output_tokens == 1:
            self.pace.learn_prompt(life.slot)
        else:
            self.pace.learn(record.first_token_ns, record.end_ns, (record.output_tokens or 0) - 1)

    def learn_passes(self, sums: Sums) -> None:
        """Learn the engine's pace from what it tells of its passes."""
        if sums.steps and sums.passes_ns and not sums.lost_passes:
            tokens = float(sums.prefill_tokens or 0)
            flops = float(self.shape.flops(np.array([tokens]), np.array([0.0]))[0])
            chunks = min(max(tokens / CHUNK_TOKENS, float(tokens > 0)), sums.steps)
            self.pace.passes(sums.steps, flops, chunks, sums.passes_ns / NS_PER_SECOND)

    def worked(self, t0_ns: int, t1_ns: int) -> bool:
        """Return whether any request was at work between two moments, the newest that were forgotten included."""
        known = chain(self.active.values(), (life for _, _, life in self._coming))
        return any(life.record.arrival_ns < t1_ns and life.end_ns > t0_ns for life in known) or any(
            start_ns < t1_ns and end_ns > t0_ns for start_ns, end_ns in self._settled
        )

    def open_at(self, t_ns: int) -> int:
        """Return how many requests were at work at `t_ns`."""
        return sum(life.record.arrival_ns <= t_ns < life.end_ns for life in self.present(t_ns, t_ns + 1))

    def spans(self, lives: Iterable[Life], now_ns: int) -> list[Span]:
        """Return when requests were computed, as far as is known or can be supposed at `now_ns`."""
        known = [self._span(life, now_ns) for life in lives]
        return [span for life in known for span in (life.earlier, life.span) if span is not None]

    def _span(self, life: Life, now_ns: int) -> Life:
        """Suppose its spans anew while they are to come: of the requests beside it not all are known by then."""
        if not _is_supposed(life, now_ns):
            life.supposed_ns, life.span = now_ns, self._suppose(life)
            life.earlier = self._begun_before(life.span) if life.record.first_token_ns is not None else None
        elif life.span is not None and life.record.end_ns is None:
            life.span.decode_tokens_per_second = self.rates.tokens_per_second
        return life

    def _begun_before(self, span: Span) -> Span | None:
        """Take from a span the part of its prompt that filled up the step of earlier ones, and return that."""
        part, start_ns, end_ns = self.pace.begun_before(span.slot)
        if not part:
            return None
        tokens = part * span.computed_tokens
        before = replace(span, start_ns=start_ns, first_ns=end_ns, end_ns=end_ns, computed_tokens=tokens, chunk_ns=())
        span.cached_tokens += tokens
        span.computed_tokens -= tokens
        return before

    def _suppose(self, life: Life) -> Span:
        record, rates = life.record, self.rates
        computed = computed_tokens(record)
        if computed is None:
            computed = round(rates.prompt_tokens)
        expected_ns = round(computed * (rates.prefill_seconds_per_token or 0.0) * NS_PER_SECOND)
        end_ns = FAR_NS if record.end_ns is None else record.end_ns
        first_ns = record.first_token_ns
        if first_ns is None:
            first_ns = self._supposed_first(record, computed, expected_ns, end_ns)
        first_ns = min(max(first_ns, record.arrival_ns), end_ns)
        return Span(
            slot=life.slot,
            start_ns=self._start(life, computed, first_ns, round(_SLACK * expected_ns)),
            first_ns=first_ns,
            end_ns=end_ns,
            computed_tokens=computed,
            cached_tokens=record.cached_tokens or 0,
            decode_tokens_per_second=self._decode_rate(record, first_ns, end_ns),
            chunk_ns=record.chunk_ns,
        )

    def _start(self, life: Life, computed: int, first_ns: int, longest_ns: int) -> int:
        """Return when the prompt began to be computed: waiting in the queue before it is no work."""
        record = life.record
        if record.first_token_ns is None:
            return min(record.begun_ns, first_ns)
        flops = float(self.shape.flops(np.array([computed]), np.array([record.cached_tokens or 0]))[0])
        pace = self.pace.pace()
        if pace.step_seconds:
            flops_beside = sum(prompt.flops for prompt in self.pace.together(life.slot, first_ns))
            seconds = pace.step_seconds + pace.seconds_per_flop * (flops + flops_beside)
            longest_ns = round(_PACED_SLACK * seconds * NS_PER_SECOND)
        start_ns = max(self.pace.free_since(record.arrival_ns, first_ns), min(record.begun_ns, first_ns))
        if longest_ns:
            start_ns = max(start_ns, first_ns - longest_ns)
        chunks = max(computed / CHUNK_TOKENS, 1.0)
        self.pace.prefilled(life.slot, Prompt(record.arrival_ns, start_ns, first_ns, flops, chunks))
        return start_ns

    def _supposed_first(self, record: Request, computed: int, expected_ns: int, end_ns: int) -> int:
        """Return when prefill turned to decode, where nobody saw it: by the time that each token takes."""
        if end_ns == FAR_NS:
            return record.begun_ns + expected_ns
        prompt_part = computed * self.rates.prompt_token_price
        output_part = max((record.output_tokens or 1) - 1, 0)
        whole = prompt_part + output_part
        part = prompt_part / whole if whole else 0.0
        return record.begun_ns + round((end_ns - record.begun_ns) * part)

    def _decode_rate(self, record: Request, first_ns: int, end_ns: int) -> float:
        if record.output_tokens is None or end_ns == FAR_NS:
            return self.rates.tokens_per_second
        return max(record.output_tokens - 1, 0) * NS_PER_SECOND / max(end_ns - first_ns, 1)
