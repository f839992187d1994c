"""The sampler: one daemon thread that reads every source at absolute deadlines, and the only caller of `Source.read`.

A driver call can hang for ever, and nothing in Python can end it: so `check`, called from another thread, sees a read
that is too old, marks that one device stale, leaves the thread to its fate (it is a daemon, so it never holds up the
exit) and starts a new thread for the others. One abandoned thread per device at most: a stale device is tried again
only after its call has come back, and at most once a minute.

`poll` is the whole work of the thread without the thread: a simulation drives it with its own clock.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import msgspec

from inferwatt.clock import Clock
from inferwatt.errors import InferwattError, SourceGone
from inferwatt.records import Event, EventKind, Reading
from inferwatt.sources import Emitted, Source, UsageReader
from inferwatt.sources.health import SamplerHealth, SourceHealth
from inferwatt.units import NS_PER_SECOND

REDISCOVER_NS = 10 * NS_PER_SECOND
RETRY_HUNG_NS = 60 * NS_PER_SECOND
LEAST_HANG_NS = NS_PER_SECOND
USAGE = "usage"
USAGE_NS = NS_PER_SECOND // 5
"""The kernel counts a process's time in steps of 10 ms: shorter shares would be mostly rounding."""
REDISCOVERY = "rediscovery"


class SamplingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often the devices are read: ``active_hz`` while work runs, ``idle_hz`` else."""

    idle_hz: Annotated[float, msgspec.Meta(ge=0.1, le=1000.0)] = 10.0
    active_hz: Annotated[float, msgspec.Meta(ge=0.1, le=1000.0)] = 50.0


@dataclass(slots=True, eq=False)
class _Job:
    """Something to call when due: a source, the usage reader, or the search for lost devices."""

    name: str
    call: Callable[[int], object]
    period_ns: int
    source: Source | None = None
    due_ns: int = 0
    samples: int = 0
    lost: int = 0
    hung: int = 0
    last_failed: bool = False
    gone: bool = False
    stale: bool = False
    retry_ns: int = 0
    left_to: "_Worker | None" = None


@dataclass(slots=True, eq=False)
class _Worker:
    """One life of the thread. `flight` is the call in progress and when it began; `left` once it is abandoned."""

    flight: tuple[_Job, int] | None = None
    left: bool = False
    thread: threading.Thread | None = None


class Sampler:
    """Reads the sources at a steady rate and hands on what they say.

    Args:
        sources: the devices; closed by `stop`.
        usage: the shares of processes, read in the same beat, or None.
        clock: where the time comes from.
        emit: takes each record; called from the sampler's thread (and from `check` for a hang), must not block.
        config: the rates; it starts with ``idle_hz``.
        rediscover: looks for sources again; its answer is used for devices that are gone, the rest is closed.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        usage: UsageReader | None,
        clock: Clock,
        emit: Callable[[Emitted], None],
        *,
        config: SamplingConfig | None = None,
        rediscover: Callable[[], Iterable[Source]] | None = None,
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._rediscover = rediscover
        self._hz = (config or SamplingConfig()).idle_hz
        self._period_ns = round(NS_PER_SECOND / self._hz)
        self._jobs = [_Job(s.device.device, s.read, s.period_ns, s) for s in sources]
        if usage is not None:
            self._jobs.append(_Job(USAGE, usage.read, USAGE_NS))
        self._lock = threading.Lock()
        self._wake = threading.Lock()
        self._wake.acquire()
        self._worker = _Worker()
        self._deadline_ns = 0
        self._beats = self._missed = self._errors = 0
        self._running = False

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if not self._running:
            self._running = True
            self._spawn()

    def stop(self, timeout_seconds: float = 1.0) -> None:
        """End the thread and close the sources, except one whose read hangs: its thread dies with the process."""
        self._running = False
        with suppress(RuntimeError):  # it is already awake
            self._wake.release()
        thread = self._worker.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_seconds)
        flight = self._worker.flight
        for job in self._jobs:
            if job.source is not None and not job.stale and not (flight and flight[0] is job):
                job.source.close()

    def set_rate(self, hz: float) -> None:
        """Sample `hz` times a second from the next beat on; may be called from any thread."""
        if hz == self._hz:
            return
        self._hz = hz
        self._period_ns = round(NS_PER_SECOND / hz)
        self._deadline_ns = 0
        with suppress(RuntimeError):  # it is already awake
            self._wake.release()

    def poll(self, now_ns: int) -> int:
        """Read all that is due, and return when the next beat is due, in nanoseconds of the clock."""
        return self._beat(self._worker, now_ns)

    def check(self, now_ns: int) -> None:
        """Watch over the reads: abandon one that hangs. Called from another thread, a few times a second."""
        worker = self._worker
        limit_ns = max(2 * self._period_ns, LEAST_HANG_NS)
        flight = worker.flight
        if flight is None or now_ns - flight[1] <= limit_ns:
            return
        job, began_ns = flight
        with self._lock:
            if worker.flight is not flight:
                return
            worker.left = job.stale = True
            job.left_to = worker
            job.hung += 1
            job.lost += 1
            job.retry_ns = now_ns + RETRY_HUNG_NS
            self._worker = _Worker()
        self._report(job, now_ns, EventKind.READ_FAILURE, f"a read hangs ({(now_ns - began_ns) / NS_PER_SECOND:.1f} s)")
        if self._running:
            self._spawn()

    def health(self) -> SamplerHealth:
        """Return how it goes; may be called from any thread."""
        with self._lock:
            sources = tuple(
                SourceHealth(
                    device=job.name,
                    source=job.source.name if job.source else USAGE,
                    up=job.samples > 0 and not (job.last_failed or job.gone or job.stale),
                    stale=job.stale,
                    samples=job.samples,
                    lost=job.lost,
                    hung=job.hung,
                )
                for job in self._jobs
                if job.name != REDISCOVERY
            )
            return SamplerHealth(sources, self._beats, self._missed, self._errors, self._hz, self._running)

    def _spawn(self) -> None:
        worker = self._worker
        worker.thread = threading.Thread(target=self._run, args=(worker,), name="inferwatt-sampler", daemon=True)
        worker.thread.start()

    def _run(self, worker: _Worker) -> None:
        while self._running and not worker.left:
            deadline_ns = self._contained_beat(worker, self._clock.monotonic_ns())
            wait_ns = deadline_ns - self._clock.monotonic_ns()
            if wait_ns > 0 and not worker.left:
                self._wake.acquire(timeout=wait_ns / NS_PER_SECOND)

    def _contained_beat(self, worker: _Worker, now_ns: int) -> int:
        try:
            return self._beat(worker, now_ns)
        except Exception:  # noqa: BLE001 - the border of the thread: whoever takes the records failed, not the devices
            self._errors += 1
            return now_ns + self._period_ns

    def _beat(self, worker: _Worker, now_ns: int) -> int:
        """Call every job that is due, and return the next deadline: absolute, so that beats do not drift."""
        period_ns = self._period_ns
        half_ns = period_ns // 2
        for job in self._jobs:
            if job.gone or (job.stale and not self._may_retry(job, now_ns)):
                continue
            if job.period_ns > period_ns and now_ns + half_ns < job.due_ns:
                continue
            job.due_ns = max(job.due_ns, now_ns - half_ns) + job.period_ns
            if not self._call(worker, job):
                return now_ns
        return self._next_deadline(now_ns, period_ns)

    def _next_deadline(self, now_ns: int, period_ns: int) -> int:
        self._beats += 1
        deadline_ns = (self._deadline_ns or now_ns) + period_ns
        late_ns = self._clock.monotonic_ns() - deadline_ns
        if late_ns > 0:
            missed = late_ns // period_ns + 1
            self._missed += missed
            deadline_ns += missed * period_ns
        self._deadline_ns = deadline_ns
        return deadline_ns

    def _call(self, worker: _Worker, job: _Job) -> bool:
        """Make one call, and hand on what it brings; False when this thread was abandoned meanwhile."""
        began_ns = self._clock.monotonic_ns()
        worker.flight = (job, began_ns)
        result: object = None
        failure: Exception | None = None
        try:
            result = job.call(began_ns)
        except Exception as exc:  # noqa: BLE001 - a driver may raise anything: counted, and the others go on
            failure = exc
        with self._lock:
            if worker.left:
                return False
            worker.flight = None
        if failure is not None:
            self._failed(job, began_ns, failure)
            return True
        if result is None:  # nothing new: no sample, and no recovery from a failure either
            return True
        job.samples += 1
        job.last_failed = False
        if isinstance(result, Reading):
            self._emit(result)
        elif isinstance(result, tuple):
            for record in result:
                self._emit(record)
        return True

    def _failed(self, job: _Job, now_ns: int, failure: Exception) -> None:
        """Count a lost sample; a device that is gone is dropped, and looked for again."""
        job.lost += 1
        job.last_failed = True
        detail = failure.what if isinstance(failure, InferwattError) else f"{type(failure).__name__}: {failure}"
        gone = isinstance(failure, SourceGone) and job.source is not None
        self._report(job, now_ns, EventKind.DEVICE_GONE if gone else EventKind.READ_FAILURE, detail)
        if gone and job.source is not None:
            job.gone = True
            job.source.close()
            if self._rediscover is not None and not any(other.name == REDISCOVERY for other in self._jobs):
                search = _Job(REDISCOVERY, self._search, REDISCOVER_NS)
                search.due_ns = now_ns + REDISCOVER_NS
                self._jobs = [*self._jobs, search]

    def _report(self, job: _Job, now_ns: int, kind: EventKind, detail: str) -> None:
        if job.source is None:
            self._emit(Event(now_ns, kind, detail=f"{job.name}: {detail}"))
        else:
            self._emit(Event(now_ns, kind, job.name, detail=detail))

    def _search(self, _now_ns: int) -> None:
        """Look for the devices that are gone; what else is found is already open, and is closed again."""
        missing = {job.name: job for job in self._jobs if job.gone}
        if not missing or self._rediscover is None:
            return
        for source in self._rediscover():
            job = missing.get(source.device.device)
            if job is None or job.source is None or not _is_same(source, job.source):
                source.close()
            else:
                del missing[job.name]
                job.call, job.period_ns, job.source, job.gone = source.read, source.period_ns, source, False

    def _may_retry(self, job: _Job, now_ns: int) -> bool:
        """A stale device is tried again once its old call has come back, and at most once a minute."""
        thread = job.left_to.thread if job.left_to else None
        if now_ns < job.retry_ns or (thread is not None and thread.is_alive()):
            return False
        job.stale = False
        job.left_to = None
        return True


def _is_same(one: Source, other: Source) -> bool:
    """Tell whether a source is the lost one: a name may be given to another device, or read by another source."""
    facts = ((s.name, s.device.uuid, s.device.domain, s.device.provenance) for s in (one, other))
    return next(facts) == next(facts)
