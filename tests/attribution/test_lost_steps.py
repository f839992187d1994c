"""Where the steps of a stretch of time never came, requests that were answered in it are known by their own times."""

import pytest

from inferwatt.attribution.attributor import Attributor
from inferwatt.records import Device, Engine, Model, Phase, Reading, Request, RequestEnergy, Step, Tier

MS = 1_000_000
SECOND = 1_000 * MS
STEP_NS = 20 * MS
WATTS = 200


def energies(lost: range, *, is_told: bool = True) -> tuple[dict[str, RequestEnergy], dict[str, int]]:
    """Return what two requests and the accounts got of 10 s at 200 W, worked through but for the first and last second.

    The steps of the seconds that are `lost` are not told; `is_told` says whether they may still come.
    """
    attributor = Attributor()
    attributor.add_device(Device("gpu-0", max_watts=1000.0, idle_watts=50.0))
    attributor.add_model(Model("m", 1e9, 2e9, 1e5, 1e5))
    attributor.add_engine(Engine("e", "m", ("gpu-0",)), is_told=is_told)
    for name in "ab":
        end_ns = (8 if name == "a" else 9) * SECOND
        attributor.feed(Request(name, "e", "m", name, SECOND, SECOND + 20 * MS, end_ns, 10, 0, 400))
    for t_ns in range(SECOND, 9 * SECOND, STEP_NS):
        if t_ns // SECOND not in lost:
            members = tuple((name, 1, 10, Phase.DECODE) for name in ("ab" if t_ns < 8 * SECOND else "b"))
            attributor.feed(Step(t_ns, t_ns + STEP_NS, "e", members))
    got: dict[str, RequestEnergy] = {}
    for t_ns in range(0, 10 * SECOND + 1, 50 * MS):
        attributor.feed(Reading(t_ns, "gpu-0", WATTS * t_ns // 1000))
        got |= {record.request: energy for record, energy in attributor.advance(t_ns).requests}
    got |= {record.request: energy for record, energy in attributor.advance(10 * SECOND, last=True).requests}
    return got, attributor.devices["gpu-0"].accounts()


def test_what_was_answered_without_a_step_is_no_idle_energy() -> None:
    """Two seconds of steps are lost: the joules of who was answered in them are almost as with them, and their tier."""
    whole, _ = energies(range(0))
    holed, accounts = energies(range(4, 6))

    assert holed["a"].energy_uj == pytest.approx(whole["a"].energy_uj, rel=0.01)
    assert accounts["idle_resident"] == pytest.approx(2 * WATTS * 1e6, rel=0.1)
    assert {energy.tier for energy in whole.values()} == {Tier.STEP_EXACT}
    assert {energy.tier for energy in holed.values()} == {Tier.STEP_RECONSTRUCTED}


def test_steps_that_may_come_late_are_waited_for() -> None:
    """In a live meter what the device used meanwhile is nobody's work until a step says otherwise."""
    _, accounts = energies(range(4, 6), is_told=False)

    assert accounts["idle_resident"] == pytest.approx(4 * WATTS * 1e6, rel=0.1)
