"""Sources that take their time (a BMC, an exporter, a program): a thread of their own asks, the sampler never waits.

A `SlowPoller` polls at absolute deadlines and keeps the newest answer; each `SlowDevice` is a `Source` on it, so one
poll can serve all devices of one page. A reading has the time at which it was taken, not that of its handing over.
A poll that hangs is never doubled by a second one: its devices fall silent, say so, and the others do not notice.

`step` is the whole work of the thread without the thread: a test drives it with its own clock. The thread starts with
the first read, so that finding a source costs nothing, and is a daemon, so that it never holds up the exit.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from inferwatt.clock import Clock, SystemClock
from inferwatt.errors import InferwattError, SourceGone, SourceRetry
from inferwatt.records import Device, Reading
from inferwatt.snapshot import Lack
from inferwatt.sources import Emitted, Said
from inferwatt.units import NS_PER_SECOND

SILENT_POLLS = 3
SILENT_NS = 30 * NS_PER_SECOND
"""A device that nothing good was heard of for this long, and for three polls, is stale."""
MOST_DELAY_NS = 30 * NS_PER_SECOND
MOST_POSTPONED_NS = 3600 * NS_PER_SECOND
_LEAST_PERIOD_NS = NS_PER_SECOND // 10
_FAREWELL_SECONDS = 0.25


class Postponed(SourceRetry):
    """This poll failed, and the next must not come before `after_ns`: the other side asked for it, or locks us out."""

    def __init__(self, what: str, *, where: object, fix: str, after_ns: int) -> None:
        super().__init__(what, where=where, fix=fix)
        self.after_ns = min(max(after_ns, 0), MOST_POSTPONED_NS)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one poll says of one device: a counter or a power, and when (`t_ns`; None is the middle of the poll).

    `also` is handed on with the reading: a `Condition`, a `Usage`.
    """

    counter_uj: int | None = None
    power_mw: int | None = None
    wraps_at_uj: int | None = None
    t_ns: int | None = None
    also: tuple[Emitted, ...] = ()


Samples = Mapping[str, Sample | InferwattError]
"""What one poll says, by device name: a sample, or why there is none. A device that is not named has nothing new."""
Spawn = Callable[[Callable[[], None], str], threading.Thread | None]
"""How a thread is started: what it runs, and its name."""


@dataclass(frozen=True, slots=True)
class _News:
    """The newest sample of one device and its newest failure, each with the number of its poll (0: none yet)."""

    sample: Sample | None = None
    sampled: int = 0
    failure: InferwattError | None = None
    failed: int = 0


_NO_NEWS = _News()


def _spawn(run: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


class SlowPoller:
    """Asks again and again, in a thread of its own, and keeps what it was told.

    Args:
        name: which kind of source this is, e.g. ``redfish``.
        poll: asks once; it may take long, but must end by itself. Only one thread ever calls it.
        poll_ns: how often it is asked, nanoseconds.
        clock: where the time comes from; the same as the sampler's.
        finish: lets go of connections; called by the same thread, after the last poll, if there was one.
        spawn: starts the thread; a test hands in something that does not.
    """

    def __init__(
        self,
        name: str,
        poll: Callable[[], Samples],
        poll_ns: int,
        *,
        clock: Clock | None = None,
        finish: Callable[[], object] | None = None,
        spawn: Spawn = _spawn,
    ) -> None:
        self.name = name
        self.poll_ns = poll_ns
        self.errors = 0
        """Polls that ended in something that is no error of ours: a defect, counted."""
        self._poll = poll
        self.clock = clock or SystemClock()
        self._finish = finish
        self._spawn = spawn
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_started = self._is_asking = False
        self._news: dict[str, _News] = {}
        self._open: set[str] = set()
        self._polls = self._failures = 0
        self._due_ns = 0

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if not self.is_started:
            self.is_started = True
            self._thread = self._spawn(self._run, f"inferwatt-{self.name}")

    def step(self, now_ns: int) -> int:
        """Poll if it is time, and return when the next poll is due: absolute, so that polls do not drift."""
        self._due_ns = self._due_ns or now_ns
        if now_ns >= self._due_ns:
            earliest_ns = self._ask(now_ns) + self.clock.monotonic_ns()
            self._due_ns += max(1, -(-(earliest_ns - self._due_ns) // self.poll_ns)) * self.poll_ns
        return self._due_ns

    def open(self, device: str) -> None:
        """Take up one more device."""
        self._open.add(device)
        self._news[device] = _NO_NEWS

    def news(self, device: str) -> _News:
        """Return the newest that is known of a device."""
        return self._news[device]

    def release(self, device: str) -> None:
        """Let go of one device; with the last one the thread ends. A second call does nothing."""
        self._open.discard(device)
        if self._open or self._closed.is_set():
            return
        self._closed.set()
        if self._thread is None:
            self._say_farewell()
        elif self._finish is not None and not self._is_asking:
            self._thread.join(_FAREWELL_SECONDS)  # it was only waiting: time to log out. One that hangs is left behind

    def _run(self) -> None:
        while not self._closed.is_set():
            wait_ns = self.step(self.clock.monotonic_ns()) - self.clock.monotonic_ns()
            self._closed.wait(max(0, wait_ns) / NS_PER_SECOND)
        self._say_farewell()

    def _say_farewell(self) -> None:
        if self._finish is None or not self._polls:
            return
        try:
            self._finish()
        except Exception:  # noqa: BLE001 - the border of the thread: nobody waits for this answer
            self.errors += 1

    def _ask(self, began_ns: int) -> int:
        """Poll once and keep what was said; return how long to hold off beyond the usual rhythm, nanoseconds."""
        self._is_asking = True
        failure: InferwattError | None = None
        said: Samples = {}
        try:
            said = self._poll()
        except InferwattError as exc:
            failure = exc
        except Exception as exc:  # noqa: BLE001 - the border of the thread: a defect in one source ends no thread
            self.errors += 1
            failure = SourceRetry(
                f"a poll of {self.name} failed: {type(exc).__name__}: {exc}", where=self.name, fix="report this defect"
            )
        self._is_asking = False
        self._polls += 1
        middle_ns = (began_ns + self.clock.monotonic_ns()) // 2
        for device in list(self._news):
            self._keep(device, failure or said.get(device), middle_ns)
        return self._delay_ns(failure)

    def _keep(self, device: str, said: Sample | InferwattError | None, middle_ns: int) -> None:
        news = self._news[device]
        if isinstance(said, Sample):
            sample = said if said.t_ns is not None else replace(said, t_ns=middle_ns)
            self._news[device] = replace(news, sample=sample, sampled=self._polls)
        elif said is not None:
            self._news[device] = replace(news, failure=said, failed=self._polls)

    def _delay_ns(self, failure: InferwattError | None) -> int:
        """Return nothing after a success or a first failure, then 2, 4, 8 polls and so on, up to half a minute."""
        self._failures = 0 if failure is None else self._failures + 1
        delay_ns = min(self.poll_ns << min(self._failures - 1, 16), MOST_DELAY_NS) if self._failures > 1 else 0
        return max(delay_ns, failure.after_ns) if isinstance(failure, Postponed) else delay_ns


class SlowDevice:
    """One device of a poller, as the sampler sees it: `read` only hands over what is there."""

    def __init__(self, poller: SlowPoller, device: Device) -> None:
        self.name = poller.name
        self.device = device
        self.period_ns = max(_LEAST_PERIOD_NS, min(NS_PER_SECOND, poller.poll_ns // 10))
        """How soon after a poll its sample is handed over."""
        self.poll_ns = poller.poll_ns
        """How often there can be a new sample."""
        self._poller = poller
        self._silent_ns = max(SILENT_POLLS * poller.poll_ns, SILENT_NS)
        self._heard_ns: int | None = None
        self._sampled = self._failed = 0
        poller.open(device.device)

    def read(self, now_ns: int) -> Said:
        """Return the newest sample that was not handed over yet, None where there is none.

        Raises:
            SourceRetry: the last poll failed (said once), or nothing was heard for too long (said from time to time).
        """
        self._poller.start()
        if self._heard_ns is None:
            self._heard_ns = now_ns
        news = self._poller.news(self.device.device)
        if news.sample is not None and news.sampled > self._sampled:
            self._sampled, self._heard_ns = news.sampled, now_ns
            return self._said(news.sample)
        is_new = news.failed > max(self._failed, self._sampled)
        if is_new or now_ns - self._heard_ns > self._silent_ns:
            self._heard_ns = now_ns
            self._failed = news.failed
            raise self._trouble(news)
        return None

    def look(self) -> Lack | None:
        """Poll once, here and now, unless the thread does, and return what is wrong: for who wants to know at once."""
        if not self._poller.is_started:
            self._poller.step(self._poller.clock.monotonic_ns())
        return self.lack()

    def lack(self) -> Lack | None:
        """Return what was wrong with the last poll and what to do about it, None where nothing was."""
        news = self._poller.news(self.device.device)
        failure = news.failure
        if failure is None or news.failed < news.sampled:
            return None
        component = self.device.component.value
        return Lack(failure.what, failure.where, failure.fix, source=self.name, component=component)

    def close(self) -> None:
        """Need no more samples; a second call does nothing."""
        self._poller.release(self.device.device)

    def _said(self, sample: Sample) -> Said:
        reading = Reading(sample.t_ns or 0, self.device.device, sample.counter_uj, sample.power_mw, sample.wraps_at_uj)
        return (reading, *sample.also) if sample.also else reading

    def _trouble(self, news: _News) -> InferwattError:
        """Return the failure since the last sample, anew: one exception may be for several devices."""
        failure = news.failure
        if failure is None or news.failed < news.sampled:
            return SourceRetry(
                f"nothing was heard of {self.device.device} for {self._silent_ns // NS_PER_SECOND} s",
                where=self.device.source or self.name,
                fix="none needed: it is asked again",
            )
        kind = SourceGone if isinstance(failure, SourceGone) else SourceRetry
        return kind(failure.what, where=failure.where, fix=failure.fix)


def slow_source(
    name: str,
    device: Device,
    poll: Callable[[], Sample | None],
    poll_ns: int,
    *,
    clock: Clock | None = None,
    finish: Callable[[], object] | None = None,
    spawn: Spawn = _spawn,
) -> SlowDevice:
    """Return the source of one device that is polled alone; `poll` returns None where there is nothing new."""

    def ask() -> Samples:
        sample = poll()
        return {} if sample is None else {device.device: sample}

    return SlowDevice(SlowPoller(name, ask, poll_ns, clock=clock, finish=finish, spawn=spawn), device)
