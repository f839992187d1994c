"""What calls of one server cost lately, by the final joules of its own calls: what an answer says before its own."""

import time
from collections import deque
from dataclasses import replace

from inferwatt.answering.provisional import Known, provisional
from inferwatt.answering.usage import Used
from inferwatt.delivery import FINAL_WITHIN_NS, Delivery
from inferwatt.handle import RequestHandle
from inferwatt.rates import MAX_MODELS, RECENT_NS, Rates, Recent
from inferwatt.records import RequestEnergy
from inferwatt.units import NS_PER_SECOND

MOST_WAITING = 64
"""Calls whose final joules are waited for at once: of more than that a sample says as much."""
LOOK_SECONDS = 1.0
RECENT_SECONDS = RECENT_NS / NS_PER_SECOND


class Desk(Delivery):
    """Tells the agent of calls, and says whether it is there; it is connected before the first call comes."""

    last_retry_seconds = 2.0

    def _turn(self) -> None:
        if self._link is None:
            self._connect()
        super()._turn()

    @property
    def is_heard(self) -> bool:
        """Whether an agent is connected."""
        return self._link is not None


class Lately:
    """The last calls of one server."""

    def __init__(self) -> None:
        self._recent = Recent()
        self._waiting: deque[RequestHandle] = deque()
        self._rates: dict[str, tuple[Rates, float]] = {}
        """By model, the newest last; and since when they stand."""
        self._look_at = 0.0

    def ended(self, handle: RequestHandle) -> None:
        """Note a call of one answer that has ended: its final joules are still to come."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(handle)

    def known(self, handle: RequestHandle, used: Used, answers: int, prompts: int = 1) -> Known | RequestEnergy | None:
        """Return what is known of a call that ends now; of several answers to one prompt that counts for each."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look(now)
        used = replace(used, model=handle.model or used.model)
        if answers > prompts and used.prompt is not None:
            used = replace(used, prompt=used.prompt * (answers // prompts), cached=None)
        stands = self._rates.get(used.model)
        rates = (stands[0],) if stands is not None and now - stands[1] < RECENT_SECONDS else ()
        return provisional(handle.energy(), rates, used, answers=answers)

    def _look(self, now: float) -> None:
        """Take in the joules that have become final."""
        old_ns = time.monotonic_ns() - FINAL_WITHIN_NS
        for _ in range(len(self._waiting)):
            handle = self._waiting.popleft()
            energy = handle.energy()
            if energy is not None and energy.final:
                self._recent.add(handle.record(), energy)
            elif (handle.end_ns or 0) > old_ns:
                self._waiting.append(handle)
        for rates in self._recent.changed():
            self._rates.pop(rates.model, None)
            self._rates[rates.model] = rates, now
        while len(self._rates) > MAX_MODELS:
            del self._rates[next(iter(self._rates))]
