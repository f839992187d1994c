"""One request, several witnesses: what a server's front end adds to what its engine counted.

They meet by the names of a request: what the front end calls it, what the client got, what the client gave. The
engine's count is the truth of what was computed; the front end's of what was delivered; a client (clients.py) adds
whose it is.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from inferwatt.engines.plugged import Ends
from inferwatt.engines.session import Incoming
from inferwatt.engines.vllm_names import names_of
from inferwatt.receipts import Receipts
from inferwatt.records import UNKNOWN_TENANT, Ending, Outcome, Request
from inferwatt.units import NS_PER_SECOND
from inferwatt.wire_steps import End

FORGET_NS = 10 * NS_PER_SECOND
MAX_ENDS = 16_384
_ENDS = {"ABORT": (Outcome.ABORTED, Ending.DISCONNECT), "ERROR": (Outcome.FAILED, Ending.ERROR)}
"""What a front end's word says by itself; with any other a request has ended as its engine says."""


@dataclass(slots=True)
class Known:
    """A request of a plugin that is not handed over for good: its newest record, and what others add to it."""

    incoming: Incoming
    tenant: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    traceparent: str = ""

    def with_others(self) -> Incoming:
        """Return its newest record with what others have added."""
        if not (self.tenant or self.tags or self.traceparent):
            return self.incoming
        request = self.incoming.request
        above = self.traceparent or request.traceparent
        tags = {**request.tags, **self.tags}
        request = replace(request, tenant=self.tenant or request.tenant, tags=tags, traceparent=above)
        return replace(self.incoming, request=request)

    def hear(self, said: Request) -> bool:
        """Take what a client tells of it; return whether that is news."""
        tenant = "" if said.tenant == UNKNOWN_TENANT else said.tenant
        is_known = self.traceparent or not said.traceparent
        if not (tenant and tenant != self.tenant) and said.tags.items() <= self.tags.items() and is_known:
            return False
        self.tenant, self.tags = tenant or self.tenant, {**self.tags, **said.tags}
        self.traceparent = self.traceparent or said.traceparent
        return True


class _Said(NamedTuple):
    """A front end's word, and the message that it came in."""

    end: End
    message: Ends


class FrontEnds:
    """What front ends have finished, until the engine's word of it comes.

    A word is acknowledged once the request that it corrects is kept: an agent that is killed before hears it again.
    """

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._said: dict[str, list[_Said]] = {}
        self._forgot_ns = 0

    def add(self, message: Ends) -> None:
        """Keep a front end's words."""
        for place, end in enumerate(message.ends, 1):
            self._receipts.came(message.producer, message.seq, is_last=place == len(message.ends))
            if len(self._said) < MAX_ENDS:
                self._said.setdefault(end.name, []).append(_Said(end, message))
            else:
                self._receipts.done(message.producer, message.seq)

    def corrected(self, request: Request) -> Request:
        """Return an ended request as it was delivered: what the engine made beyond that is wasted.

        For the engine a request that ended by a stop string was aborted.
        """
        end = self._take(request)
        if end is None:
            return request
        late = max((request.output_tokens or 0) - 1, 0) - max(end.output_tokens - 1, 0)
        outcome, ending = _ENDS.get(end.reason, (Outcome.FINISHED, request.ending))
        if end.reason == "STOP" and (late or request.outcome is Outcome.ABORTED):
            ending = Ending.STOP_STRING
        return replace(
            request,
            output_tokens=end.output_tokens,
            wasted_tokens=(request.wasted_tokens or 0) + late,
            outcome=outcome,
            ending=ending,
        )

    def _take(self, request: Request) -> End | None:
        """Return the front end's word of a request: of several with one name that which fits best."""
        external = names_of(request.request.removeprefix(f"{request.producer}:")).external
        said = self._said.get(external, [])
        made = request.output_tokens or 0
        fits = [
            place
            for place, (end, _) in enumerate(said)
            if end.output_tokens <= made and end.prompt_tokens in {request.prompt_tokens, 0}
        ]
        if not fits:
            return None
        best = min(fits, key=lambda place: made - said[place].end.output_tokens)
        end, message = said.pop(best)
        self._receipts.upon(message.producer, message.seq, request.request)
        if not said:
            del self._said[external]
        return end

    def forget(self, now_ns: int) -> None:
        """Forget, now and then, what no engine spoke of."""
        if self._said and now_ns - self._forgot_ns >= FORGET_NS:
            self._forgot_ns, old_ns = now_ns, now_ns - FORGET_NS
            for name in [name for name, said in self._said.items() if said[-1].message.received_ns <= old_ns]:
                for _, message in self._said.pop(name):
                    self._receipts.done(message.producer, message.seq)
