"""One AMD GPU read by AMD's library: its energy accumulator, or its power where it has none that can be trusted."""

from collections.abc import Sequence
from functools import partial

from inferwatt.errors import InferwattError, SourceRetry
from inferwatt.records import Condition, Device, Event, EventKind, Provenance, Reading
from inferwatt.sources import Emitted, Said
from inferwatt.sources.amdgpu_beside import Beside, Die, Kfd
from inferwatt.sources.amdgpu_cards import MI300A, Card
from inferwatt.sources.amdsmi_binding import AmdSmi, Handle
from inferwatt.sources.amdsmi_counter import CounterCheck, counter_uj
from inferwatt.sources.amdsmi_status import NONE_NEEDED

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
        library.open()
        self._library: AmdSmi | None = library
        self._smi = library
        self._handle = handles[0]
        self._counted = counted
        self._check = CounterCheck()
        self.device = _described(library, device, cards, self._handle, counted)
        self._device = device
        dies = [
            Die(kfd.gpu_ids(card), partial(library.utilization_ratio, handle))
            for card, handle in zip(cards, handles, strict=True)
        ]
        self._beside = Beside(device, dies, kfd, self._condition)

    def read(self, now_ns: int) -> Said:
        """Return the counter or the power at `now_ns`, and what else is due.

        Raises:
            SourceRetry: the driver has no value now.
            SourceGone: the GPU or its driver is gone.
        """
        reading = self._reading(now_ns)
        beside = self._beside.due(now_ns)
        if not beside:
            return reading
        said: tuple[Emitted, ...] = (reading, *beside)
        if reading.counter_uj is not None and any(isinstance(record, Condition) for record in beside):
            wrong = self._check.add(now_ns, reading.counter_uj, self._power_mw())
            if wrong:
                said = (*said, Event(now_ns, EventKind.READ_FAILURE, self._device, detail=f"{wrong}: {_USE_POWER}"))
        return said

    def close(self) -> None:
        """Let go of the library; a second call does nothing."""
        library, self._library = self._library, None
        if library is not None:
            library.close()

    def _reading(self, now_ns: int) -> Reading:
        if self._counted:
            value = counter_uj(*self._smi.energy(self._handle))
            if value is not None:
                return Reading(now_ns, self._device, value)
        else:
            value = self._smi.power_mw(self._handle)
            if value is not None:
                return Reading(now_ns, self._device, power_mw=value)
        what = "energy counter" if self._counted else "power sensor"
        raise SourceRetry(f"the {what} of {self._device} has no value now", where="libamd_smi.so", fix=NONE_NEEDED)

    def _power_mw(self) -> int | None:
        try:
            return self._smi.power_mw(self._handle)
        except InferwattError:
            return None

    def _condition(self, now_ns: int) -> Condition:
        return Condition(
            now_ns,
            self._device,
            clock_hertz=self._smi.clock_hertz(self._handle),
            temperature_celsius=self._smi.temperature_celsius(self._handle),
            power_limit_watts=self._smi.power_limits_watts(self._handle)[0],
        )


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
