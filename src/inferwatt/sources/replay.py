"""Recorded readings from memory, in real time: what benchmarks and demonstrations sample instead of hardware."""

from collections.abc import Sequence

from inferwatt.records import Device, Reading


class ReplaySource:
    """Play points (t_ns, counter_uj) from the moment of the first read on, over and over; the counter never falls."""

    name = "replay"

    def __init__(self, device: Device, points: Sequence[tuple[int, int]], *, period_ns: int = 0) -> None:
        """Take the points, times and counters not falling, at least two of them with different times.

        Raises:
            ValueError: fewer than two points, or no time between the first and the last.
        """
        if len(points) < 2 or points[-1][0] <= points[0][0]:
            raise ValueError("a replay needs two points at least, and time between them")
        self.device = device
        self.period_ns = period_ns
        self._points = points
        self._span_ns = points[-1][0] - points[0][0]
        self._span_uj = points[-1][1] - points[0][1]
        self._origin_ns: int | None = None
        self._base_uj = 0
        self._at = 0

    def read(self, now_ns: int) -> Reading:
        """Return the last recorded counter that is not after `now_ns`."""
        if self._origin_ns is None:
            self._origin_ns = now_ns - self._points[0][0]
        recorded_ns = now_ns - self._origin_ns
        points, at, last = self._points, self._at, len(self._points) - 1
        while True:
            while at < last and points[at + 1][0] <= recorded_ns:
                at += 1
            if at < last:
                break
            self._origin_ns += self._span_ns
            self._base_uj += self._span_uj
            recorded_ns -= self._span_ns
            at = 0
        self._at = at
        return Reading(now_ns, self.device.device, self._base_uj + points[at][1])

    def close(self) -> None:
        """Nothing to close."""
