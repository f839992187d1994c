"""The producer of a process that answers clients: it tells the agent each call, and hears what the calls have used."""

from typing import Any

from inferwatt.answering.provisional import Known, provisional
from inferwatt.answering.usage import Used
from inferwatt.delivery import Delivery
from inferwatt.errors import RecordRejected
from inferwatt.handle import RequestHandle
from inferwatt.rates import Rates
from inferwatt.records import RequestEnergy
from inferwatt.wire_rates import RATES, rates_from_wire


class Desk(Delivery):
    """Tells calls and hears joules, as the SDK does; and hears what tokens of its server's models cost lately."""

    kind, last_retry_seconds = "vllm", 2.0  # as the plugin beside it, so that an agent hears both

    def __init__(self, about: dict[str, Any], path: str | None = None) -> None:
        """Prepare a producer; `about` is what this process says of itself."""
        super().__init__(path)
        self.about = about
        self._rates: dict[tuple[str, str], Rates] = {}

    def heed(self, message: dict[str, Any]) -> None:
        """Take rates; called by the delivery's thread. An agent that has just started says them anew."""
        if message.get("t") == "hello":
            self._rates = {}
        elif message.get("t") == RATES:
            try:
                heard = {(rates.engine, rates.model): rates for rates in rates_from_wire(message)}
            except RecordRejected:
                self.counts["bad_rates"] += 1
            else:
                self._rates = {**self._rates, **heard}

    def known(self, handle: RequestHandle, used: Used, answers: int) -> Known | RequestEnergy | None:
        """Return what is known of a call that ends now; rates count only while their agent is there."""
        rates = self._rates.values() if self._link is not None else ()
        return provisional(handle.energy(), rates, used, answers=answers)
