from inferwatt.gaps import Gaps
from inferwatt.ledger.rows import DeviceState
from inferwatt.records import Device, Event, EventKind, Provenance, Reading

SECOND = 1_000_000_000
BEFORE = DeviceState("gpu-0", "boot", 1000, SECOND, None)


def test_a_counter_that_went_on_is_bridged_once() -> None:
    """The first reading comes after what the last agent saw, marked as a gap; the second comes alone."""
    gaps = Gaps("boot", {"gpu-0": BEFORE})
    first, second = Reading(3 * SECOND, "gpu-0", 5000), Reading(4 * SECOND, "gpu-0", 6000)

    assert gaps.before(first) == (
        Reading(SECOND, "gpu-0", 1000),
        Event(3 * SECOND, EventKind.READ_FAILURE, "gpu-0", detail="no agent ran"),
    )
    assert gaps.before(second) == ()


def test_another_boot_is_not_bridged() -> None:
    """Counters and clocks of another boot say nothing of this one."""
    reading = Reading(3 * SECOND, "gpu-0", 5000)

    assert Gaps("new boot", {"gpu-0": BEFORE}).before(reading) == ()


def test_a_gap_that_could_hide_a_turn_is_not_bridged() -> None:
    """A wrapping counter may have turned unseen in a long gap: then the gap is not known."""
    before = DeviceState("cpu-0", "boot", 1000, SECOND, 60_000_000)
    soon, late = Reading(SECOND + SECOND // 100, "cpu-0", 2000), Reading(2 * SECOND, "cpu-0", 2000)

    assert len(Gaps("boot", {"cpu-0": before}).before(soon)) == 2
    assert Gaps("boot", {"cpu-0": before}).before(late) == ()


def test_only_counters_that_outlive_the_agent_are_remembered() -> None:
    """A modelled counter begins anew with each agent; what is remembered is what is booked, not what was read."""
    gaps = Gaps("boot", {})
    for reading in (Reading(1, "gpu-0", 7, wraps_at_uj=100), Reading(2, "cpu", 8)):
        gaps.before(reading)
    devices = {"gpu-0": Device("gpu-0"), "cpu": Device("cpu", provenance=Provenance.MODELLED)}
    closed = {"gpu-0": (0, 5), "cpu": (0, 6), "gone": (0, 1)}

    assert gaps.states(devices, closed) == [DeviceState("gpu-0", "boot", 5, 0, 100)]
