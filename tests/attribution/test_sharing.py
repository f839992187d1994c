"""Ticks that are shared with processes that we do not meter, and with work that nobody recorded."""

import pytest

from inferwatt.records import Activity, Component, Device, Engine, Provenance, Sums
from tests.attribution.test_attributor import SECOND, UJ, meter, request, run


def cpu(*, idle_watts: float) -> Device:
    """Return a modelled CPU."""
    return Device(
        "cpu",
        domain="package",
        component=Component.CPU,
        provenance=Provenance.MODELLED,
        idle_watts=idle_watts,
    )


def test_a_shared_cpu_is_split_by_who_held_it() -> None:
    """The baseline goes by capacity held, what is above it by use; unused capacity is the resident model's idle."""
    attributor = meter(cpu(idle_watts=10.0), engines=[Engine("e0", "m", ("cpu",))])
    attributor.request(request("r", 0, 4, first=0.1))
    attributor.activity(Activity(0, 4 * SECOND, "cpu", {"e0": 0.5}, other_ratio=0.25))

    energy = run(attributor, 4, lambda _: 40.0, "cpu")["r"]

    totals = attributor.devices["cpu"]
    assert energy.energy_uj == pytest.approx(4 * (10 * 0.5 + 30 * 2 / 3) * UJ, rel=0.001)
    assert totals.other_uj == pytest.approx(4 * (10 * 0.25 + 30 / 3) * UJ, rel=0.001)
    assert totals.idle_resident_uj == pytest.approx(4 * 10 * 0.25 * UJ, rel=0.001)


def test_a_server_that_works_without_a_record_is_unlisted() -> None:
    """Work that only the server's own page knows goes to its model, as unlisted."""
    attributor = meter(cpu(idle_watts=0.0), engines=[Engine("e0", "m", ("cpu",))])
    attributor.activity(Activity(0, 4 * SECOND, "cpu", {"e0": 1.0}, other_ratio=0.0))
    attributor.sums(Sums(0, 2 * SECOND, "e0", prompt_tokens=0, output_tokens=20, running=0))
    attributor.sums(Sums(2 * SECOND, 4 * SECOND, "e0", prompt_tokens=0, output_tokens=0, running=0))

    run(attributor, 4, lambda _: 30.0, "cpu")

    totals = attributor.devices["cpu"]
    assert totals.unlisted_uj == pytest.approx(60 * UJ, rel=0.01)
    assert totals.idle_resident_uj == pytest.approx(60 * UJ, rel=0.01)


def test_a_request_beside_unrecorded_ones_pays_for_itself_only() -> None:
    """Where the server runs more than the records know, scrape after scrape, the rest is unlisted."""
    attributor = meter()
    attributor.request(request("r", 0, 4, first=0.0))
    for second in range(4):
        attributor.sums(Sums(second * SECOND, (second + 1) * SECOND - 1, "e0", running=4))

    energy = run(attributor, 4, lambda _: 100.0)["r"]

    assert attributor.devices["gpu-0"].unlisted_uj == pytest.approx(3 * 75 * UJ, rel=0.05)
    assert energy.energy_uj == pytest.approx(175 * UJ, rel=0.05)


TWO = (Engine("e0", "m", ("gpu-0",)), Engine("e1", "n", ("gpu-0",)))


def test_what_other_processes_used_of_a_gpu_is_split_off_first() -> None:
    """Above idle power it goes by use: half of it was another's, a quarter nobody can be named for."""
    attributor = meter()
    attributor.activity(Activity(0, 4 * SECOND, "gpu-0", {"e0": 0.0}, other_ratio=0.0))
    attributor.request(request("r", 4, 8, first=4.0))
    attributor.activity(Activity(4 * SECOND, 8 * SECOND, "gpu-0", {"e0": 0.2}, other_ratio=0.4, unknown_ratio=0.2))

    energy = run(attributor, 8, lambda t: 100.0 if t < 4 else 300.0)["r"]

    totals = attributor.devices["gpu-0"]
    assert totals.other_uj == pytest.approx(4 * 100 * UJ, rel=0.01)
    assert totals.unattributed_uj == pytest.approx(4 * 50 * UJ, rel=0.01)
    assert totals.idle_resident_uj == pytest.approx(400 * UJ, rel=0.01)
    assert energy.energy_uj == pytest.approx(4 * 150 * UJ, rel=0.01)


def test_an_engine_that_holds_no_part_of_a_gpu_gets_none_of_it() -> None:
    """A server whose processes are not among the GPU's is not charged there, whatever it does elsewhere."""
    attributor = meter(engines=TWO)
    attributor.request(request("here", 0, 4, first=0.0))
    attributor.request(request("elsewhere", 0, 4, first=0.0, engine="e1"))
    attributor.activity(Activity(0, 4 * SECOND, "gpu-0", {"e0": 0.0}, other_ratio=0.0))

    final = run(attributor, 4, lambda _: 100.0)

    assert final["here"].energy_uj == 400 * UJ
    assert final["elsewhere"].energy_uj == 0


@pytest.mark.parametrize(("held", "expected"), [((0.6, 0.2), (300, 100)), ((0.0, 0.0), (200, 200))])
def test_two_engines_of_one_gpu_are_told_apart_by_their_use(
    held: tuple[float, float], expected: tuple[int, int]
) -> None:
    """Where both worked, each gets the part that its processes used; where their use is not told, by their work."""
    attributor = meter(engines=TWO)
    for name in ("e0", "e1"):
        attributor.request(request(name, 0, 4, first=0.0, engine=name))
    attributor.activity(Activity(0, 4 * SECOND, "gpu-0", dict(zip(("e0", "e1"), held, strict=True)), other_ratio=0.0))

    final = run(attributor, 4, lambda _: 100.0)

    assert [final[name].energy_uj / UJ for name in ("e0", "e1")] == pytest.approx(expected, rel=0.01)
