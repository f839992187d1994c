"""Conditions: what is shown of a device beside its energy."""

from inferwatt.attribution.timeline import Timeline
from inferwatt.books import Books
from inferwatt.conditions import Conditions, courses
from inferwatt.records import Condition, Device, Event, EventKind, Reading

SECOND_NS = 10**9


def test_what_a_device_says_is_shown_and_what_it_does_not_say_is_absent() -> None:
    """A field that is None makes no series, and a device that is gone loses its own."""
    books, events = Books(), list[Event]()
    conditions = Conditions(books, events.append)

    conditions.take(Condition(0, "gpu-0", utilization_ratio=0.5, temperature_celsius=61.0))

    assert books.values["inferwatt_device_utilization_ratio"] == {("gpu-0",): 0.5}
    assert books.values["inferwatt_device_temperature_celsius"] == {("gpu-0",): 61.0}
    assert "inferwatt_device_clock_hertz" not in books.values

    conditions.gone("gpu-0")

    assert books.values["inferwatt_device_utilization_ratio"] == {}


def test_throttled_time_counts_from_the_first_look() -> None:
    """What was throttled before the agent started is not counted, nor is a counter that began anew."""
    books, events = Books(), list[Event]()
    conditions = Conditions(books, events.append)
    for t_ns, throttled_ns in ((0, 900 * SECOND_NS), (1, 902 * SECOND_NS), (2, 0), (3, SECOND_NS)):
        conditions.take(Condition(t_ns, "gpu-0", throttled_ns={"power": throttled_ns}))

    assert books.values["inferwatt_device_throttled_seconds_total"] == {("gpu-0", "power"): 3 * SECOND_NS}


def test_a_changed_power_limit_begins_a_regime() -> None:
    """The first limit is no change; the second names both."""
    events: list[Event] = []
    conditions = Conditions(Books(), events.append)

    for t_ns, limit_watts in ((0, 700.0), (1, 700.0), (2, 500.0)):
        conditions.take(Condition(t_ns, "gpu-0", power_limit_watts=limit_watts))

    assert events == [Event(2, EventKind.REGIME, "gpu-0", detail="power limit 700 W to 500 W")]


def test_what_was_used_in_a_gap_is_counted_and_how_often_a_counter_moves_is_shown() -> None:
    """Reads that failed leave their joules in the sum, marked; a counter of 100 ms is seen as one."""
    books = Books()
    timeline = Timeline(Device("gpu-0"))
    for poll in range(400):
        t_ns = poll * SECOND_NS // 50
        if 200 <= poll < 250:
            timeline.failed(Event(t_ns, EventKind.READ_FAILURE, "gpu-0"))
        else:
            timeline.add(Reading(t_ns, "gpu-0", poll // 5 * 30_000_000))
    courses(books, {"gpu-0": timeline})

    [bridged_uj] = books.values["inferwatt_device_bridged_energy_joules_total"].values()
    assert 300_000_000 <= bridged_uj <= 360_000_000
    assert books.values["inferwatt_device_update_period_seconds"] == {("gpu-0",): 0.1}
