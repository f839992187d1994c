"""A meter inside a process, without an agent: `with` opens its window, `energy()` says what was used in it.

What samples and splits is `inferwatt.inprocess`, loaded when a meter starts; here is what the host's code holds,
and it never raises into that code.
"""

import itertools
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from inferwatt.handle import RequestHandle
from inferwatt.records import Component, Provenance, Request, RequestEnergy
from inferwatt.snapshot import Lack
from inferwatt.units import joules

if TYPE_CHECKING:
    from types import TracebackType

    from inferwatt.inprocess import DeviceTotal

POLL_SECONDS = 0.01
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class DeviceEnergy:
    """One device in the window: what it used in all, and what of that was this process's, µJ.

    `systematic_ratio` is the 90% bound of the sensor or of the model behind it, as a ratio.
    """

    device: str
    component: Component
    provenance: Provenance
    measured_uj: int
    own_uj: int
    systematic_ratio: float


@dataclass(frozen=True, slots=True)
class MeterEnergy:
    """A window of a meter: its devices apart, and this process's energy on all of them together.

    Nothing measured is no device and None, never zero; `lacks` says what is missing and what would help.
    """

    devices: tuple[DeviceEnergy, ...] = ()
    window_ns: int = 0
    lacks: tuple[Lack, ...] = ()

    @property
    def own_uj(self) -> int | None:
        """This process's energy, µJ; look at `provenance` before you use it."""
        return sum(one.own_uj for one in self.devices) if self.devices else None

    @property
    def own_joules(self) -> float | None:
        """This process's energy, joules."""
        return None if self.own_uj is None else joules(self.own_uj)

    @property
    def low_uj(self) -> int | None:
        """`own_uj` less the sensors' 90% bound, which devices share by kind and which therefore adds linearly."""
        return None if self.own_uj is None else max(0, self.own_uj - self._bound_uj)

    @property
    def high_uj(self) -> int | None:
        """`own_uj` and the sensors' 90% bound."""
        return None if self.own_uj is None else self.own_uj + self._bound_uj

    @property
    def systematic_ratio(self) -> float:
        """The sensors' 90% bound, as a ratio of `own_uj`; of the worst device where nothing was used."""
        if not self.own_uj:
            return max((one.systematic_ratio for one in self.devices), default=0.0)
        return self._bound_uj / self.own_uj

    @property
    def provenance(self) -> Provenance | None:
        """The weakest provenance among the devices: a sum is only as good as its worst part."""
        order = list(Provenance)
        return max((one.provenance for one in self.devices), key=order.index, default=None)

    @property
    def _bound_uj(self) -> int:
        return round(sum(one.own_uj * one.systematic_ratio for one in self.devices))


class InProcess(Protocol):
    """What measures inside a process (`inferwatt.inprocess`). Called from any of the host's threads."""

    lacks: tuple[Lack, ...]

    def start(self) -> None:
        """Begin the window."""
        ...

    def stop(self) -> None:
        """End the window: what was submitted becomes final."""
        ...

    def submit(self, request: Request, /) -> None:
        """Take a state of a request: when it opens, at its first token, and when it has ended."""
        ...

    def energy(self, request: str, /) -> RequestEnergy | None:
        """Return the joules of a request so far."""
        ...

    def totals(self) -> "tuple[DeviceTotal, ...]":
        """Return the window's devices so far; whole once it has ended."""
        ...


class Meter:
    """Samples in the process itself from the start of its `with` to the end: this process against all others.

    Where nothing can be measured, `energy().lacks` says what is missing, and the host's code runs as ever.
    """

    def __init__(self, build: Callable[[int], InProcess]) -> None:
        self._build = build
        self._sink = _MeterSink()
        self._names = itertools.count(1)
        self._problem = "the meter was not started"
        self._start_ns = self._end_ns = 0

    def __enter__(self) -> "Meter":
        try:
            inside = self._build(os.getpid())
            self._start_ns = time.monotonic_ns()
            inside.start()
            self._sink.inside = inside
        except Exception as exc:  # noqa: BLE001 - nothing of ours may hurt the host
            self._problem = f"the meter could not start: {exc}"
            self._sink.note(self._problem)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._sink.attempt(lambda inside: inside.stop())
        self._end_ns = time.monotonic_ns()
        self._sink.over = True

    async def __aenter__(self) -> "Meter":
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.__exit__(kind, exc, trace)

    def request(
        self,
        *,
        model: str = "",
        tenant: str = "",
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
        engine: str = "",
    ) -> RequestHandle:
        """Return a handle on one call inside the window, as `inferwatt.request` does."""
        handle = RequestHandle(self._sink, str(next(self._names)), model, tenant, engine, tags)
        if request_id is not None:
            handle.response_id = request_id
        return handle

    def energy(self) -> MeterEnergy:
        """Return the window's energy: all devices, and this process's share of them."""
        inside = self._sink.inside
        totals = self._sink.attempt(lambda inside: inside.totals())
        if inside is None or totals is None:
            return MeterEnergy(lacks=(Lack(self._problem, where="this process", fix="inferwatt sources"),))
        devices = tuple(_device_energy(total) for total in totals)
        end_ns = self._end_ns or time.monotonic_ns()
        return MeterEnergy(devices, end_ns - self._start_ns, tuple(inside.lacks))


def _device_energy(total: "DeviceTotal") -> DeviceEnergy:
    kind = total.device
    figures = (total.measured_uj, total.own_uj, kind.systematic_ratio)
    return DeviceEnergy(kind.device, kind.component, kind.provenance, *figures)


class _MeterSink:
    """Where the handles of one meter tell what happens."""

    def __init__(self) -> None:
        self.producer = f"meter-{os.getpid()}"
        self.inside: InProcess | None = None
        self.over = False
        self._noted: set[str] = set()

    def attempt(self, ask: Callable[[InProcess], _Found]) -> _Found | None:
        """Return what `ask` finds, None where there is no meter or it stumbles."""
        if self.inside is None:
            return None
        try:
            return ask(self.inside)
        except Exception as exc:  # noqa: BLE001 - nothing of ours may hurt the host
            self.note(f"the meter stumbled: {exc!r}")
            return None

    def changed(self, handle: RequestHandle) -> None:
        """Hand its state to the meter."""
        self.attempt(lambda inside: inside.submit(handle.record()))

    ended = changed

    def note(self, problem: str) -> None:
        """Log it once."""
        if problem not in self._noted:
            self._noted.add(problem)
            logging.getLogger("inferwatt").warning("inferwatt: %s", problem)

    def may_come(self, handle: RequestHandle) -> bool:
        """Whether final joules can still come: not without a meter, nor after its end."""
        last = self.energy(handle, None)
        return self.inside is not None and not self.over and not (last is not None and last.final)

    def energy(self, handle: RequestHandle, wait_seconds: float | None) -> RequestEnergy | None:
        """Return its joules so far, or within `wait_seconds` the final ones."""
        give_up = time.monotonic() + (wait_seconds or 0)
        handle.last_energy = self.attempt(lambda inside: inside.energy(handle.name))
        while wait_seconds is not None and time.monotonic() < give_up and self.may_come(handle):
            time.sleep(POLL_SECONDS)
        return handle.last_energy
