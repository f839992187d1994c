"""A stand-in for vLLM's engine: scheduler objects with the fields that vLLM 0.32 has, and a life for each sequence.

It schedules like the real one (new and known requests, chunks, drafts, preemption, a step ahead where it is async), so
that books can be made of what it does and compared with what it really did.
"""

import random
from dataclasses import dataclass
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

from inferwatt.engines.vllm_recorder import ADDED, FINISHED, SCHEDULED, UPDATED, Event


class FinishReason(IntEnum):
    """As vLLM's own (v1/engine/__init__.py)."""

    STOP = 0
    LENGTH = 1
    ABORT = 2


@dataclass
class Life:
    """What a sequence really is: its lengths, and what was really computed for it."""

    name: str
    prompt: int
    most: int
    cached: int
    computed: int = 0
    position: int = 0
    given: int = 0
    in_flight: int = 0
    is_known: bool = False
    ended: bool = False
    aborted: bool = False


class ScriptedEngine:
    """Draws what happens from a random source, and keeps the events that a recorder would."""

    def __init__(self, rng: random.Random, *, is_async: bool, drafts: int, budget: int = 64) -> None:
        self.events: list[Event] = []
        self.lives: dict[str, Life] = {}
        self.running: list[Life] = []
        self._rng = rng
        self._ahead = 2 if is_async else 1
        self._drafts = 0 if is_async else drafts
        self._budget = budget
        self._t_ns = 1_000_000
        self._flying: list[tuple[Any, dict[str, tuple[int, int]]]] = []

    def _now(self) -> int:
        self._t_ns += self._rng.randint(1, 1000)
        return self._t_ns

    def add(self, number: int) -> None:
        """Let a request arrive."""
        prompt = self._rng.randint(1, 150)
        cached = self._rng.choice([0, 0, prompt // 2])
        life = Life(f"chatcmpl-{number}-{number:08x}", prompt, self._rng.randint(1, 12), min(cached, prompt - 1))
        self.lives[life.name] = life
        self.running.append(life)
        self.events.append((ADDED, self._now(), life.name, None, prompt, ""))

    def abort(self) -> None:
        """End a running request from outside, and say so twice, as vLLM does."""
        if self.running:
            life = self._rng.choice(self.running)
            life.ended = life.aborted = True
            self.running.remove(life)
            status = SimpleNamespace(name="FINISHED_ABORTED")
            for _ in range(2):
                self.events.append((FINISHED, self._now(), (life.name,), status.name))

    def preempt(self) -> None:
        """Take a request's cache away: it begins again, with what it had given as part of its prompt."""
        ready = [life for life in self.running if life.position and not life.in_flight]
        if ready:
            life = self._rng.choice(ready)
            life.position = 0

    def turn(self) -> None:
        """Schedule a step, and take the output of the oldest where no more may be in flight."""
        self._schedule()
        while len(self._flying) >= self._ahead or (self._flying and not self.running):
            self._update()

    def finish(self) -> None:
        """Let all that is there end."""
        while self.running or self._flying:
            self.turn()

    def _schedule(self) -> None:
        t_ns = self._now()
        left = self._budget
        new, ids, contexts = [], [], []
        scheduled: dict[str, int] = {}
        drafts: dict[str, list[int]] = {}
        spans: dict[str, tuple[int, int]] = {}
        for life in self.running:
            end = life.prompt + life.given + life.in_flight
            if not life.is_known:
                life.position = life.cached
            if life.position >= end or (life.in_flight and life.position < life.prompt):
                continue
            if life.given + life.in_flight >= life.most:
                continue
            guess = self._rng.randint(0, self._drafts) if life.given and life.position == end - 1 else 0
            tokens = min(end - life.position + guess, left)
            if tokens <= 0:
                continue
            guess = max(tokens - (end - life.position), 0)
            left -= tokens
            if not life.is_known:
                data = {
                    "req_id": life.name,
                    "num_computed_tokens": life.position,
                    "prompt_token_ids": [0] * life.prompt,
                }
                new.append(SimpleNamespace(**data))
            else:
                ids.append(life.name)
                contexts.append(life.position)
            life.is_known = True
            scheduled[life.name] = tokens
            if guess:
                drafts[life.name] = [0] * guess
            spans[life.name] = (life.position, guess)
            life.computed += tokens
            life.position += tokens
            life.in_flight += life.position >= end
        output = SimpleNamespace(
            num_scheduled_tokens=scheduled,
            total_num_scheduled_tokens=sum(scheduled.values()),
            scheduled_new_reqs=new,
            scheduled_cached_reqs=SimpleNamespace(req_ids=ids, num_computed_tokens=contexts),
            scheduled_spec_decode_tokens=drafts,
        )
        self.events.append((SCHEDULED, t_ns, output))
        self._flying.append((output, spans))

    def _update(self) -> None:
        output, spans = self._flying.pop(0)
        t_ns = self._now()
        outputs = []
        for name, tokens in output.num_scheduled_tokens.items():
            life = self.lives[name]
            context, guess = spans[name]
            end = life.prompt + life.given
            if context + tokens - guess < end:
                continue  # in the middle of a prefill
            life.in_flight -= 1
            if life.ended:
                continue
            accepted = self._rng.randint(0, guess)
            given = min(1 + accepted, life.most - life.given)
            life.position -= guess - (given - 1)
            life.given += given
            done = life.given >= life.most or self._rng.random() < 0.1
            if done:
                life.ended = True
                self.running.remove(life)
            reason = (FinishReason.LENGTH if life.given >= life.most else FinishReason.STOP) if done else None
            outputs.append(SimpleNamespace(request_id=name, new_token_ids=[0] * given, finish_reason=reason))
        half = len(outputs) // 2
        result = {0: SimpleNamespace(outputs=outputs[:half]), 1: SimpleNamespace(outputs=outputs[half:])}
        self.events.append((UPDATED, t_ns, output, result))
