"""How the devices are beside their energy: gauges of the newest word, throttled time, and changes of the cap. Pure."""

from collections.abc import Callable, Mapping

from inferwatt.attribution.timeline import Timeline
from inferwatt.books import Books
from inferwatt.records import Condition, Event, EventKind
from inferwatt.residual import OVERHEAD
from inferwatt.units import NS_PER_SECOND

_GAUGES = (
    ("inferwatt_device_utilization_ratio", "utilization_ratio"),
    ("inferwatt_device_clock_hertz", "clock_hertz"),
    ("inferwatt_device_temperature_celsius", "temperature_celsius"),
    ("inferwatt_device_power_limit_watts", "power_limit_watts"),
)


class Conditions:
    """Writes what sources say of their devices into the books; a changed power limit is handed to `feed`."""

    def __init__(self, books: Books, feed: Callable[[Event], object]) -> None:
        self._books = books
        self._feed = feed
        self._limits: dict[str, float] = {}
        self._throttled_ns: dict[tuple[str, str], int] = {}

    def take(self, said: Condition | Event) -> None:
        """Show how a device is now; an event is fed, and a device that is gone shows nothing any more."""
        if isinstance(said, Condition):
            self._show(said)
            return
        if said.kind is EventKind.DEVICE_GONE:
            self.gone(said.device)
        self._feed(said)

    def _show(self, condition: Condition) -> None:
        device = condition.device
        for metric, name in _GAUGES:
            value = getattr(condition, name)
            if value is not None:
                self._books.gauge(metric, (device,), value)
        for reason, throttled_ns in condition.throttled_ns.items():
            # what was throttled before the first look is not ours to count
            gained_ns = throttled_ns - self._throttled_ns.get((device, reason), throttled_ns)
            self._throttled_ns[device, reason] = throttled_ns
            if gained_ns >= 0:
                self._books.add("inferwatt_device_throttled_seconds_total", (device, reason), gained_ns)
        if condition.power_limit_watts is not None:
            self._limit(condition.t_ns, device, condition.power_limit_watts)

    def _limit(self, t_ns: int, device: str, limit_watts: float) -> None:
        before_watts = self._limits.get(device, limit_watts)
        self._limits[device] = limit_watts
        if limit_watts != before_watts:
            detail = f"power limit {before_watts:g} W to {limit_watts:g} W"
            self._feed(Event(t_ns, EventKind.REGIME, device, detail=detail))

    def gone(self, device: str) -> None:
        """Drop the gauges of a device that is gone: an unknown is absent."""
        for metric, _ in _GAUGES:
            self._books.values.get(metric, {}).pop((device,), None)


def courses(books: Books, timelines: Mapping[str, Timeline]) -> None:
    """Show how the devices' counters move, and what was used in their gaps."""
    for name, timeline in timelines.items():
        device = timeline.device
        labels = (name, device.domain, device.provenance.value)
        books.count_to("inferwatt_device_bridged_energy_joules_total", labels, timeline.bridged_uj)
        if device.domain == OVERHEAD:
            books.count_to("inferwatt_device_events_total", (name, EventKind.NEGATIVE_RESIDUAL.value), 0)
        if timeline.period_ns:
            period_seconds = timeline.period_ns / NS_PER_SECOND
            books.gauge("inferwatt_device_update_period_seconds", (name,), round(period_seconds, 4))
