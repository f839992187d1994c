"""What a device uses when nobody works: learnt from its quiet ticks. Pure."""

from math import inf, isfinite

from inferwatt.records import Device

_GAIN = 0.05
_SETTLE_NS = 500_000_000
"""Clocks and voltage stay up for a moment after work: ticks sooner than this after it teach nothing."""
_FORGET = 0.999
_MIN_VARIANCE = 1e-4


class IdlePower:
    """The idle power of a device without a view of its processes (a GPU): learnt from ticks without work."""

    def __init__(self, device: Device) -> None:
        self._given = device.idle_watts is not None
        self._watts = device.idle_watts
        self._supposed_watts: float | None = None
        self._last_work_ns: int | None = None

    @property
    def watts(self) -> float | None:
        """The idle power, watts; None while no quiet tick was seen and none is supposed."""
        return self._supposed_watts if self._watts is None else self._watts

    def suppose(self, power_watts: float | None) -> None:
        """Take the idle power of another time, until a quiet tick tells it."""
        if power_watts is not None and isfinite(power_watts) and power_watts >= 0:
            self._supposed_watts = power_watts

    def forget(self, before_watts: float | None) -> None:
        """Take back what was learnt from ticks that were not quiet: it was `before_watts` before them."""
        if not self._given and self._watts is not None and self._watts > (before_watts or 0.0):
            self._watts = before_watts

    def worked(self, until_ns: int) -> None:
        """Note that work ran until `until_ns`."""
        self._last_work_ns = until_ns

    def quiet(self, t0_ns: int, power_watts: float) -> None:
        """Learn from a tick that began at `t0_ns` in which nothing ran."""
        settled = self._last_work_ns is None or t0_ns - self._last_work_ns >= _SETTLE_NS
        if self._given or not settled:
            return
        self._watts = power_watts if self._watts is None else self._watts + _GAIN * (power_watts - self._watts)


class BaselinePower:
    """The baseline of a device whose use by processes is known (a CPU): the power at zero use, by a straight line.

    power = baseline + slope * used, by least squares with forgetting; where the use never varies the line cannot be
    told, and the lowest power seen stands for it.
    """

    def __init__(self, device: Device) -> None:
        self._given_watts = device.idle_watts
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)  # weight, x, y, xx, xy
        self._lowest_watts = inf

    def learn(self, used_ratio: float, power_watts: float) -> None:
        """Learn from one tick: the part of the capacity that was used, and the mean power."""
        if self._given_watts is not None:
            return
        self._lowest_watts = min(self._lowest_watts, power_watts)
        x, y = used_ratio, power_watts
        weight, sum_x, sum_y, xx, xy = self._sums
        self._sums = (
            weight * _FORGET + 1.0,
            sum_x * _FORGET + x,
            sum_y * _FORGET + y,
            xx * _FORGET + x * x,
            xy * _FORGET + x * y,
        )

    @property
    def watts(self) -> float:
        """The baseline power, watts; 0 before the first tick."""
        if self._given_watts is not None:
            return self._given_watts
        weight, x, y, xx, xy = self._sums
        if weight == 0:
            return 0.0
        variance = xx / weight - (x / weight) ** 2
        if variance < _MIN_VARIANCE:
            return self._lowest_watts
        slope = (xy / weight - x * y / weight**2) / variance
        return min(max(y / weight - slope * x / weight, 0.0), self._lowest_watts)
