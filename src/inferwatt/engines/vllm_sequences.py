"""The token book of one sequence in vLLM's engine. Pure.

A sequence's tokens have positions: those of the prompt, then those of the output. Each step computes a range of them.
What lies below the furthest position that was ever computed is done again (`recomputed`, after a preemption); drafts
that were not accepted are taken back (`rejected`); what a step computed after its request had ended, beyond the prompt,
is `wasted`. So that, exactly, for every sequence that gave an output:

    computed = prompt - cached + output - 1 + recomputed + rejected + wasted

and an abort before the first output has computed at most prompt - cached of its prompt.
"""

from dataclasses import dataclass

from inferwatt.records import Ending, Outcome

ENDS = {
    "STOP": (Outcome.FINISHED, Ending.EOS),
    "LENGTH": (Outcome.FINISHED, Ending.LENGTH),
    "ABORT": (Outcome.ABORTED, Ending.DISCONNECT),
    "ERROR": (Outcome.FAILED, Ending.ERROR),
    "FINISHED_STOPPED": (Outcome.FINISHED, Ending.EOS),
    "FINISHED_LENGTH_CAPPED": (Outcome.FINISHED, Ending.LENGTH),
    "FINISHED_ABORTED": (Outcome.ABORTED, Ending.DISCONNECT),
    "FINISHED_ERROR": (Outcome.FAILED, Ending.ERROR),
}
"""How a request ended, by what vLLM calls it: the reason of an output, or the state that it was put into from outside.
Any other is an end like any (`Ending.OTHER`). An abort is a client that left, unless its front end says otherwise: a
stop string is found there."""


@dataclass(slots=True)
class Sequence:
    """One sequence: what is known of it, and its tokens so far. `reach` is the furthest position computed."""

    name: str
    arrival_ns: int
    prompt: int | None = None
    lora: str = ""
    cached: int | None = None
    reach: int = 0
    computed: int = 0
    recomputed: int = 0
    rejected: int = 0
    wasted: int = 0
    output: int = 0
    begun_ns: int | None = None
    first_ns: int | None = None
    end_ns: int | None = None
    outcome: str = ""

    @property
    def ended(self) -> tuple[Outcome, Ending | None]:
        """How it ended; what gives no token (an embedding) has no token at which it ends."""
        outcome, ending = ENDS.get(self.outcome, (Outcome.FINISHED, Ending.OTHER))
        return outcome, None if outcome is Outcome.FINISHED and not self.output else ending

    @property
    def queued_ns(self) -> int | None:
        """How long it waited for its first step; None where that has not come."""
        if self.begun_ns is None:
            return None
        return max(min(self.begun_ns, self.end_ns or self.begun_ns) - self.arrival_ns, 0)

    def admit(self, context: int, t_ns: int) -> None:
        """Take its first step, at `t_ns`: what is in its context then came from the cache."""
        if self.cached is None:
            self.cached, self.begun_ns = context, t_ns
            self.reach = context

    def is_prefill(self, context: int) -> bool:
        """Whether work at this position is of the prompt, or of what was there before a preemption."""
        return context < (self.prompt or 0) or context < self.reach

    def step(self, context: int, tokens: int, drafts: int, got: int) -> int:
        """Take a step that computed `tokens` from position `context` on, and gave `got` output tokens.

        Returns:
            The position at which it really began: an async engine may not know yet which drafts were rejected.
        """
        context = min(context, self.reach)
        rejected = max(drafts - (got - 1), 0) if drafts and got else 0
        self._advance(context, tokens, rejected)
        self.rejected += rejected
        self.output += got
        return context

    def lost(self, context: int, tokens: int) -> int:
        """Take a step whose output nobody wanted any more; return the position at which it really began."""
        context = min(context, self.reach)
        self.wasted += max(context + tokens - max(self.reach, self.prompt or 0), 0)
        self._advance(context, tokens, 0)
        return context

    def grow(self, steps: int) -> None:
        """Take a number of steps with one token each."""
        self.computed += steps
        self.reach += steps
        self.output += steps

    def _advance(self, context: int, tokens: int, rejected: int) -> None:
        end = context + tokens
        self.computed += tokens
        self.recomputed += max(min(end, self.reach) - context, 0)
        self.reach = max(self.reach, end - rejected)
