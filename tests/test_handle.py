"""One request of the host's code: times, tokens, outcomes; nothing is raised into it."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from inferwatt.handle import MAX_CHUNKS, RequestHandle
from inferwatt.records import UNKNOWN_TENANT, Component, EnergyPart, Outcome, Provenance, RequestEnergy, Tier
from inferwatt.wire import request_from_wire, request_to_wire

PART = EnergyPart(Component.CPU, Provenance.MODELLED, 1, 2, 2, 4, 0.5)


class Heap:
    """A sink that keeps what it is told."""

    producer = "p"

    def __init__(self) -> None:
        self.told: list[str] = []
        self.noted: Counter[str] = Counter()
        self.found: RequestEnergy | None = None
        self.waited: list[float | None] = []

    def changed(self, handle: RequestHandle) -> None:
        """An opening or a first token."""
        self.told.append("changed")

    def ended(self, handle: RequestHandle) -> None:
        """An end."""
        self.told.append("ended")

    def note(self, problem: str) -> None:
        """A bad value."""
        self.noted[problem] += 1

    def energy(self, handle: RequestHandle, wait_seconds: float | None) -> RequestEnergy | None:
        """What was put here."""
        self.waited.append(wait_seconds)
        return self.found

    def may_come(self, handle: RequestHandle) -> bool:
        """Until there is something."""
        return self.found is None


@pytest.fixture
def heap() -> Heap:
    """A fresh heap."""
    return Heap()


def handle_on(heap: Heap, tenant: Any = "t", model: Any = "m", tags: Any = None) -> RequestHandle:
    """A request that is not started yet."""
    return RequestHandle(heap, "1", model, tenant, "", tags)


def test_a_request_tells_its_whole_life(heap: Heap) -> None:
    """Start, first token and end are told as they happen, and the record holds all that was said."""
    with handle_on(heap, tags={"team": "blue"}) as r:
        r.first_token()
        r.first_token()
        r.chunk()
        r.usage(prompt=10, cached=4, output=3)
        r.usage(output=5)
        r.response_id = "chatcmpl-1"
    record = r.record()

    assert heap.told == ["changed", "changed", "ended"]
    assert (record.model, record.tenant, record.tags) == ("m", "t", {"team": "blue"})
    assert (record.prompt_tokens, record.cached_tokens, record.output_tokens) == (10, 4, 5)
    assert (record.outcome, record.response_id, r.id) == (Outcome.FINISHED, "chatcmpl-1", "p:1")
    assert record.first_token_ns is not None
    assert record.end_ns is not None
    assert record.arrival_ns <= record.first_token_ns <= record.chunk_ns[0] <= record.end_ns


class Cancelled(BaseException):
    """As trio and others cancel."""


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [
        (ValueError, Outcome.FAILED),
        (TimeoutError, Outcome.FAILED),
        (KeyboardInterrupt, Outcome.ABORTED),
        (asyncio.CancelledError, Outcome.ABORTED),
        (GeneratorExit, Outcome.ABORTED),
        (SystemExit, Outcome.ABORTED),
        (Cancelled, Outcome.ABORTED),
    ],
)
def test_leaving_by_an_exception_says_how(heap: Heap, cause: type[BaseException], outcome: Outcome) -> None:
    """An error is failed, a cancellation aborted; the exception goes on to the host."""
    r = handle_on(heap)
    with pytest.raises(cause), r:
        raise cause

    assert r.record().outcome == outcome


def test_an_abandoned_stream_is_aborted(heap: Heap) -> None:
    """A generator that is closed before its end leaves an aborted request."""
    r = handle_on(heap)

    def stream() -> Iterator[str]:
        with r:
            yield "a"
            yield "b"

    pieces = stream()
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]

    assert r.record().outcome == Outcome.ABORTED


def test_a_cancelled_task_is_aborted(heap: Heap) -> None:
    """`async with` under asyncio: cancellation ends it as aborted."""
    r = handle_on(heap)

    async def call() -> None:
        async with r:
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert r.record().outcome == Outcome.ABORTED


def test_failure_can_be_said(heap: Heap) -> None:
    """An error inside a good answer is the host's to tell."""
    with handle_on(heap) as r:
        r.fail()

    assert r.record().outcome == Outcome.FAILED


def test_start_and_finish_without_with(heap: Heap) -> None:
    """Plain calls do the same; a second start or end changes nothing; before the start nothing happens."""
    r = handle_on(heap)
    r.first_token()
    r.finish()
    r.start().start()
    r.finish()
    first_end_ns = r.end_ns
    r.finish("failed")

    assert heap.told == ["changed", "ended"]
    assert (r.end_ns, r.record().outcome) == (first_end_ns, Outcome.FINISHED)


class Eight:
    """An integer by another name, as numpy has them."""

    def __index__(self) -> int:
        return 8


@pytest.mark.parametrize("bad", [True, -1, 2**63, 1.5, "7", [], object(), float("nan")])
def test_a_bad_number_of_tokens_is_counted_not_raised(heap: Heap, bad: Any) -> None:
    """The host's mistake is the meter's problem: unknown, and counted."""
    with handle_on(heap) as r:
        r.usage(prompt=bad, cached=bad, output=Eight())  # type: ignore[arg-type]

    assert (r.record().prompt_tokens, r.record().output_tokens) == (None, 8)
    assert sum(heap.noted.values()) == 2


@pytest.mark.parametrize(("said", "most_ns"), [(0.0, 0), (1e-9, 1), (2**62, 60 * 10**9)])
def test_what_it_waited_is_within_its_life(heap: Heap, said: float, most_ns: int) -> None:
    """A server's clock is another one: what it says is cut to the request's own time, and what is none is counted."""
    with handle_on(heap) as r:
        r.queued_seconds = said
    queued_ns = request_from_wire(request_to_wire(r.record())).queued_ns

    assert queued_ns is not None
    assert 0 <= queued_ns <= most_ns
    for bad in (-1.0, float("nan"), 10**400, "1", True):
        r.queued_seconds = bad  # type: ignore[assignment]
        assert r.record().queued_ns is None
    assert sum(heap.noted.values()) == 5


def test_usage_after_the_end_is_counted(heap: Heap) -> None:
    """What comes too late to be sent is not lost silently."""
    with handle_on(heap) as r:
        pass
    r.usage(output=5)

    assert r.record().output_tokens is None
    assert sum(heap.noted.values()) == 1


@pytest.mark.parametrize("bad", [7, None, "x" * 300, "a\x00b", "\ud800", "__other__", b"bytes", ["t"]])
def test_whatever_the_host_says_makes_a_record_that_an_agent_takes(heap: Heap, bad: Any) -> None:
    """Texts are cut and cleaned until the wire takes them."""
    with handle_on(heap, tenant=bad, model=bad, tags={bad: bad} if isinstance(bad, str) else bad) as r:
        r.usage(prompt=1, cached=2)
        r.response_id = r.trace_id = bad
    again = request_from_wire(request_to_wire(r.record()))

    assert again.cached_tokens is None
    assert len(again.model) <= 256
    assert bad != "__other__" or again.tenant == UNKNOWN_TENANT


def test_tags_and_chunks_have_limits(heap: Heap) -> None:
    """A long stream and a large map cost bounded memory."""
    with handle_on(heap, tags={str(n): "" for n in range(100)}) as r:
        for _ in range(MAX_CHUNKS + 10):
            r.chunk()

    assert (len(r.record().chunk_ns), len(r.record().tags)) == (MAX_CHUNKS, 32)


def test_energy_can_be_awaited(heap: Heap) -> None:
    """The event loop goes on while the final joules are awaited, and waiting has an end."""
    energy = RequestEnergy("p:1", (PART,), Tier.REQUEST_SPAN, final=True)

    async def main() -> tuple[RequestEnergy | None, RequestEnergy | None]:
        async with handle_on(heap) as r:
            nothing = await r.energy_async(wait_seconds=0.0)
            threading.Timer(0.05, lambda: setattr(heap, "found", energy)).start()
            return nothing, await r.energy_async(wait_seconds=10.0)

    assert asyncio.run(main()) == (None, energy)
    assert heap.waited == [None, None]


def test_joules_that_nobody_read_are_none(heap: Heap) -> None:
    """A request during which no device was read has no figure: a zero would be one."""
    heap.found = RequestEnergy("p:1", (), Tier.REQUEST_SPAN, final=True)

    assert handle_on(heap).energy() is None


def test_a_call_that_is_over_is_told_once_with_its_own_times(heap: Heap) -> None:
    """Nobody hears of its beginning; its record has the times that were measured elsewhere, and who served it."""
    r = RequestHandle(heap, "1", "gpt-4o", "t", "", None, "openai")
    r.usage(prompt=10, output=5)
    r.finished(100, 150, 200, "aborted")
    r.finished(1, 2, 3, "failed")
    r.finish()
    record = r.record()

    assert heap.told == ["ended"]
    assert (record.arrival_ns, record.first_token_ns, record.end_ns) == (100, 150, 200)
    assert (record.outcome, record.provider, record.output_tokens) == (Outcome.ABORTED, "openai", 5)
