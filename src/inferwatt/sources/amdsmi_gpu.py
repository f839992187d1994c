"""One AMD GPU read by AMD's library: its energy accumulator, or its power where it has none that can be trusted."""

from collections.abc import Sequence
from functools import partial

from inferwatt.errors import InferwattError, SourceGone, SourceRetry
from inferwatt.records import Condition, Device, Event, EventKind, Provenance, Reading
from inferwatt.sources import Emitted, Said
from inferwatt.sources.amdgpu_beside import Beside, Die, Kfd
from inferwatt.sources.amdgpu_cards import MI300A, Card
from inferwatt.sources.amdsmi_binding import AmdSmi, Handle, Handles
from inferwatt.sources.amdsmi_counter import CounterCheck, counter_uj
from inferwatt.sources.amdsmi_status import LOAD, NONE_NEEDED

PERIOD_NS = 10_000_000
"""Each read asks the GPU's firmware; its own period on real hardware is not measured yet."""


class AmdGpu:
    """One power sensor: a GPU, with all its partitions, or the two dies of an MI250.

    The energy is that of the first partition and of the primary die: the others show none.
    """

    name = "amdsmi"
    period_ns = PERIOD_NS

    def __init__(
        self, library: AmdSmi, device: str, cards: Sequence[Card], handles: Sequence[Handle], kfd: Kfd, *, counted: bool
    ) -> None:
        """Take what `discover` found; the library is open.

        Args:
            library: AMD's.
            device: the device's name.
            cards: the dies, the one with the sensor first.
            handles: one for each die.
            kfd: who holds them.
            counted: read the energy accumulator, not the power.
        """
        self.busy = False
        self.places: Sequence[str] = tuple(card.place for card in cards)
        self._smi = library
        self._handles: list[Handle | None] = list(handles)
        self._counted = counted
        self._check = CounterCheck()
        self.device = _described(library, device, cards, handles[0], counted)
        self._device = device
        dies = [Die(kfd.gpu_ids(card), partial(self._utilization, number)) for number, card in enumerate(cards)]
        self._beside = Beside(device, dies, kfd, self._condition)
        self._is_open = True
        library.join(self)

    def read(self, now_ns: int) -> Said:
        """Return the counter or the power at `now_ns`, and what else is due.

        Raises:
            SourceRetry: the driver has no value now.
            SourceGone: the GPU or its driver is gone.
        """
        self.busy = True
        try:
            handle = self._handles[0]
            if handle is None:
                what = f"{self._device} is not shown by AMD's library any more"
                raise SourceGone(what, where="libamd_smi.so", fix=LOAD)
            return self._said(now_ns, handle)
        finally:
            self.busy = False

    def close(self) -> None:
        """Let go of the library; a second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._smi.leave(self)

    def rebind(self, handles: Handles) -> None:
        """Take new handles of the same GPU: the library was initialised anew. A lost one is told by the next read."""
        self._handles = [next(iter(handles.get(place, ())), None) for place in self.places]

    def _said(self, now_ns: int, handle: Handle) -> Said:
        reading = self._reading(now_ns, handle)
        beside = self._beside.due(now_ns)
        if not beside:
            return reading
        said: tuple[Emitted, ...] = (reading, *beside)
        if reading.counter_uj is not None and any(isinstance(record, Condition) for record in beside):
            wrong = self._check.add(now_ns, reading.counter_uj, power_mw_of(self._smi, handle))
            if wrong:
                said = (*said, Event(now_ns, EventKind.READ_FAILURE, self._device, detail=f"{wrong}: {_USE_POWER}"))
        return said

    def _reading(self, now_ns: int, handle: Handle) -> Reading:
        if self._counted:
            value = counter_uj(*self._smi.energy(handle))
            if value is not None:
                return Reading(now_ns, self._device, value)
        else:
            value = self._smi.power_mw(handle)
            if value is not None:
                return Reading(now_ns, self._device, power_mw=value)
        what = "energy counter" if self._counted else "power sensor"
        raise SourceRetry(f"the {what} of {self._device} has no value now", where="libamd_smi.so", fix=NONE_NEEDED)

    def _utilization(self, number: int) -> float | None:
        handle = self._handles[number]
        return None if handle is None else self._smi.utilization_ratio(handle)

    def _condition(self, now_ns: int) -> Condition:
        handle = self._handles[0]
        return Condition(
            now_ns,
            self._device,
            clock_hertz=self._smi.clock_hertz(handle),
            temperature_celsius=self._smi.temperature_celsius(handle),
            power_limit_watts=self._smi.power_limits_watts(handle)[0],
        )


def power_mw_of(library: AmdSmi, handle: Handle) -> int | None:
    """Return the socket's power, None where the library does not tell it."""
    try:
        return library.power_mw(handle)
    except InferwattError:
        return None


_USE_POWER = "set sources.amdsmi.use_counter = false to sum up its power instead"


def _described(library: AmdSmi, device: str, cards: Sequence[Card], handle: Handle, counted: bool) -> Device:
    card = cards[0]
    product, uuid = library.identity(handle)
    model = product or card.product
    return Device(
        device=device,
        kind=f"{model} (both dies)" if len(cards) > 1 else model,
        domain="module" if card.chip in MI300A else "gpu",
        provenance=Provenance.MEASURED if counted else Provenance.SAMPLED,
        max_watts=library.power_limits_watts(handle)[1],
        vendor="AMD",
        model=model,
        driver=library.driver(handle),
        uuid=uuid or card.uuid,
        source=AmdGpu.name,
    )
