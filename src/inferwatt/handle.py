"""One request of the host's code, from its start to its joules; nothing here waits unless asked, or ever raises."""

import time
from array import array
from typing import TYPE_CHECKING, Protocol

from inferwatt.traceparent import current_span, traceparent_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from inferwatt.records import Request, RequestEnergy

MAX_CHUNKS = 4096
MAX_TOKENS = 2**63 - 1
MAX_CHARACTERS = 256
MAX_TAGS = 32
ASYNC_POLL_SECONDS = 0.02

_now_ns = time.monotonic_ns


class Sink(Protocol):
    """Where a handle tells what happens: the delivery to an agent, or a meter in the process."""

    producer: str

    def changed(self, handle: "RequestHandle") -> None:
        """It was opened, or got its first token."""
        ...

    def ended(self, handle: "RequestHandle") -> None:
        """It has ended."""
        ...

    def note(self, problem: str) -> None:
        """A value of the host cannot be right: count it, log it once."""
        ...

    def energy(self, handle: "RequestHandle", wait_seconds: float | None) -> "RequestEnergy | None":
        """Return its joules, waiting at most `wait_seconds` for the final ones."""
        ...

    def may_come(self, handle: "RequestHandle") -> bool:
        """Whether final joules can still come."""
        ...


class RequestHandle:
    """A request: `with` or `async with` around the call, or `start()` and `finish()`.

    Leaving by an exception makes it `failed`; by what is no `Exception` (cancellation, a closed generator, Ctrl-C)
    `aborted`. `response_id` and `trace_id`, how others call it, and `model` may be set at any time before the end, and
    `traceparent`, which is the host's current span where it has one, and `queued_seconds`, how long it waited at its
    server before anything was computed, which costs no joule.
    """

    __slots__ = (
        "_cached",
        "_chunks",
        "_engine",
        "_first_ns",
        "_outcome",
        "_output",
        "_prompt",
        "_provider",
        "_sink",
        "_start_ns",
        "_tags",
        "_tenant",
        "end_ns",
        "last_energy",
        "model",
        "name",
        "queued_seconds",
        "response_id",
        "trace_id",
        "traceparent",
    )

    def __init__(
        self,
        sink: Sink,
        name: str,
        model: str,
        tenant: str,
        engine: str,
        tags: "Mapping[str, str] | None",
        provider: str = "",
    ) -> None:
        self._sink = sink
        self.name = name
        self.model = model
        self._tenant = tenant
        self._engine = engine
        self._tags = tags
        self._provider = provider
        self.response_id = ""
        self.trace_id = ""
        self.traceparent = ""
        self.queued_seconds: float | None = None
        self._start_ns = 0
        self._first_ns: int | None = None
        self.end_ns: int | None = None
        self._prompt: int | None = None
        self._cached: int | None = None
        self._output: int | None = None
        self._outcome = ""
        self._chunks: array[int] | None = None
        self.last_energy: RequestEnergy | None = None

    @property
    def id(self) -> str:
        """The name of this request in the agent's ledger."""
        return f"{self._sink.producer}:{self.name}"

    def start(self) -> "RequestHandle":
        """Note the time of arrival; a second start is ignored."""
        if not self._start_ns:
            self._start_ns = _now_ns()
            self.traceparent = self.traceparent or traceparent_of(current_span())
            self._sink.changed(self)
        return self

    def first_token(self, after_seconds: float | None = None) -> None:
        """Note the time of the first output token, now or so long after the start; the next ones are ignored."""
        if self._first_ns is None and self.end_ns is None and self._start_ns:
            now_ns = _now_ns()
            self._first_ns = now_ns if after_seconds is None else min(self._start_ns + int(after_seconds * 1e9), now_ns)
            self._sink.changed(self)

    def chunk(self) -> None:
        """Note that a piece of the answer came, the first one as the first token; at most 4,096 are kept."""
        self.first_token()
        if self.end_ns is None and self._start_ns:
            if self._chunks is None:
                self._chunks = array("q")
            if len(self._chunks) < MAX_CHUNKS:
                self._chunks.append(_now_ns())

    def usage(self, *, prompt: int | None = None, cached: int | None = None, output: int | None = None) -> None:
        """Tell the tokens: the whole prompt, the part of it that came from a cache, the output.

        What is not known is left out. A value that cannot be a number of tokens, or that comes after the end, is
        counted and logged once, never raised.
        """
        if self.end_ns is not None:
            self._sink.note("usage after the end of its request")
            return
        if prompt is not None:
            self._prompt = prompt if type(prompt) is int and 0 <= prompt <= MAX_TOKENS else self._tokens(prompt)
        if cached is not None:
            self._cached = cached if type(cached) is int and 0 <= cached <= MAX_TOKENS else self._tokens(cached)
        if output is not None:
            self._output = output if type(output) is int and 0 <= output <= MAX_TOKENS else self._tokens(output)

    def fail(self) -> None:
        """Say that the request failed, where no exception does (an error in the answer)."""
        self._outcome = "failed"

    def abort(self) -> None:
        """End it as aborted, now."""
        self.finish("aborted")

    def finish(self, outcome: str = "") -> None:
        """End it, as `finished` unless `fail()` was called or `outcome` says otherwise; a second end is ignored."""
        if self.end_ns is None and self._start_ns:
            self._outcome = outcome or self._outcome or "finished"
            self.end_ns = _now_ns()  # last: the delivery's thread takes it as a sign that the rest is there
            self._sink.ended(self)

    def finished(self, start_ns: int, first_ns: int | None, end_ns: int, outcome: str) -> None:
        """Tell a request that is over already, by its times on the monotonic clock."""
        if not self._start_ns:
            self._start_ns, self._first_ns, self._outcome = start_ns, first_ns, outcome
            self.end_ns = end_ns
            self._sink.ended(self)

    def energy(self, wait_seconds: float | None = None) -> "RequestEnergy | None":
        """Return its joules: the last ones heard (`final` says whether they can change), or None.

        Args:
            wait_seconds: wait at most so long for the final ones, which come within some 2 s of the end.
        """
        return _known(self._sink.energy(self, wait_seconds))

    async def energy_async(self, wait_seconds: float = 2.0) -> "RequestEnergy | None":
        """Return its joules as `energy(wait_seconds)` does, without holding up the event loop (asyncio)."""
        import asyncio

        give_up = time.monotonic() + wait_seconds
        while self._sink.may_come(self) and time.monotonic() < give_up:
            await asyncio.sleep(ASYNC_POLL_SECONDS)
        return _known(self._sink.energy(self, None))

    def __enter__(self) -> "RequestHandle":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.finish("" if kind is None else "failed" if issubclass(kind, Exception) else "aborted")

    async def __aenter__(self) -> "RequestHandle":
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.__exit__(kind, exc, trace)

    def told(self) -> None:
        """Let go of the times of its chunks: they were told."""
        self._chunks = None

    def record(self) -> "Request":
        """Return its state as the record that is sent: what an agent would refuse is left out and counted."""
        from inferwatt.records import UNKNOWN_TENANT, Outcome, Request

        end_ns = self.end_ns
        prompt, cached = self._prompt, self._cached
        if cached is not None and prompt is not None and cached > prompt:
            self._sink.note("more cached tokens than prompt tokens")
            cached = None
        tenant = self._text(self._tenant, "tenant")
        return Request(
            request=self.name,
            engine=self._text(self._engine, "engine"),
            model=self._text(self.model, "model"),
            tenant=tenant if tenant and tenant != "__other__" else UNKNOWN_TENANT,
            arrival_ns=self._start_ns,
            first_token_ns=self._first_ns,
            end_ns=end_ns,
            prompt_tokens=prompt,
            cached_tokens=cached,
            output_tokens=self._output,
            outcome=None if end_ns is None else Outcome(self._outcome),
            chunk_ns=() if end_ns is None or self._chunks is None else tuple(self._chunks),
            tags=self._clean_tags(),
            response_id=self._text(self.response_id, "response_id"),
            trace_id=self._text(self.trace_id, "trace_id"),
            traceparent=self._text(self.traceparent, "traceparent"),
            producer=self._sink.producer,
            provider=self._text(self._provider, "provider"),
            queued_ns=self._queued_ns(end_ns),
        )

    def _queued_ns(self, end_ns: int | None) -> int | None:
        """Return how long it waited: it ended, or goes on, no earlier than that."""
        waited, latest_ns = self.queued_seconds, _now_ns() if end_ns is None else end_ns
        if waited is None:
            return None
        if type(waited) in {int, float} and 0 <= waited <= MAX_TOKENS:
            return round(min(waited * 1e9, latest_ns - self._start_ns))
        self._sink.note("queued_seconds that are no duration")
        return None

    def _tokens(self, value: object) -> int | None:
        """Take what is an integer by another name (numpy's); a bool, a float or a negative number is not."""
        try:
            number = -1 if isinstance(value, bool) else value.__index__()  # type: ignore[attr-defined]
        except Exception:  # noqa: BLE001 - the host's object, whatever it is
            number = -1
        if type(number) is int and 0 <= number <= MAX_TOKENS:
            return number
        self._sink.note("a number of tokens that is none")
        return None

    def _text(self, value: object, what: str) -> str:
        if type(value) is str and len(value) <= MAX_CHARACTERS and value.isprintable():
            return value
        if not isinstance(value, str):
            if value is not None:
                self._sink.note(f"{what} that is no text")
            return ""
        from inferwatt.wire import REFUSED_CHARACTERS

        clean = REFUSED_CHARACTERS.sub("", value[:MAX_CHARACTERS])
        if clean != value:
            self._sink.note(f"{what} that is too long or holds control characters")
        return clean

    def _clean_tags(self) -> dict[str, str]:
        try:
            pairs = list(dict(self._tags or {}).items())
        except Exception:  # noqa: BLE001 - the host's object, whatever it is
            self._sink.note("tags that are no map")
            return {}
        if len(pairs) > MAX_TAGS:
            self._sink.note("too many tags")
        return {self._text(key, "tag"): self._text(value, "tag") for key, value in pairs[:MAX_TAGS]}


def _known(energy: "RequestEnergy | None") -> "RequestEnergy | None":
    """Return the joules, None where no device was read while the request ran: an unknown is absent, not zero."""
    return energy if energy is not None and energy.parts else None
