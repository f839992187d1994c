"""The small meter of `inferwatt.meter()`: samples in the user's own process, own process against others, no agent.

It is the agent's middle (metering.py) with the same sources and sampler, and nothing around it: no socket, no
ledger, no page. The process is one engine; what it used outside of any request is still its own.
"""

import os
import threading
from dataclasses import dataclass

from inferwatt.books import Books
from inferwatt.clock import Clock, SystemClock
from inferwatt.metering import Metering
from inferwatt.placement import HOST_COMPONENTS
from inferwatt.records import HOST, Condition, Device, Engine, Event, EventKind, Request, RequestEnergy
from inferwatt.snapshot import Lack
from inferwatt.sources import Emitted, Found, SourcesConfig, discover_all
from inferwatt.sources.families import Families
from inferwatt.sources.sampler import Sampler, SamplingConfig
from inferwatt.sources.usage import CpuUsage
from inferwatt.units import NS_PER_SECOND

ENGINE = "local"
HOLD_NS = NS_PER_SECOND // 5
_STOP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DeviceTotal:
    """One device over the time of the meter: what it used in all, and what of that was this process's, µJ."""

    device: Device
    measured_uj: int
    own_uj: int


class InProcessMeter:
    """Meters process `pid` from `start` to `stop`; thread-safe.

    Args:
        pid: the process; its children count with it.
        clock: where the time comes from.
        found: the devices; looked for on this machine when None.
    """

    def __init__(self, pid: int | None = None, *, clock: Clock | None = None, found: Found | None = None) -> None:
        self._pid = os.getpid() if pid is None else pid
        self._clock = clock or SystemClock()
        found = discover_all(SourcesConfig()) if found is None else found
        self.lacks: tuple[Lack, ...] = found.lacks
        self._lock = threading.Lock()
        self._metering = Metering(Books(), hold_ns=HOLD_NS)
        self._final: dict[str, RequestEnergy] = {}
        self._usage = self._open_usage(found)
        for source in found.sources:
            self._metering.add_device(source.device)
        families = Families(SourcesConfig().proc_root)
        families.watch({self._pid})
        take = families.before(self._take)
        self._sampler = Sampler(
            found.sources, self._usage, self._clock, take, config=SamplingConfig(idle_hz=20.0, active_hz=50.0)
        )

    def _open_usage(self, found: Found) -> CpuUsage | None:
        if not any(source.device.component in HOST_COMPONENTS for source in found.sources):
            return None
        try:
            usage = CpuUsage((HOST,), os.cpu_count() or 1)
        except OSError as exc:
            lack = Lack(f"this process cannot be told from others: {exc.strerror}", "/proc", "mount /proc")
            self.lacks = (*self.lacks, lack)
            return None
        usage.watch({self._pid})
        return usage

    def start(self) -> None:
        """Begin to sample."""
        now_ns = self._clock.monotonic_ns()
        devices = tuple(self._metering.books.devices)
        engine = Engine(ENGINE, "", devices, server="in-process", kind="in-process")
        with self._lock:
            self._metering.engine_seen(engine, None, {self._pid}, now_ns)
            # The process holds no model while it works for nobody: capacity that nobody uses is not its own.
            self._metering.feed(Event(now_ns, EventKind.MODEL_UNLOAD, engine=ENGINE))
        self._sampler.poll(now_ns)
        self._sampler.start()

    def stop(self) -> None:
        """Take a last reading and settle everything; a second call does nothing."""
        self._sampler.stop(_STOP_SECONDS)
        with self._lock:
            self._metering.finish()
            self._settle()
        if self._usage is not None:
            self._usage.close()
            self._usage = None

    def submit(self, request: Request) -> None:
        """Take what is known of a request: open, its first token, its end."""
        with self._lock:
            self._metering.request(request, ENGINE)

    def energy(self, request: str) -> RequestEnergy | None:
        """Return the request's joules: final ones once they are settled, else what is settled so far."""
        with self._lock:
            self._settle()
            return self._final.get(request) or self._metering.energy(request)

    def totals(self) -> tuple[DeviceTotal, ...]:
        """Return each device's energy so far, and this process's part of it."""
        with self._lock:
            devices = self._metering.books.devices
            return tuple(
                DeviceTotal(
                    devices[name],
                    accounts["measured"],
                    accounts["requests"] + accounts["unlisted"] + accounts["idle_resident"],
                )
                for name, accounts in self._metering.device_totals.items()
            )

    def _take(self, record: Emitted) -> None:
        if not isinstance(record, Condition):
            with self._lock:
                self._metering.feed(record)

    def _settle(self) -> None:
        settled = self._metering.take()
        for request, energy in (*settled.requests, *settled.corrected):
            self._final[request.request] = energy
