"""A source whose device goes by another name: two drivers may both call their first GPU ``gpu-0``."""

from dataclasses import replace
from typing import TYPE_CHECKING

from inferwatt.records import Device, Reading

if TYPE_CHECKING:
    from inferwatt.sources import Said, Source


class Renamed:
    """Reads as `source` does, and says `device` in each record."""

    def __init__(self, source: "Source", device: Device) -> None:
        self._source = source
        self.device = device

    @property
    def name(self) -> str:
        """Return which kind of source this is."""
        return self._source.name

    @property
    def period_ns(self) -> int:
        """Return the shortest time between two reads that can differ, nanoseconds."""
        return self._source.period_ns

    @property
    def poll_ns(self) -> int:
        """Return how often a slow source asks, nanoseconds; of any other its period."""
        poll_ns: int = getattr(self._source, "poll_ns", self._source.period_ns)
        return poll_ns

    def read(self, now_ns: int) -> "Said":
        """Return what the source says at `now_ns`, under the other name; raises what it raises."""
        said = self._source.read(now_ns)
        if isinstance(said, Reading):
            return replace(said, device=self.device.device)
        if said is None:
            return None
        return tuple(replace(record, device=self.device.device) for record in said)

    def close(self) -> None:
        """Close the source; a second call does nothing."""
        self._source.close()
