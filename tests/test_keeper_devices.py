"""What the desk shows of devices beside their energy."""

from inferwatt.records import Condition, Event, EventKind
from tests.desk import Desk

GAUGE = "inferwatt_device_temperature_celsius"


def test_a_device_that_is_gone_shows_no_gauge_any_more() -> None:
    """Its temperature of before is no temperature; once it is back it is shown again."""
    desk = Desk()
    for item, shown in (
        (Condition(desk.now, "gpu-0", temperature_celsius=61.0), {("gpu-0",): 61.0}),
        (Event(desk.now, EventKind.DEVICE_GONE, "gpu-0"), {}),
        (Condition(desk.now, "gpu-0", temperature_celsius=40.0), {("gpu-0",): 40.0}),
    ):
        desk.keeper.put(item)
        desk.live(2)
        assert desk.shown(GAUGE) == shown
