"""One AMD GPU read from the kernel's own files, where AMD's library is not there.

hwmon (``Documentation/hwmon/sysfs-interface.rst``; amdgpu's part in ``pm/amdgpu_pm.c``): ``power1_average`` or
``power1_input`` in µW, ``energy1_input`` in µJ where a driver has it (amdgpu has none), ``temp2_input`` (hot spot) or
``temp1_input`` in m°C, ``freq1_input`` in Hz, ``power1_cap`` in µW; beside it ``gpu_busy_percent``. Everybody may read
them. A GPU that is being reset or is asleep answers EPERM or EBUSY: that read is lost, and the next may work.
"""

import errno
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Condition, Device, Provenance, Reading
from inferwatt.sources import Said
from inferwatt.sources.amdgpu_beside import Beside, Die, Kfd
from inferwatt.sources.amdgpu_cards import MI300A, Card, decimal
from inferwatt.sources.amdsmi_status import NONE_NEEDED

PERIOD_NS = 50_000_000
"""A power in between is not worth more reads: the sensor itself averages."""
SENSORS = ("energy1_input", "power1_average", "power1_input")
"""Best first."""
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO})


class SysfsGpu:
    """One power sensor: a GPU, or the two dies of an MI250."""

    name = "amdsmi"
    period_ns = PERIOD_NS

    def __init__(self, device: str, cards: Sequence[Card], sensor: Path, kfd: Kfd) -> None:
        """Take what `discover` found: the dies, the one with the sensor first, the file to read, and who holds them."""
        card = cards[0]
        self._hwmon = sensor.parent
        self._sensor = sensor
        self._counts = sensor.name.startswith("energy")
        model = card.product
        self.device = Device(
            device=device,
            kind=f"{model} (both dies)" if len(cards) > 1 else model,
            domain="module" if card.chip in MI300A else "gpu",
            provenance=Provenance.MEASURED if self._counts else Provenance.SAMPLED,
            max_watts=_watts(self._hwmon / "power1_cap_max"),
            vendor="AMD",
            model=model,
            driver=card.driver,
            uuid=card.uuid,
            source=self.name,
        )
        self._device = device
        dies = [Die(kfd.gpu_ids(die), partial(_utilization_ratio, die.folder / "gpu_busy_percent")) for die in cards]
        self._beside = Beside(device, dies, kfd, self._condition)

    def read(self, now_ns: int) -> Said:
        """Return the power (or the counter) at `now_ns`, and what else is due.

        Raises:
            SourceRetry: the GPU is asleep or being reset, or the text is not a number.
            SourceGone: its files are gone.
        """
        value = self._value()
        if self._counts:
            reading = Reading(now_ns, self._device, value)
        else:
            reading = Reading(now_ns, self._device, power_mw=(value + 500) // 1000)
        beside = self._beside.due(now_ns)
        return (reading, *beside) if beside else reading

    def close(self) -> None:
        """Nothing is held open."""

    def _value(self) -> int:
        try:
            value = int(self._sensor.read_text())
        except ValueError as exc:
            raise self._retry("its text is not a number") from exc
        except OSError as exc:
            if exc.errno in _GONE:
                what = f"the power sensor of {self._device} is gone"
                raise SourceGone(what, where=self._sensor, fix="none needed: looked for every 10 s") from exc
            raise self._retry(exc.strerror or str(exc)) from exc
        if value < 0:
            raise self._retry("it says less than nothing")
        return value

    def _retry(self, why: str) -> SourceRetry:
        what = f"cannot read the power sensor of {self._device}: {why}"
        return SourceRetry(what, where=self._sensor, fix=NONE_NEEDED)

    def _condition(self, now_ns: int) -> Condition:
        hot = decimal(self._hwmon / "temp2_input") or decimal(self._hwmon / "temp1_input")
        clock = decimal(self._hwmon / "freq1_input")
        return Condition(
            now_ns,
            self._device,
            clock_hertz=None if clock is None else float(clock),
            temperature_celsius=hot / 1000 if hot else None,
            power_limit_watts=_watts(self._hwmon / "power1_cap"),
        )


def sensor_of(card: Card) -> Path | None:
    """Return the best file that says its power or energy now; None where there is none, or it says 0."""
    if card.hwmon is None:
        return None
    return next((file for file in (card.hwmon / name for name in SENSORS) if (decimal(file) or 0) > 0), None)


def _watts(file: Path) -> float | None:
    microwatts = decimal(file)
    return microwatts / 1e6 if microwatts else None


def _utilization_ratio(file: Path) -> float | None:
    percent = decimal(file)
    return percent / 100 if percent is not None and 0 <= percent <= 100 else None
